"""Memory that runs out on a batch: the work goes on in halves, and the person is told so in one sentence."""

from collections.abc import Callable
from pathlib import Path

import pytest
from said import Said, Say

import lmtasks.report.write
from lmtasks.runtime.memory import OutOfMemory
from lmtasks.runtime.torch.transformer import TorchRuntime

PLAN = """plan: small
tasks: [starter_sentiment_en]
variants: [{{name: prompted, model: {model}, runtime: torch}}]
limit: 4
bench: {{rows: 8, seconds: 0.05, rounds: 1, batch_size: 4}}
"""


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for no more than one row at a time."""
    score = TorchRuntime.score

    def tight(self, batch, wanted, **named):  # type: ignore[no-untyped-def]  # the runtime's own signature
        if batch.mask.shape[1] >= 8 and len(batch.mask) > 1:  # what is shorter measures what the model can share
            raise OutOfMemory("memory ran out while scoring.")
        return score(self, batch, wanted, **named)

    monkeypatch.setattr(TorchRuntime, "score", tight)
    monkeypatch.setattr(
        lmtasks.report.write, "write_report", lambda folder, **others: folder / "index.html"
    )  # takes long


def _eval(say: Say, model: Path, folder: Path) -> Said:
    line = ("eval", "--model", model, "--tasks", "starter_sentiment_en", "--limit", 4, "--cache", "off")
    return say(*line, "--out", folder / "out")


def _predict(say: Say, model: Path, _folder: Path) -> Said:
    return say("predict", "--model", model, "--tasks", "starter_sentiment_en", stdin="fine\npoor, and more so\n")


def _run(say: Say, model: Path, folder: Path) -> Said:
    (folder / "plan.yaml").write_text(PLAN.format(model=model))
    return say("run", folder / "plan.yaml", "--out", folder / "out", "--cache", "off")


@pytest.mark.parametrize("command", [_eval, _predict, pytest.param(_run, marks=pytest.mark.slow)])
@pytest.mark.usefixtures("little_memory")
def test_the_person_is_told_once(
    command: Callable[[Say, Path, Path], Said], say: Say, llama: Path, tmp_path: Path
) -> None:
    said = command(say, llama, tmp_path)
    assert said.code == 0, said.err
    lines = [line for line in said.err.splitlines() if "memory ran out" in line]
    assert len(lines) == 1
    assert lines[0].startswith("lmtasks: memory ran out on a batch of ")
    assert lines[0].endswith("A --batch-size below that avoids the detour.")
