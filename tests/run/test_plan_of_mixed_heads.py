"""A plan over a backbone that was pretrained both ways: one model for tasks of all kinds, each head read in its way."""

import json
from pathlib import Path

import pytest
from tiny import tiny_checkpoint

from lmtasks.export.package import load_package
from lmtasks.model.store import card_of
from lmtasks.report.records import read_run
from lmtasks.run.plan import load_plan
from lmtasks.run.run_plan import RunOptions, run_plan
from lmtasks.settings.data import DataAccess
from lmtasks.task.index import default_index

PLAN = """
plan: mixed
tasks: [starter_topic_en, starter_qa_en, starter_translation_en_zh]
limit: 4
models:
  small: {backbone: BACKBONE, training: {epochs: 0.1, rows: 12, evaluations: 1}}
variants:
  - {name: torch, model: small}
  - {name: onnx, model: small, runtime: onnx}
bench: null
"""


def test_the_starter_s_way_reads_heads_both_ways_and_writes_causally(tmp_path: Path) -> None:
    backbone = tiny_checkpoint(tmp_path / "backbone", "llama", context=256)
    (backbone / "pretraining.json").write_text('{"objective": "mixed"}')
    file = tmp_path / "plan.yaml"
    file.write_text(PLAN.replace("BACKBONE", str(backbone)))
    options = RunOptions(data=DataAccess(offline=True), threads=1)
    ran = run_plan(
        load_plan(file), plan_file=file, index=default_index(), out=tmp_path / "run", options=options,
        report=lambda _: None,
    )  # fmt: skip
    assert (ran.done, ran.failed) == (6, ())
    card = card_of(next((tmp_path / "run" / "models").glob("small*")))
    assert {spec.kind: spec.attention for spec in card.heads} == {
        "classification": "both",
        "span": "both",
        "generation": "causal",
    }
    package = load_package(next((tmp_path / "run" / "packages").glob("small*")))
    assert set(package.graphs) == {"score", "decoder", "heads_both"}
    assert package.parity["ok"] is True
    scores: dict[str, dict[str, float]] = {"torch": {}, "onnx": {}}
    for cell in read_run(tmp_path / "run").cells:
        scores[cell.variant.name][cell.task.name] = next(iter(cell.metrics.values())).value
    assert scores["torch"] == pytest.approx(scores["onnx"])
    assert json.loads((tmp_path / "run" / "run.json").read_text())["plan"]["models"]["small"]["attention"] is None
