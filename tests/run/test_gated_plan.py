"""`max_drop` of a plan's variant, from the file to the report; and what is refused before anything is trained."""

import json
from pathlib import Path

import pytest

from lmtasks.errors import UsageError
from lmtasks.report.write import write_report
from lmtasks.run.plan import VariantPlan, load_plan
from lmtasks.run.run_plan import Ran, RunOptions, run_plan
from lmtasks.run.variants import gate_name
from lmtasks.settings.data import DataAccess
from lmtasks.task.index import default_index

PLAN = """
plan: gated
question: What does rounding cost?
tasks: [starter_sentiment_en]
limit: 4
bench: null
models:
  small: {{backbone: "cnn:width=32,filters=16,dropout=0", training: {{epochs: 0.3, rows: 20, evaluations: 1}}}}
variants:
  - {{name: torch, model: small}}
  - {variant}
"""
GATED = "{name: onnx int8, model: small, runtime: onnx, precision: int8, max_drop: 100}"


def carry_out(folder: Path, variant: str) -> Ran:
    file = folder / "plan.yaml"
    file.write_text(PLAN.format(variant=variant), encoding="utf-8")
    return run_plan(
        load_plan(file), plan_file=file, index=default_index(), out=folder / "run",
        options=RunOptions(data=DataAccess(offline=True), threads=1, command="lmtasks run gated"),
        report=lambda progress: None,
    )  # fmt: skip


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gated")
    assert carry_out(folder, GATED).failed == ()
    return folder


def test_the_package_of_the_variant_holds_its_gate(gated: Path) -> None:
    (file,) = (gated / "run" / "packages").glob("*/gate.json")
    assert file.parent.name == "small-s1234-int8-max-drop-100"
    gate = json.loads(file.read_text(encoding="utf-8"))
    assert gate["ok"] is True
    assert gate["most"] == 100.0
    (task,) = gate["tasks"]
    assert (task["task"], task["metric"]) == ("starter_sentiment_en", "acc")
    assert task["rows"].endswith("train.jsonl (15 of 150 rows, seed 1234)")  # never the scored rows
    proof = json.loads((file.parent / "parity.json").read_text(encoding="utf-8"))
    assert proof["operators"]["heads"]["MatMulIntegerToFloat"] == 1  # the filters of all widths
    assert proof["operators"]["heads"].get("MatMul", 0) == 0


def test_a_package_is_shared_by_variants_that_ask_the_same_of_it_alone() -> None:
    greedy = VariantPlan(name="a", model="m", runtime="onnx", precision="int8", max_drop=1, tasks="t")
    assert gate_name(greedy) == gate_name(greedy.model_copy(update={"name": "b"})) == "max-drop-1 t"
    beams = greedy.model_copy(update={"generation_kwargs": {"num_beams": 4}})
    assert gate_name(beams) == "max-drop-1 t num_beams-4"
    assert gate_name(beams.model_copy(update={"max_drop": None})) == ""


def test_the_report_shows_what_rounding_costs(gated: Path) -> None:
    write_report(gated / "run")
    text = (gated / "run" / "report.md").read_text(encoding="utf-8")
    part = text.split("## What rounding costs")[1].split("\n## ")[0]
    assert "allowed: a drop of 100" in part
    assert "starter_sentiment_en" in part


def test_a_gate_that_no_package_holds_leaves_the_variant_without_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmtasks.prove.gate._hold", lambda drops: False)
    ran = carry_out(tmp_path, GATED)
    assert ran.done == 1
    (failed,) = ran.failed
    assert failed.startswith("onnx-int8--starter_sentiment_en--s1234: ")
    assert not list((tmp_path / "run" / "packages").glob("*-max-drop-*"))


@pytest.mark.parametrize(
    ("variant", "said"),
    [
        ("{name: b, model: small, runtime: onnx, max_drop: 1}", "'b' has a `max_drop`, which is about packages"),
        ("{name: b, model: small, max_drop: 1}", "'b' has a `max_drop`, which is about packages that are rounded"),
        ("{name: b, model: small, runtime: onnx, precision: int8, max_drop: -1}", "max_drop"),
    ],
)
def test_a_drop_that_means_nothing_is_refused(tmp_path: Path, variant: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        carry_out(tmp_path, variant)


@pytest.mark.parametrize(
    ("variant", "said"),
    [
        ("{name: fast, model: small, device: cuda}", r"variant 'fast' .*: torch cannot compute on 'cuda' here.*cpu"),
        ("{name: fast, model: small, runtime: onnx, device: cuda}", r"variant 'fast' .*has no CUDAExecutionProvider"),
        (
            "{name: fast, model: small, runtime: onnx, precision: fp16}",
            r"variant 'fast' .*in fp16, which onnxruntime computes on a GPU only",
        ),
        ("{name: fast, model: small, runtime: native, device: cuda}", r"native cannot compute on 'cuda' here.*cpu"),
        ("{name: fast, model: small, runtime: native, precision: bf16}", r"native cannot compute in 'bf16' here.*fp32"),
        ("{name: fast, model: small, device: tpu}", r"variant 'fast' .*cannot compute on 'tpu' here"),
    ],
)
def test_a_device_that_is_not_there_is_refused_before_any_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variant: str, said: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr("lmtasks.workflow.adapt.adapt", lambda *_, **__: pytest.fail("trained"), raising=False)
    with pytest.raises(UsageError, match=said):
        carry_out(tmp_path, variant)
    assert [item.name for item in tmp_path.iterdir()] == ["plan.yaml"]
