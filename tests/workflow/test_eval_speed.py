"""`eval --speed`: timings beside the scores, on the page, and never those of another model."""

from pathlib import Path

import pytest
from said import Say
from speed_records import LIMITS, MEMORY, times
from tiny import tiny_checkpoint

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
    assert "note: nothing was timed: baselines are not." in told.out
    refused = say("eval", "--rescore", tmp_path / "r", "--speed")
    assert refused.code == 2
    assert "--speed is about answers that are made" in refused.sentence
