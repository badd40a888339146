"""A single file divided into rows to learn from and rows to be scored on."""

import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lmtasks.data.sampling import part_of
from lmtasks.data.splits import load_task_data
from lmtasks.errors import UsageError
from lmtasks.records import Row
from lmtasks.settings.data import DataAccess
from lmtasks.task import own_task
from lmtasks.task.task import Part, Task


def _divided(rows: Sequence[Row], *, label: str | None = "l") -> tuple[list[Row], list[Row]]:
    parts = [
        part_of(rows, Part(use=use, texts=("t",), label=label), where="f")[0]
        for use in ("train", "test")  # type: ignore[arg-type]
    ]
    return list(parts[0]), list(parts[1])


def _rows(counts: Mapping[str, int]) -> list[Row]:
    return [{"t": f"{label} {number}", "l": label} for label, count in counts.items() for number in range(count)]


@pytest.mark.parametrize(
    ("counts", "tested"),
    [
        ({"a": 100, "b": 50}, {"a": 20, "b": 10}),
        ({"a": 997, "b": 3}, {"a": 199, "b": 1}),
        ({"a": 5, "b": 2, "c": 1}, {"a": 1, "b": 1}),
        ({"a": 2, "b": 2}, {"a": 1, "b": 1}),
        ({"好": 10, "坏": 10}, {"好": 2, "坏": 2}),
    ],
)
def test_a_fifth_of_each_label_is_set_aside(counts: Mapping[str, int], tested: Mapping[str, int]) -> None:
    rows = _rows(counts)
    train, test = _divided(rows)
    assert Counter(row["l"] for row in test) == Counter(tested)
    assert Counter(map(str, [*train, *test])) == Counter(map(str, rows))
    assert [row for row in rows if row in test] == test  # in their order


def test_the_order_of_rows_changes_nothing() -> None:
    rows = _rows({"a": 40, "b": 30})
    mixed = random.Random(1).sample(rows, len(rows))
    assert {row["t"] for row in _divided(rows)[1]} == {row["t"] for row in _divided(mixed)[1]}


@pytest.mark.parametrize("label", ["l", None])
def test_equal_texts_stand_on_one_side(label: str | None) -> None:
    """Copies with other white space, another label or another id would leak the answer."""
    rows = [
        {"t": f"text{' ' * (copy + 1)}{n % 40}\n", "l": "ab"[copy % 2], "id": n} for copy in range(3) for n in range(40)
    ]
    train, test = _divided(rows, label=label)
    assert not {"".join(str(row["t"]).split()) for row in train} & {"".join(str(row["t"]).split()) for row in test}
    assert len(test) == 24


def test_many_copies_of_one_text_are_no_test_part() -> None:
    rows: list[Row] = [*({"t": "same", "l": "a"} for _ in range(90)), *_rows({"a": 10})]
    assert len(_divided(rows)[1]) <= 20
    assert all(row["t"] != "same" for row in _divided(rows)[1])


def test_labels_that_no_two_texts_share_are_divided_all_the_same() -> None:
    train, test = _divided([{"t": f"text {n}", "l": n} for n in range(10)])
    assert (len(train), len(test)) == (8, 2)


def test_one_text_cannot_be_divided() -> None:
    with pytest.raises(UsageError, match="holds one text, and cannot be divided"):
        _divided([{"t": "a", "l": 0}, {"t": " a", "l": 1}])
    with pytest.raises(UsageError, match="has no column 't'"):
        _divided([{"x": "a", "l": 0}, {"x": "b", "l": 1}])


def _task(file: Path) -> Task:
    return own_task(data=file, text="t", label="l", labels=("a", "b"), use="both")


@pytest.mark.parametrize("seed", [1, 2])
def test_train_validation_and_test_of_one_file_share_no_row(tmp_path: Path, seed: int) -> None:
    file = tmp_path / "own.jsonl"
    rows = _rows({"a": 60, "b": 40})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    need = frozenset({"train", "validation", "test"})
    data = load_task_data(_task(file), options=DataAccess(), need=need, seed=seed)
    assert data.train is not None
    assert data.validation is not None
    assert data.test is not None
    sizes = [len(part.rows) for part in (data.train, data.validation, data.test)]
    assert sizes == [72, 8, 20]
    assert len({str(row) for part in (data.train, data.validation, data.test) for row in part.rows}) == 100
    assert "20 of 100 rows, for testing" in data.test.where
    first = load_task_data(_task(file), options=DataAccess(), need=frozenset({"test"}), limit=3, seed=seed)
    assert first.test is not None
    assert list(first.test.rows) == list(data.test.rows)[:3]
    assert _task(file).hash != own_task(data=file, text="t", label="l", labels=("a", "b")).hash


def test_worked_examples_come_from_the_rows_to_learn_from(tmp_path: Path) -> None:
    file = tmp_path / "own.csv"
    file.write_text("t,l\nx,a\ny,b\n")
    task = _task(file)
    assert task.shots == task.sources["train"] != task.sources["test"]


def test_rows_that_stay_on_the_disk_are_divided_as_others(tmp_path: Path) -> None:
    rows = _rows({"a": 60, "b": 40})
    table, lines = tmp_path / "own.parquet", tmp_path / "own.jsonl"
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), table, row_group_size=7)
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for use in ("train", "test"):
        read = [
            load_task_data(_task(file), options=DataAccess(), need=frozenset({use}), seed=1)  # type: ignore[arg-type]
            for file in (table, lines)
        ]
        lazy, plain = (getattr(data, use).rows for data in read)
        assert list(lazy) == list(plain)
        assert (lazy[3], list(lazy[2:5]), len(lazy)) == (plain[3], plain[2:5], len(plain))
