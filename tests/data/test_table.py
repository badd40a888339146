"""Rows that stay where they lie: a sequence like any other."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lmtasks.data.table import HubTable, LazyRows, ParquetTable
from lmtasks.errors import UsageError
from lmtasks.records import Row

ROWS: Sequence[Row] = [{"text": f"text {number}", "n": number, "more": [number] * (number % 3)} for number in range(47)]


def parquet(folder: Path) -> LazyRows:
    """Two files with several row groups each."""
    files = [folder / "a.parquet", folder / "b.parquet"]
    pq.write_table(pa.Table.from_pylist([dict(row) for row in ROWS[:30]]), files[0], row_group_size=7)
    pq.write_table(pa.Table.from_pylist([dict(row) for row in ROWS[30:]]), files[1], row_group_size=100)
    return LazyRows(ParquetTable(files))


def hosted(folder: Path) -> LazyRows:
    from datasets import Dataset

    return LazyRows(HubTable(Dataset.from_list([dict(row) for row in ROWS])))


@pytest.mark.parametrize("make", [parquet, hosted])
def test_it_is_a_sequence(make, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]  # one of the two above
    rows = make(tmp_path)
    assert len(rows) == 47
    assert rows == ROWS
    assert list(rows) == list(rows)
    assert [rows[number] for number in (0, 6, 7, 29, 30, 46, -1)] == [ROWS[n] for n in (0, 6, 7, 29, 30, 46, 46)]
    for start, stop in ((0, 5), (5, 33), (28, 31), (40, 100), (9, 9), (20, 10)):
        part = rows[start:stop]
        assert list(part) == list(ROWS[start:stop])
        assert len(part) == len(ROWS[start:stop])
        assert part[2:4] == ROWS[start:stop][2:4]
    assert rows[::-2] == ROWS[::-2]
    with pytest.raises(IndexError):
        rows[47]


def test_what_is_no_parquet_is_named(tmp_path: Path) -> None:
    file = tmp_path / "x.parquet"
    file.write_text("not at all")
    with pytest.raises(UsageError, match=r"x\.parquet is no parquet file that can be read"):
        ParquetTable([file])
