"""A kind of task with its head, written outside the package in two files' worth of code, goes the whole line.

Ratings: labels in an order, by the thresholds that a text passes (McCullagh 1980, ordinal regression).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from lmtasks.errors import UsageError
from lmtasks.head import HEADS
from lmtasks.head.base import EncodedInput, EncodedRow, Head, HeadOperators, HeadTokenizer, Value
from lmtasks.head.classification import classification_row
from lmtasks.records import Choice, Floats32, HeadInput, HeadSpec, Row
from lmtasks.report.write import write_report
from lmtasks.run.plan import load_plan
from lmtasks.run.run_plan import RunOptions, run_plan
from lmtasks.settings.data import DataAccess
from lmtasks.task.index import default_index
from lmtasks.task.kinds import KINDS, head_input
from lmtasks.task.kinds.base import HeadTaskKind
from lmtasks.task.load import load_task
from lmtasks.task.roles import label_number, role_text
from lmtasks.task.task import Task
from lmtasks.workflow.unlabelled_rows import row_of, unlabelled

if TYPE_CHECKING:
    from torch import Tensor

# --- the first file, before a model is there: task/kinds/rating.py --------------------------------------------------


class RatingKind(HeadTaskKind):
    """Rows with the roles review and label; the labels stand in their order."""

    def read(self, task: Task, row: Row, *, where: str, labelled: bool) -> HeadInput:
        text = role_text(task, row, role="review", where=where)
        return HeadInput(first=text, label=label_number(task, row, where=where) if labelled else None)

    def target(self, task: Task, row: Row) -> str:
        return task.labels[label_number(task, row, where=task.name)]


RATING = RatingKind(
    name="rating",
    about="one of several labels in an order",
    answer="label",
    head="ordinal",
    output_types=("multiple_choice",),
    roles=("review", "label"),
    answer_role="label",
    source_role="review",
    metrics=("acc",),
    baselines=("majority", "tfidf"),
)

# --- the second file, behind a model: head/ordinal.py ---------------------------------------------------------------


class OrdinalHead(Head):
    """A logit for each threshold between two labels: does the text pass it?"""

    def outputs(self, spec: HeadSpec) -> int:
        return len(spec.labels) - 1

    def layers(self, spec: HeadSpec, *, width: int) -> Mapping[str, tuple[int, int]]:
        return {"thresholds": (width, len(spec.labels) - 1)}

    def logits(self, operators: HeadOperators[Value], hidden: Value, spec: HeadSpec) -> Value:
        return operators.dense("thresholds", operators.dropout(operators.pool(hidden, "mean")))

    def loss(self, logits: Tensor, targets: Tensor, *, smoothing: float = 0.0) -> Tensor:
        import torch
        from torch.nn import functional

        passed = targets > torch.arange(logits.shape[1], device=logits.device)
        return functional.binary_cross_entropy_with_logits(logits.float(), passed.float())

    def judged(self, logits: Tensor, targets: Tensor) -> tuple[float, int]:
        return float(((logits > 0).sum(1) == targets[:, 0]).sum()), len(targets)

    def encode(
        self, given: HeadInput, *, tokenizer: HeadTokenizer, max_length: int, causal: bool = False
    ) -> EncodedInput:
        return RatedText(given=given, rows=(classification_row(given, tokenizer=tokenizer, max_length=max_length),))


@dataclass(frozen=True, kw_only=True)
class RatedText(EncodedInput):
    rows: Sequence[EncodedRow]

    def targets(self) -> Sequence[tuple[EncodedRow, tuple[int, ...]]]:
        return [] if self.given.label is None else [(row, (self.given.label,)) for row in self.rows]

    def outcome(self, logits: Sequence[Floats32], *, labels: Sequence[str], order: Sequence[int]) -> Choice:
        beyond = np.concatenate([[1.0], 1 / (1 + np.exp(-logits[0].astype(np.float64))), [0.0]])  # P(label >= k)
        return Choice(
            gold=() if self.given.label is None else (self.given.label,),
            scores=tuple(np.log(np.maximum(beyond[:-1] - beyond[1:], 1e-9)).tolist()),
            chars=tuple(map(len, labels)),
            bytes=tuple(len(label.encode()) for label in labels),
        )


ORDINAL = OrdinalHead(name="ordinal", about="one of several labels in an order")

# --------------------------------------------------------------------------------------------------------------------

TASK = """
task: stars
kind: rating
dataset_path: json
dataset_kwargs: {data_files: {train: train.jsonl, test: test.jsonl}}
training_split: train
test_split: test
inputs: {review: said, label: stars}
labels: [bad, fair, good]
"""

PLAN = """
plan: toy
tasks: [{folder}/stars.yaml]
models:
  small: {{backbone: "average:width=16,buckets=50", training: {{epochs: 30, evaluations: 2, learning_rate: 0.02}}}}
variants:
  - {{name: floor, baseline: [majority, tfidf]}}
  - {{name: torch, model: small}}
  - {{name: onnx, model: small, runtime: onnx}}
bench: null
"""

WORDS = {"bad": ("awful", "dull"), "fair": ("plain", "usual"), "good": ("great", "lovely")}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [
        {"said": f"{opening} {first} and {second} film", "stars": label}
        for label, (first, second) in WORDS.items()
        for opening in ("a", "the", "one", "this", "that", "such a", "quite a", "still a")
    ]
    for split, part in (("train", rows), ("test", rows[::3])):
        lines = [json.dumps({**row, "said": f"{row['said']} ({split})"}) for row in part]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(lines))
    (tmp_path / "stars.yaml").write_text(TASK)
    (tmp_path / "plan.yaml").write_text(PLAN.format(folder=tmp_path))
    return tmp_path


def test_a_kind_from_outside_is_adapted_exported_proved_scored_and_reported(folder: Path) -> None:
    with KINDS.extended(RATING), HEADS.extended(ORDINAL):
        ran = run_plan(
            load_plan(folder / "plan.yaml"),
            plan_file=folder / "plan.yaml",
            index=default_index(),
            out=folder / "run",
            options=RunOptions(data=DataAccess(offline=True), threads=1, command="lmtasks run toy"),
            report=lambda _: None,
        )
        assert ran.failed == ()
        write_report(folder / "run")
        task = unlabelled(load_task(folder / "stars.yaml"))
        assert head_input(task, row_of(task, "a lovely film"), row_number=0).first == "a lovely film"
    (proof,) = (folder / "run" / "packages").glob("*/parity.json")
    assert json.loads(proof.read_text())["ok"] is True
    cells = [json.loads(file.read_text()) for file in sorted((folder / "run" / "cells").glob("*.json"))]
    found = {cell["variant"]["name"]: cell["result"]["metrics"]["acc"]["value"] for cell in cells}
    assert found == {"floor": 1.0, "torch": 1.0, "onnx": 1.0}  # each label has words of its own
    page = (folder / "run" / "report.md").read_text(encoding="utf-8")
    assert "stars acc" in page
    assert "tfidf is the best of majority" in page


def test_a_task_of_an_unknown_kind_is_refused(folder: Path) -> None:
    """What a block added is gone behind it, and no line of the package is replaced."""
    with KINDS.extended(RATING):
        assert load_task(folder / "stars.yaml").kind == "rating"
        with pytest.raises(UsageError, match="there is a kind of task 'rating' already"), KINDS.extended(RATING):
            pass
    with pytest.raises(UsageError, match="kind: Input should be 'classification'"):
        load_task(folder / "stars.yaml")
