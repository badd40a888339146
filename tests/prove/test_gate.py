"""The quality gate: what rounding may cost, which layers stay in fp32 for it, and when it says no."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from packed import model_folder, package
from tiny import TEXTS

from lmtasks.errors import GateError, UsageError
from lmtasks.export.layers import rounded_layers
from lmtasks.export.package import load_package
from lmtasks.metric import make_metric
from lmtasks.prove.export import Exported, export_and_prove
from lmtasks.prove.gate import Gate, ScoredTask, sentence
from lmtasks.prove.layer_sensitivity import Probe
from lmtasks.records import Choice, Progress
from lmtasks.runtime.open import open_runtime

ROWS = tuple(tuple(np.random.default_rng(number).integers(2, 290, 12).tolist()) for number in range(40))
PROBE = Probe(rows=ROWS, head="topic")


def ignored(progress: Progress) -> None:
    """A report that nobody reads."""


def scored(right: Sequence[bool]) -> ScoredTask:
    """A task of two labels, right where it says."""
    metric = make_metric("acc")
    outcomes = [
        Choice(gold=(0,), scores=(1.0, 0.0) if each else (0.0, 1.0), chars=(1, 1), bytes=(1, 1)) for each in right
    ]
    return ScoredTask(
        task="mood", metric=metric, name="acc", statistics=metric.statistics(outcomes), clusters=None, rows="40 rows"
    )


def distance(folder: Path) -> float:
    """How far a package's answers to the rows lie from those in fp32."""
    answers = []
    for each in (package("bert"), folder):
        runtime = open_runtime(each, runtime="onnx", threads=1)
        batch = np.array(ROWS)
        from lmtasks.records import TokenBatch

        answers.append(runtime.predict("topic", TokenBatch(ids=batch, mask=np.ones(batch.shape, dtype=np.bool_))))
        runtime.close()
    return float(np.abs(answers[0] - answers[1]).mean())


def exported(out: Path, score: "object", *, most: float = 1.0, precision: str = "int8") -> Exported:
    gate = Gate(most=most, score=score, probes=lambda folder: (PROBE,))  # type: ignore[arg-type]
    return export_and_prove(
        model_folder("bert"),
        out=out,
        precision=precision,
        texts=TEXTS,
        report=ignored,
        base=package("bert"),
        threads=1,
        gate=gate,
    )


def test_a_gate_that_holds_is_recorded(tmp_path: Path) -> None:
    made = exported(tmp_path / "package", lambda folder: (scored([True] * 40),), most=10)
    found = load_package(tmp_path / "package")
    assert made.gated is not None
    assert made.gated.kept == ()
    assert found.gate["ok"] is True
    (task,) = found.gate["tasks"]  # type: ignore[misc]
    assert (task["n"], task["drop"], task["excluded"]) == (40, 0.0, True)  # type: ignore[index]
    assert "gate.json" in found.files
    assert [item.name for item in tmp_path.iterdir()] == ["package"]


def test_layers_stay_until_the_gate_holds_and_no_longer(tmp_path: Path) -> None:
    """A score that asks for less damage: the fewest layers, those that hurt most."""
    tried: list[float] = []
    whole = distance(package("bert", "int8"))

    def score(folder: Path) -> tuple[ScoredTask, ...]:
        tried.append(distance(folder))
        return (scored([tried[-1] < whole * 0.8] * 40),)

    made = exported(tmp_path / "package", score)
    gated = made.gated
    assert gated is not None
    assert 0 < len(gated.kept) < gated.layers
    assert 0 < gated.kept_share <= 0.5
    damages = [each.damage for each in gated.kept]
    assert damages == sorted(damages, reverse=True)
    assert distance(tmp_path / "package") < whole * 0.8
    record = load_package(tmp_path / "package").gate
    assert len(record["kept"]) == len(gated.kept)  # type: ignore[arg-type]
    assert record["everything_rounded"][0]["drop"] == 100.0  # type: ignore[index]
    json.loads((tmp_path / "package" / "gate.json").read_text(), parse_constant=lambda name: pytest.fail(name))


def test_a_gate_that_never_holds_refuses_and_writes_nothing(tmp_path: Path) -> None:
    def score(folder: Path) -> tuple[ScoredTask, ...]:
        return (scored([folder == package("bert")] * 40),)

    with pytest.raises(GateError, match=r"at most 1 is allowed.*mood: acc 1.0000 -> 0.0000.*Nothing was written"):
        exported(tmp_path / "package", score)
    assert not list(tmp_path.iterdir())


def test_nothing_is_rounded_in_fp32(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="fp32 rounds nothing"):
        exported(tmp_path / "package", lambda folder: (), precision="fp32")


def test_a_layer_is_one_weight_in_every_graph() -> None:
    """Graphs that were traced have names of their own for it."""
    layers = rounded_layers(package("gpt2"), precision="int8")
    both = [layer for layer in layers if set(layer.weights) == {"score", "decoder"}]
    assert len(both) >= 9
    assert sum(layer.numbers for layer in layers) == sum(layer.numbers for layer in both)


def test_the_layers_of_a_language_model_stay_too(tmp_path: Path) -> None:
    made = export_and_prove(
        model_folder("gpt2"),
        out=tmp_path / "package",
        precision="int8",
        texts=TEXTS,
        report=ignored,
        base=package("gpt2"),
        threads=1,
        gate=Gate(
            most=1.0,
            score=lambda folder: (
                scored([_weight_bytes(folder) > 1.05 * _weight_bytes(package("gpt2", "int8"))] * 40),
            ),
            probes=lambda folder: (Probe(rows=ROWS, head=None),),
        ),
    )
    assert made.gated is not None
    assert made.gated.kept
    assert made.parity.ok


def _weight_bytes(folder: Path) -> int:
    return (folder / "weights.bin").stat().st_size


def test_a_record_reads_as_a_sentence(tmp_path: Path) -> None:
    made = exported(tmp_path / "package", lambda folder: (scored([True] * 40),), most=10)
    assert made.gated is not None
    assert sentence(made.gated.drops[0]).startswith("mood: acc 1.0000 -> 1.0000, no drop (95% interval -")
