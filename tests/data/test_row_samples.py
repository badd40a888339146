"""The first rows of a sorted split, and samples that have every label in its share."""

import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lmtasks.data.sampling import Sample, label_reader, label_shift, sampled
from lmtasks.data.splits import load_task_data
from lmtasks.records import Row
from lmtasks.settings.data import DataAccess
from lmtasks.task import Task, load_task

HEAD = "task: t\ndataset_path: json\ndataset_kwargs: {data_files: {test: t.jsonl}}\ntest_split: test\n"
LABELS = HEAD + "kind: classification\nlabels: [bad, good]\ninputs: {text: q, label: a}\n"
FIXED = HEAD + 'output_type: multiple_choice\ndoc_to_text: "{{q}}"\ndoc_to_choice: [bad, good]\ndoc_to_target: a\n'
OWN = HEAD + 'output_type: multiple_choice\ndoc_to_text: "{{q}}"\ndoc_to_choice: c\ndoc_to_target: a\n'


def _task(folder: Path, lines: str = LABELS) -> Task:
    (folder / "t.yaml").write_text(lines, encoding="utf-8")
    return load_task(folder / "t.yaml")


def _rows(labels: Sequence[int]) -> list[Row]:
    return [{"q": f"text {number}", "a": label, "c": ["x", "y"]} for number, label in enumerate(labels)]


SORTED = [0] * 500 + [1] * 500


@pytest.mark.parametrize("lines", [LABELS, FIXED])
def test_the_first_rows_of_a_sorted_split_are_told(lines: str, tmp_path: Path) -> None:
    said = label_shift(_task(tmp_path, lines), _rows(SORTED), first=50)
    assert said == (
        "the first 50 of 1,000 rows are unlike the whole by more than chance: 100% bad instead of 50%, 0% good instead "
        "of 50%; --sample 50 draws from all"
    )


@pytest.mark.parametrize(
    ("labels", "first"),
    [
        (random.Random(3).sample(SORTED, 1000), 100),
        ([0, 1] * 500, 501),
        (SORTED, 1000),
        (SORTED, 2000),
        (SORTED, 1),
        ([0, 0, 0, 1, 1, 1], 3),  # one in ten shuffled prefixes is as far off
        ([0] * 100, 5),
    ],
)
def test_what_chance_does_is_not_told(labels: Sequence[int], first: int, tmp_path: Path) -> None:
    assert label_shift(_task(tmp_path), _rows(labels), first=first) == ""


def test_false_alarms_are_rare(tmp_path: Path) -> None:
    task, alarms = _task(tmp_path), 0
    for seed in range(200):
        alarms += bool(label_shift(task, _rows(random.Random(seed).sample(SORTED[400:600], 200)), first=20))
    assert alarms <= 6


def test_without_labels_that_rows_share_nothing_is_told(tmp_path: Path) -> None:
    task = _task(tmp_path, OWN)
    assert label_reader(task) is None
    assert label_shift(task, _rows(SORTED), first=50) == ""
    assert len(sampled(task, _rows(SORTED), Sample(rows=50))) == 50


@pytest.mark.parametrize(("wanted", "shares"), [(100, {0: 50, 1: 50}), (7, {0: 4, 1: 3}), (1, {0: 1})])
def test_every_label_has_its_share_of_a_sample(wanted: int, shares: dict[int, int], tmp_path: Path) -> None:
    rows = _rows(SORTED)
    found = sampled(_task(tmp_path), rows, Sample(rows=wanted, seed=5))
    assert Counter(row["a"] for row in found) == shares
    assert [row for row in rows if row in found] == list(found)
    assert found == sampled(_task(tmp_path), rows, Sample(rows=wanted, seed=5))
    assert wanted == 1 or found != sampled(_task(tmp_path), rows, Sample(rows=wanted, seed=6))
    assert label_shift(_task(tmp_path), [*found, *rows], first=wanted) == ""


def test_a_sample_of_more_rows_than_there_are_is_all_of_them(tmp_path: Path) -> None:
    rows = _rows(SORTED)
    assert sampled(_task(tmp_path), rows, Sample(rows=1000)) is rows
    assert sampled(_task(tmp_path), rows, Sample(rows=5000)) is rows


def test_rows_that_stay_on_the_disk_are_drawn_as_others(tmp_path: Path) -> None:
    rows = _rows(SORTED)
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), tmp_path / "t.parquet", row_group_size=70)
    drawn = []
    for lines in (LABELS, LABELS.replace("path: json", "path: parquet").replace("t.jsonl", "t.parquet")):
        task = _task(tmp_path, lines)
        data = load_task_data(task, options=DataAccess(), need=frozenset({"test"}), sample=Sample(rows=90))
        assert data.test is not None
        assert data.test.where.startswith("90 drawn of the 1000 rows of ")
        drawn.append(list(data.test.rows))
    assert drawn[0] == drawn[1]
