"""`predict` on a terminal: texts are typed one after the other, and a wrong one ends nothing."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from said import Say

from lmtasks.cli.predict import _Conversation
from lmtasks.workflow.choose_tasks import TaskRequest
from lmtasks.workflow.predict import PredictRequest, open_predictor


def test_somebody_types_on_a_terminal(classifier: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "lmtasks", "predict", "--model", str(classifier), "--offline"],
        stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, text=True, env={**os.environ, "TERM": "dumb"},
    )  # fmt: skip
    os.close(theirs)
    os.write(ours, b"very good\n:quit\n")
    _, told = process.communicate(timeout=200)
    shown = b""
    while chunk := _read(ours):
        shown += chunk
    os.close(ours)
    assert process.returncode == 0, told
    assert "Type a text and press Enter; :explain, :help or :quit" in told
    answers = [line for line in shown.decode().splitlines() if line.startswith(("negative (0.", "positive (0."))]
    assert len(answers) == 1


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # Linux says so where the other end is closed
        return b""


def test_a_text_that_cannot_be_answered_is_told_and_the_next_one_is_answered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], say: Say
) -> None:
    data = tmp_path / "pairs.csv"
    data.write_text("one,two,same\n" + "".join(f"a {n},b {n % 2},{'yn'[n % 2]}\n" for n in range(40)))
    words = ("--text", "one", "--pair", "two", "--label", "same")
    assert say("new", "task", "pairs", "--data", data, *words, "--out", tmp_path / "task").code == 0
    task = str(tmp_path / "task" / "pairs.yaml")
    assert say("adapt", "--backbone", "tfidf", "--tasks", task, "--out", tmp_path / "model").code == 0
    request = PredictRequest(model=str(tmp_path / "model"), tasks=TaskRequest(tasks=task), offline=True)
    with open_predictor(request) as predictor:
        conversation = _Conversation({"model": predictor}, explained=False, as_json=False, streamed=False)
        conversation.hold(iter(['{"one": "a 1"}', "", '{"one": "a 1", "two": "b 1"}', ":explain", ":x", ":quit", "no"]))
    out, err = capsys.readouterr()
    (answer,) = out.splitlines()
    assert answer.startswith(("y (", "n ("))
    assert "two" in err
    assert ":x is no command: :explain also tells the words" in err
    assert "answers come also with the words" in err
