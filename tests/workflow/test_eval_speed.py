"""`eval --speed`: timings beside the scores, on the page, and never those of another model."""

import shutil
from pathlib import Path

import pytest
from said import Say
from speed_records import LIMITS, MEMORY, times
from tiny import tiny_checkpoint

import lmtasks
from lmtasks.bench.pool import Memory, Round
from lmtasks.bench.spec import SpeedSpec
from lmtasks.report.view import view
from lmtasks.results.cell import Variant
from lmtasks.results.speed import Artefact, MachineLimits, SpeedRecord
from lmtasks.workflow.open_model import card_in
from lmtasks.workflow.report import records_of

TASK = "starter_sentiment_en"


class AtOnce:
    """Measures nothing, and says what it was asked to measure."""

    def times(self, spec: SpeedSpec) -> Round:
        (work,) = spec.workloads
        assert work.task == TASK
        made = times(spec.name)
        of_task = tuple(type(each)(**{**vars(each), "task": TASK}) for each in made.workloads)
        return made.model_copy(
            update={
                "variant": Variant.model_validate(spec.variant),
                "artefact": Artefact(weights_hash=card_in(spec.ref).weights_hash, size_bytes=1),
                "workloads": of_task,
                "loads": (),
            }
        )

    def memory(self, spec: SpeedSpec) -> Memory:
        return MEMORY

    def limits(self, *, threads: int, device: str) -> MachineLimits:
        return LIMITS


@pytest.fixture
def timed(say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("lmtasks.workflow.bench.Isolated", AtOnce)
    model = tiny_checkpoint(tmp_path / "classifier", "bert-classifier")
    out = tmp_path / "results"
    words = ("eval", "--model", model, "--model", "majority", "--tasks", TASK, "--limit", "8", "--offline")
    told = say(*words, "--speed", "--out", out)
    assert told.code == 0, told.err
    assert "examples/s" in told.out
    again = say(*words, "--out", out)  # the same question without the clock: its timings stay
    assert again.code == 0, again.err
    return out


def test_models_are_timed_and_the_page_has_it(timed: Path) -> None:
    record = SpeedRecord.read(timed / "classifier" / "speed.json")
    assert record.variant.runtime == "torch"
    assert not (timed / "majority" / "speed.json").exists()
    records = records_of([timed], name="n")
    assert set(records.speeds) == {"classifier"}
    timings = view(records).timings
    assert timings is not None
    assert "classifier" in (timed / "index.html").read_text()


def test_timings_of_other_weights_are_left_out(timed: Path) -> None:
    file = timed / "classifier" / "speed.json"
    other = SpeedRecord.read(file).model_copy(update={"artefact": Artefact(weights_hash="other", size_bytes=1)})
    other.write(file)
    assert records_of([timed], name="n").speeds == {}


def test_what_cannot_be_timed_is_said(say: Say, tmp_path: Path) -> None:
    told = say("eval", "--model", "majority", "--tasks", TASK, "--limit", "8", "--speed", "--out", tmp_path / "r")
    assert told.code == 0
    assert "note: nothing was timed: baselines are not, nor are servers or answers that are there." in told.out
    refused = say("eval", "--rescore", tmp_path / "r", "--speed")
    assert refused.code == 2
    assert "--speed is about answers that are made" in refused.sentence


def _slower(folder: Path, times_as_slow: float, **machine: object) -> None:
    """Change stored timings: so many times as slow, or of another machine."""
    record = SpeedRecord.read(folder / "speed.json")
    workloads = tuple(
        each.model_copy(
            update={
                "rounds": tuple(value / times_as_slow * (1 + place / 1000) for place, value in enumerate(each.rounds))
            }
        )
        for each in record.workloads
    )
    changed = {"workloads": workloads, "machine": {**record.machine, **machine}}
    record.model_copy(update=changed).write(folder / "speed.json")


def test_a_pull_request_fails_where_it_is_slower_on_the_same_machine_alone(
    say: Say, timed: Path, tmp_path: Path
) -> None:
    base, now = timed / "classifier", tmp_path / "now"
    shutil.copytree(base, now)
    words = ("compare", base, now, "--fail-if-slower", "5%")
    assert say(*words).code == 0
    _slower(base, 1.0)
    _slower(now, 1.2)
    told = say(*words)
    assert told.code == 3
    assert "slower than" in told.sentence
    assert "times slower than" in told.sentence
    assert say("compare", base, now, "--fail-if-slower", "30").code == 0
    (row, *_) = lmtasks.compare(base, now).speeds
    assert row.ratio.value == pytest.approx(1 / 1.2, rel=0.01)
    markdown = say("compare", base, now, "--markdown", "--fail-if-slower", "30%").out
    assert "| task | metric | n | base | this | difference | 95 % | p (Holm) | verdict |\n| --- |" in markdown
    assert "times as fast" in markdown
    _slower(now, 1.0, processor="another")
    refused = say(*words)
    assert refused.code == 2
    assert "were timed on different machines (processor" in refused.sentence
    (now / "speed.json").unlink()
    assert "has no timings; `lmtasks eval --speed`" in say(*words).sentence
    assert "--fail-if-slower must be a percentage" in say("compare", base, now, "--fail-if-slower", "much").sentence
