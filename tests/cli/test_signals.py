"""SIGTERM ends a command as Ctrl-C does: what is done is kept, nothing half-written is left, it says how to go on."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import tiny_checkpoint

from lmtasks.cli.error_output import guarded
from lmtasks.interruption import uninterrupted

pytestmark = pytest.mark.usefixtures("signals_of_a_terminal")

LMTASKS = [sys.executable, "-m", "lmtasks"]


def started(*arguments: object, folder: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*LMTASKS, *map(str, arguments)],
        cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "LMTASKS_CACHE": str(folder / "answers")},
    )  # fmt: skip


def until(look: Callable[[], object], process: "subprocess.Popen[str]") -> None:
    end = time.monotonic() + 100
    while not look():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.slow  # two trainings in processes of their own
def test_sigterm_ends_an_adaptation_with_its_checkpoint_and_it_goes_on_from_there(tmp_path: Path) -> None:
    tiny_checkpoint(tmp_path / "backbone", "llama")
    arguments = ["adapt", "--backbone", "backbone", "--tasks", "starter_topic_en", "--out", "model"]
    with started(*arguments, "--epochs", 400, folder=tmp_path) as process:
        log = tmp_path / "model.work" / "training.jsonl"
        until(lambda: log.is_file() and log.stat().st_size > 0, process)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert err.strip().splitlines()[-1].startswith("lmtasks: ended by SIGTERM; the last checkpoint")
    assert "Traceback" not in err
    assert sorted(each.name for each in tmp_path.iterdir() if each.name.startswith("model")) == ["model.work"]
    steps = len(log.read_text().splitlines())
    with started(*arguments, "--epochs", 400, folder=tmp_path) as again:
        until(lambda: len(log.read_text().splitlines()) > steps, again)
        again.send_signal(signal.SIGKILL)
        again.communicate(timeout=60)
    assert log.read_text().startswith('{"step": 0,')  # it went on, and did not start anew


@pytest.mark.slow  # a process that loads a model
def test_sigterm_ends_predict_while_it_waits_for_a_line(tmp_path: Path) -> None:
    tiny_checkpoint(tmp_path / "model", "bert-classifier")
    with started("predict", "--model", "model", "--runtime", "torch", folder=tmp_path) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("a good film\n")
        process.stdin.flush()
        assert process.stdout.readline().strip() in ("negative", "positive")  # the pipe stays open, and is answered
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert "ended by SIGTERM" in err


def test_a_signal_waits_for_the_end_of_a_piece_of_work_and_a_second_one_does_not() -> None:
    done: list[int] = []

    def work(count: int) -> None:
        with uninterrupted() as signals:
            for number in range(count):
                signal.raise_signal(signal.SIGINT)
                assert signals.held
                done.append(number)

    with pytest.raises(KeyboardInterrupt):
        work(1)
    assert done == [0]
    with pytest.raises(KeyboardInterrupt):
        work(2)
    assert done == [0, 0]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_each_signal_has_the_code_that_shells_know(
    number: signal.Signals, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guarded(lambda: signal.raise_signal(number), command="run", debug=False) == code
    assert "finished cells are kept; the same command again" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_what_was_started_to_ignore_a_signal_still_does() -> None:
    """`nohup lmtasks ...`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert guarded(lambda: signal.raise_signal(signal.SIGHUP), command="run", debug=False) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_output_that_nobody_reads_ends_quietly_with_the_code_of_sigpipe(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([*LMTASKS, "list", "tasks"], stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")
