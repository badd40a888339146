"""Training rows that are drawn: nested by seed, each label with its share, none left without an example in silence."""

import random
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from lmtasks.data.rows import make_rows
from lmtasks.data.sampling import NO_LABEL, labels_of, nested_order
from lmtasks.data.splits import TaskData, drawn
from lmtasks.records import Row
from lmtasks.task import Task, load_task

HEAD = """
task: t
dataset_path: json
dataset_kwargs: {data_files: {train: t.jsonl, test: u.jsonl}}
training_split: train
test_split: test
"""
LABELS = HEAD + "kind: classification\nlabels: [a, b, c, d, e]\ninputs: {text: q, label: l}\n"
TEXTS = HEAD + 'kind: translation\ninputs: {source: q}\ndoc_to_text: "{{q}}"\ndoc_to_target: "{{q}}"\n'
SHARES = {"a": 600, "b": 250, "c": 120, "d": 29, "e": 1}


def _task(folder: Path, lines: str = LABELS) -> Task:
    (folder / "t.yaml").write_text(lines, encoding="utf-8")
    return load_task(folder / "t.yaml")


def _rows() -> list[Row]:
    labels = [label for label, count in SHARES.items() for _ in range(count)]
    return [{"q": f"text {number}", "l": label} for number, label in enumerate(random.Random(2).sample(labels, 1000))]


def _drawn(task: Task, rows: Sequence[Row], count: int | None, seed: int = 7) -> list[Row]:
    train = drawn(task, TaskData(train=make_rows(rows, where="here")), rows=count, seed=seed).train
    assert train is not None
    return list(train.rows)


@pytest.mark.parametrize("lines", [LABELS, TEXTS])
def test_fewer_rows_are_among_more_of_the_same_seed_and_all_seeds_differ(lines: str, tmp_path: Path) -> None:
    task, rows = _task(tmp_path, lines), _rows()
    for seed in (1, 2):
        sets = [{row["q"] for row in _drawn(task, rows, count, seed)} for count in (1, 5, 64, 256, 999, 1000)]
        assert [len(each) for each in sets] == [1, 5, 64, 256, 999, 1000]
        assert all(fewer < more for fewer, more in pairwise(sets))
    one, other = ({row["q"] for row in _drawn(task, rows, 64, seed)} for seed in (1, 2))
    assert len(one & other) < 20


@pytest.mark.parametrize("count", [5, 6, 20, 64, 256, 700, 999])
def test_every_label_has_its_share_and_an_example(count: int, tmp_path: Path) -> None:
    found = Counter(row["l"] for row in _drawn(_task(tmp_path), _rows(), count))
    assert set(found) == set(SHARES)
    for label, whole in SHARES.items():
        share = whole * count / 1000
        # Those below one are lifted to one, at the cost of the others.
        assert max(1, share - 2) <= found[label] <= max(1, share + 1), label


def test_labels_without_an_example_are_the_rarest_and_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = _drawn(_task(tmp_path), _rows(), 3)
    assert {row["l"] for row in found} == {"a", "b", "c"}
    assert "task t: 3 training rows have 3 of its 5 labels, the most frequent ones; the other 2 are" in caplog.text
    caplog.clear()
    _drawn(_task(tmp_path), _rows(), 5)
    assert not caplog.text


def test_rows_stay_in_the_order_of_the_split_and_too_few_are_all(tmp_path: Path) -> None:
    task, rows = _task(tmp_path), _rows()
    numbers = [int(str(row["q"]).split()[1]) for row in _drawn(task, rows, 64)]
    assert numbers == sorted(numbers)
    assert _drawn(task, rows, 5000) == _drawn(task, rows, None) == rows


def test_rows_without_labels_are_drawn_as_before(tmp_path: Path) -> None:
    """Results from translations and summaries stay what they were."""
    labels = labels_of(_task(tmp_path, TEXTS), _rows())
    assert set(labels) == {NO_LABEL}
    assert nested_order(labels, seed=3).tolist() == np.random.default_rng(3).permutation(1000).tolist()


def test_a_row_whose_label_nobody_knows_takes_no_place_of_a_label(tmp_path: Path) -> None:
    rows = [*_rows(), {"q": "unknown", "l": "z"}]
    assert {row["l"] for row in _drawn(_task(tmp_path), rows, 5)} == set(SHARES)
