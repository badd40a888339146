"""`--cache`: a command that was killed goes on, and says what it did not ask again."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from said import Say

import lmtasks.bench
from lmtasks.cli.main import COMMANDS, load_command
from lmtasks.engine.engine import Engine
from lmtasks.evaluation.cache_store import count_answers
from lmtasks.workflow.open_model import default_file

TASKS = "starter_sentiment_en,starter_sentiment_zh"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many requests reach the engine, call by call."""
    counts: list[int] = []
    score = Engine.score

    def counted(self, requests, **named):  # type: ignore[no-untyped-def]
        counts.append(len(requests))
        return score(self, requests, **named)

    monkeypatch.setattr(Engine, "score", counted)
    return counts


def _scores(out: Path) -> dict[str, object]:
    """Metrics, and what the model said of every example."""
    content = json.loads((out / "results.json").read_text())
    return {
        name: (
            task["metrics"],
            [json.loads(line)["raw"] for line in (out / f"samples-{name}.jsonl").read_text().splitlines()],
        )
        for name, task in content["results"].items()
    }


def _numbers(out: Path) -> list[float]:
    """Every number of the scores."""
    found: list[float] = []
    json.loads(json.dumps(_scores(out)), parse_float=lambda digits: found.append(float(digits)))
    return found


def _cached(out: Path) -> list[int]:
    return [task["cached"] for task in json.loads((out / "results.json").read_text())["results"].values()]


def test_a_second_eval_asks_nothing(say: Say, llama: Path, llama_two: Path, tmp_path: Path, asked: list[int]) -> None:
    line = ("eval", "--tasks", "starter_sentiment_en", "--limit", 5)
    for name, cached in (("a", 0), ("b", 10)):
        said = say(*line, "--model", llama, "--out", tmp_path / name)
        assert said.code == 0, said.err
        assert _cached(tmp_path / name) == [cached]
        assert ("10 answers were known from before" in said.out) is bool(cached)
    assert sum(asked) == 10
    assert _scores(tmp_path / "a") == _scores(tmp_path / "b")
    assert default_file() == tmp_path / "answers" / "answers.sqlite"
    assert count_answers(default_file()) == 10
    say(*line, "--model", llama, "--out", tmp_path / "c", "--cache", "off")
    say(*line, "--model", llama_two, "--out", tmp_path / "d")
    assert sum(asked) == 30
    assert _scores(tmp_path / "c") == _scores(tmp_path / "a") != _scores(tmp_path / "d")


def test_other_settings_of_a_model_with_the_same_weights_ask_anew(
    say: Say, llama: Path, tmp_path: Path, asked: list[int]
) -> None:
    line = ("eval", "--tasks", "starter_sentiment_en", "--limit", 3, "--cache", tmp_path / "kept")
    say(*line, "--model", llama, "--out", tmp_path / "a")
    changed = tmp_path / "changed"
    shutil.copytree(llama, changed)
    config = json.loads((changed / "config.json").read_text())
    config["rms_norm_eps"] = 0.5
    (changed / "config.json").write_text(json.dumps(config))
    assert say(*line, "--model", changed, "--out", tmp_path / "b").code == 0
    assert sum(asked) == 12
    assert _scores(tmp_path / "a") != _scores(tmp_path / "b")


@pytest.mark.slow  # a process of its own, and three evaluations
def test_a_killed_eval_goes_on_where_it_was(say: Say, llama: Path, tmp_path: Path, asked: list[int]) -> None:
    file = tmp_path / "kept.sqlite"
    line = ("eval", "--model", str(llama), "--tasks", TASKS, "--batch-size", "1", "--cache", str(file))
    command = [sys.executable, "-m", "lmtasks", *line, "--threads", "1", "--out", str(tmp_path / "killed")]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=dict(os.environ))
    try:
        _wait_for(file, count=40, child=child)
        child.send_signal(signal.SIGKILL)
    finally:
        child.kill()
        child.wait()
    assert child.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "results.json").exists()
    known = count_answers(file)
    said = say(*line, "--out", tmp_path / "again")
    assert said.code == 0, said.err
    assert 40 <= known < count_answers(file)
    assert sum(asked) == count_answers(file) - known
    assert say(*line[:-1], "off", "--out", tmp_path / "plain").code == 0
    # What shares a row with what depends on what is asked together, and so do the last bits.
    assert _numbers(tmp_path / "again") == pytest.approx(_numbers(tmp_path / "plain"), abs=1e-4)


def _wait_for(file: Path, *, count: int, child: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        assert child.poll() is None, child.stderr.read() if child.stderr else ""
        try:
            if file.exists() and count_answers(file) >= count:
                return
        except sqlite3.Error:
            pass  # it is being made
        time.sleep(0.005)
    raise AssertionError("the evaluation never began")


def test_a_file_of_another_program_is_left_as_it_is(say: Say, llama: Path, tmp_path: Path) -> None:
    text, songs, pipe = tmp_path / "mine.csv", tmp_path / "songs.db", tmp_path / "pipe"
    text.write_text("a,b\n")
    connection = sqlite3.connect(songs)
    connection.execute("CREATE TABLE songs (name)")
    connection.commit()
    connection.close()
    os.mkfifo(pipe)
    before = sorted(each.name for each in tmp_path.iterdir()), songs.read_bytes()
    for file, what in ((text, "is no cache of lmtasks"), (songs, "is no cache of lmtasks"), (pipe, "is a pipe")):
        said = say("eval", "--model", llama, "--tasks", "starter_topic_zh", "--cache", file, "--out", tmp_path / "o")
        assert said.code == 2
        assert what in said.sentence
    assert (sorted(each.name for each in tmp_path.iterdir()), songs.read_bytes()) == before
    assert text.read_text() == "a,b\n"


def test_a_damaged_file_in_our_own_place_is_set_aside(say: Say, llama: Path, tmp_path: Path) -> None:
    default_file().parent.mkdir(parents=True, exist_ok=True)
    default_file().write_text("a,b\n")
    said = say("eval", "--model", llama, "--tasks", "starter_topic_zh", "--limit", 2, "--out", tmp_path / "o")
    assert said.code == 0, said.err
    assert "it is no SQLite file; it was renamed to answers.sqlite.damaged-1" in said.err


def test_a_cache_that_cannot_be_written_is_said_once(say: Say, llama: Path, tmp_path: Path) -> None:
    line = ("eval", "--model", llama, "--tasks", "starter_topic_zh", "--limit", 2)
    said = say(*line, "--cache", "/proc/no/answers", "--out", tmp_path / "o")
    assert said.code == 0
    assert said.err.count("the work goes on without it") == 1
    said = say(*line, "--cache", tmp_path, "--out", tmp_path / "p")
    assert (said.code, "--cache takes a file, or off" in said.sentence) == (2, True)


def test_where_speed_is_measured_there_is_no_cache() -> None:
    """`bench` takes no such option, and what it times imports none."""
    bench = Path(lmtasks.bench.__file__).parent
    words = ("evaluation.cache",)
    assert not [file.name for file in bench.glob("*.py") if any(word in file.read_text() for word in words)]
    with_cache = [name for name in COMMANDS if any(each.name == "cache" for each in load_command(name).params)]
    assert with_cache == ["try", "run", "adapt", "eval"]  # of adapt: features of a probe
