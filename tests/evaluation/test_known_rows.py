"""Scored rows that may have been known, and the scores on the others."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_tasks import REVIEWS, model, small_task

from lmtasks.data.row_hashes import RowHashes, TrainingRows, hash_rows
from lmtasks.evaluation.baselines import BaselineSolver
from lmtasks.evaluation.collector import CollectedStatistics, merge
from lmtasks.evaluation.engine_solver import EngineSolver
from lmtasks.evaluation.evaluate import TaskResult, evaluate
from lmtasks.evaluation.overlap import training_hashes
from lmtasks.evaluation.prepare import EvalOptions
from lmtasks.evaluation.protocols import Solver
from lmtasks.records import Row
from lmtasks.settings.data import DataAccess
from lmtasks.task.index import default_index
from lmtasks.task.task import Task

OPTIONS = EvalOptions(data=DataAccess(offline=True), resamples=50)


def _scored(solver: Solver, task: Task, options: EvalOptions = OPTIONS) -> TaskResult:
    (result,) = evaluate(solver=solver, tasks=[task], options=options)
    return result


def _overlap(result: TaskResult) -> dict[str, object]:
    assert result.overlap is not None
    return result.overlap.content()


def _learned(task: Task, rows: Sequence[Row]) -> EngineSolver:
    seen = TrainingRows(learned=hash_rows(task, rows[:2]).as_set(), chosen=hash_rows(task, rows[2:]).as_set())
    return EngineSolver(model().engine, training=seen)  # type: ignore[arg-type]  # the engine itself


def test_what_a_model_learned_is_counted_and_scored_apart(tmp_path: Path) -> None:
    task = small_task(tmp_path, "classification")
    rows = REVIEWS["test"][2:5]  # no word stands twice there
    other = {**rows[1], "label": "bad" if rows[1]["label"] == "good" else "good"}
    result = _scored(_learned(task, [rows[0], other, rows[2], rows[0]]), task)
    found = _overlap(result)
    assert found["learned"] == {"seen": 2, "rows": 1, "inputs": 2, "targets": 0}
    assert found["chosen"] == {"seen": 2, "rows": 2, "inputs": 2, "targets": 0}
    assert found["train"] == {"seen": 0, "rows": 0, "inputs": 0, "targets": 0}
    assert (result.n, found["seen"]) == (20, 3)
    (tmp_path / "rest").mkdir()
    rest = small_task(tmp_path / "rest", "classification")
    lines = (tmp_path / "rest" / "classification-test.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "rest" / "classification-test.jsonl").write_text("".join(lines[:2] + lines[5:]))
    alone = _scored(model(), rest)
    clean = found["clean"]
    assert isinstance(clean, Mapping)
    assert clean["n"] == alone.n == 17
    for name, estimate in alone.metrics.items():
        told = clean["metrics"][name]
        assert (told["value"], told["stderr"]) == (estimate.value, estimate.stderr), name
        assert tuple(told["ci95"]) == estimate.ci95


def test_not_known_is_not_none_at_all(tmp_path: Path) -> None:
    found = _overlap(_scored(model(), small_task(tmp_path, "translation")))
    assert (found["learned"], found["chosen"], found["train"], found["clean"]) == (None, None, None, None)
    assert _overlap(_scored(BaselineSolver("copy"), small_task(tmp_path, "translation")))["learned"] == {
        "seen": 0, "rows": 0, "inputs": 0, "targets": 0
    }  # fmt: skip


def test_training_rows_of_the_task_are_counted_for_every_model(tmp_path: Path) -> None:
    task = small_task(tmp_path, "multiple_choice")  # five of its eight rows stand in both splits, one with two answers
    for solver in (model(), BaselineSolver("random"), BaselineSolver("majority")):
        found = _overlap(_scored(solver, task))
        assert found["train"] == {"seen": 6, "rows": 5, "inputs": 6, "targets": 0}
        assert isinstance(found["clean"], Mapping)
        assert found["clean"]["n"] == 2
    learned = _overlap(_scored(BaselineSolver("majority"), task))["learned"]
    assert isinstance(learned, Mapping)
    assert learned["rows"] == 4  # one is set apart for validation
    assert _scored(model(), task, OPTIONS.but({"overlap": False})).overlap is None
    every = _overlap(_scored(model(), task, OPTIONS.but({"limit": 4})))
    assert every["clean"] == {"n": 0, "metrics": {}}


@pytest.mark.parametrize("harm", ["gone", "column", "label"])
def test_training_rows_that_cannot_be_read_stop_no_evaluation(harm: str, tmp_path: Path) -> None:
    task = small_task(tmp_path, "classification")
    file = tmp_path / "classification-train.jsonl"
    if harm == "gone":
        file.unlink()
    else:
        file.write_text(json.dumps({"text": "a", "label": "other"} if harm == "label" else {"x": "a"}) + "\n")
    assert _overlap(_scored(model(), task))["train"] is None


def test_hashes_of_training_rows_are_kept_for_the_next_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, kept, told = small_task(tmp_path, "classification"), tmp_path / "kept", []

    def hashes() -> RowHashes:
        found = training_hashes(task, options=DataAccess(offline=True), kept=kept, report=told.append)
        assert found is not None
        return found

    first = hashes()
    before = len(told)
    assert np.array_equal(hashes().rows, first.rows)
    assert (len(told), len(list(kept.iterdir()))) == (before, 1)
    for file in kept.iterdir():
        file.write_bytes(file.read_bytes()[:-8])
    assert np.array_equal(hashes().rows, first.rows)
    (tmp_path / "classification-train.jsonl").write_text('{"text": "other", "label": "bad"}\n')
    assert len(hashes().rows) == 1


def test_parts_of_several_processes_keep_their_rows() -> None:
    def part(*numbers: int) -> CollectedStatistics:
        hashes = np.array(numbers, dtype=np.uint64)
        return CollectedStatistics(
            doc_ids=np.array(numbers),
            statistics={},
            clusters=None,
            truncated=0,
            hashes=RowHashes(rows=hashes, targets=hashes + np.uint64(9)),
        )

    merged = merge([part(0, 2, 4), part(1, 3)], scorings=()).hashes
    assert merged is not None
    assert merged.rows.tolist() == [0, 1, 2, 3, 4]
    assert merged.targets.tolist() == [9, 10, 11, 12, 13]
    assert merge([part(0), replace(part(1), hashes=None)], scorings=()).hashes is None


@pytest.mark.real_data
@pytest.mark.parametrize(("name", "model", "seen"), [("chnsenticorp", "random", 331), ("tatoeba_en_zh", "copy", 192)])
def test_known_overlaps_of_public_sets_stand_beside_the_score(
    name: str, model: str, seen: int, data_root: Path
) -> None:
    """Counted by hand in the issue that asked for this."""
    (task,) = default_index().find(name)
    options = OPTIONS.but({"data": DataAccess(data_root=data_root, offline=True)})
    result = _scored(BaselineSolver(model), task, options)
    found = _overlap(result)
    assert found["seen"] == seen
    assert isinstance(found["clean"], Mapping)
    assert found["clean"]["n"] == result.n - seen
