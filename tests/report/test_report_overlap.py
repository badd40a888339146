"""Rows that a model may have known before it was scored, in the report's tables."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from lmtasks.records import Json
from lmtasks.report.conditions import conditions_table
from lmtasks.report.overlap import is_marked, on_the_others, seen_rows
from lmtasks.report.quality import metric_tables, quality_table
from lmtasks.report.records import read_run
from lmtasks.results.scores import CleanScores, KnownOverlap

NONE: Json = {"seen": 0, "rows": 0, "inputs": 0, "targets": 0}


def _part(seen: int, *, targets: int = 0) -> dict[str, int]:
    return {"seen": seen, "rows": 0, "inputs": seen - targets, "targets": targets}


def _record(value: float | None, **parts: object) -> Json:
    acc = {"value": value, "stderr": None, "ci95": [0.7, 0.8], "higher_is_better": True, "scale": "fraction"}
    clean = {"n": 541, "metrics": {"acc": acc}}
    return {
        "learned": None, "chosen": None, "train": None, "own_answers": 0,
        "seen": 331, "clean": clean if value is not None else {"n": 0, "metrics": {}}, **parts,
    }  # fmt: skip


def _put(folder: Path, records: Mapping[str, Json]) -> None:
    for name, record in records.items():
        file = folder / "cells" / f"{name}--0--s1234.json"
        content = json.loads(file.read_text(encoding="utf-8"))
        content["result"]["overlap"] = record
        file.write_text(json.dumps(content), encoding="utf-8")


def test_variants_that_knew_the_same_rows_share_a_note(folder: Path) -> None:
    learned = {"learned": _part(331), "train": _part(320)}
    clean = {**_record(None, learned=NONE, chosen=NONE, train=NONE), "seen": 0, "clean": None}
    _put(
        folder,
        {
            "torch": _record(0.75, **learned),
            "onnx-int8": _record(0.74, **learned),
            "trivial": _record(0.41, train=_part(331)),
            "tf-idf": clean,
        },
    )
    run = read_run(folder)
    for table in (quality_table(run), metric_tables(run)[0]):
        notes = {
            line.name: [table.notes[number - 1] for number in line.cells[0].notes]
            for line in table.lines
            if line.name != "onnx fp32"
        }
        both = "sst2: 331 of 872 scored rows were learned from; acc on the other 541: torch 75.0, onnx int8 74.0"
        assert notes["torch"] == notes["onnx int8"] == [both]
        rival = "sst2: 331 of 872 scored rows stand in the task's training rows; acc on the other 541: trivial 41.0"
        assert notes["trivial"] == [rival]
        assert notes["tf-idf"] == []
    known = [column.title for column in conditions_table(run).columns].index("rows known before")
    cells = [line.cells[known].text for line in conditions_table(run).lines]
    assert cells[0] == "331 of 872 / not known / 331 of 872, of training not known / none"
    assert set(cells[1:]) == {"not known"}  # as of every run that was made before rows were counted


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (_record(0.75, learned=_part(200), chosen=_part(131)), "were learned from, 131 were chosen on"),
        (_record(0.75, learned=_part(1), train=_part(331)), "were learned from, 331 stand in the task's training rows"),
        (
            _record(0.75, train=_part(331, targets=300)),
            "stand in the task's training rows (31 by what is asked, 300 by the right text)",
        ),
        (_record(0.75, own_answers=331), "have their own answer among the worked examples"),
    ],
)
def test_where_rows_were_known_from_is_said(record: Json, said: str) -> None:
    overlap = KnownOverlap.model_validate(record)
    assert seen_rows(overlap, n=872).partition(" scored rows ")[2] == said
    assert on_the_others(overlap) == "on the other 541: acc 75.0 ±5.0"


def test_nothing_is_said_of_results_that_nobody_counted() -> None:
    assert not is_marked(None)
    none = KnownOverlap.model_validate(_record(None))
    assert on_the_others(none) == "no other row is left"
    unscored = none.model_copy(update={"clean": CleanScores(n=9, metrics={})})
    assert on_the_others(unscored) == "the other 9 are not scored apart"
