"""Rows that stay where they lie: parquet files and tables of `datasets`, read piece by piece.

A million rows as Python dicts take a gigabyte; read this way they take what one piece takes.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, overload

from lmtasks.errors import UsageError
from lmtasks.files import parse_json
from lmtasks.records import Ints, Row

if TYPE_CHECKING:
    from pyarrow import RecordBatch
    from pyarrow.parquet import ParquetFile

ROWS_AT_ONCE = 1000
GROUPS_KEPT = 2
"""Row groups that stay decoded for whoever reads rows in any order."""


class RowReader(Protocol):
    """Reader of rows by their numbers; `LazyRows` makes a sequence of it."""

    def count(self) -> int:
        """Number of rows."""
        ...

    def read(self, start: int, stop: int) -> Iterator[Row]:
        """The rows from `start` to before `stop`, in their order."""
        ...


class LazyRows(Sequence[Row]):
    """A sequence of rows over a table, or over a part of one."""

    def __init__(self, table: RowReader, *, start: int = 0, stop: int | None = None) -> None:
        self._table = table
        self._start = start
        self._stop = table.count() if stop is None else min(stop, table.count())

    def __len__(self) -> int:
        return max(0, self._stop - self._start)

    def __iter__(self) -> Iterator[Row]:
        return self._table.read(self._start, self._stop)

    def __eq__(self, other: object) -> bool:
        """Equal to any sequence of the same rows."""
        return isinstance(other, Sequence) and len(other) == len(self) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # as of a list

    @overload
    def __getitem__(self, place: int) -> Row: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Row]: ...

    def __getitem__(self, place: int | slice) -> Row | Sequence[Row]:
        if isinstance(place, slice):
            start, stop, step = place.indices(len(self))
            if step != 1:
                return [self[number] for number in range(start, stop, step)]
            return LazyRows(self._table, start=self._start + start, stop=self._start + max(start, stop))
        number = range(len(self))[place]
        return next(self._table.read(self._start + number, self._start + number + 1))


class ParquetTable:
    """Parquet files, one behind the other.

    Raises:
        UsageError: a file is no parquet file.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pa.set_memory_pool(pa.system_memory_pool())  # its own keeps 20 MB that nobody uses again
        self._groups: list[tuple[ParquetFile, int]] = []
        self._sizes: list[int] = []
        for file in files:
            try:
                opened = pq.ParquetFile(file, memory_map=True)
            except (pa.ArrowException, OSError) as error:
                first = str(error).strip().split("\n")[0].rstrip(".")
                raise UsageError(f"{file} is no parquet file that can be read: {first}.") from error
            self._groups += [(opened, group) for group in range(opened.num_row_groups)]
            self._sizes += [opened.metadata.row_group(group).num_rows for group in range(opened.num_row_groups)]
        self._ends = list(accumulate(self._sizes))
        self._kept = lru_cache(maxsize=GROUPS_KEPT)(self._decoded)

    def count(self) -> int:
        """Number of rows."""
        return self._ends[-1] if self._ends else 0

    def read(self, start: int, stop: int) -> Iterator[Row]:
        """The rows from `start` to before `stop`. A single row comes from a group that stays decoded."""
        group = bisect_right(self._ends, start)
        while start < min(stop, self.count()):
            first = self._ends[group] - self._sizes[group]
            end = min(stop, self._ends[group])
            if stop - start == 1:
                yield self._kept(group)[start - first]
            else:
                yield from self._rows(group, start - first, end - first)
            start, group = end, group + 1

    def _rows(self, group: int, start: int, stop: int) -> Iterator[Row]:
        file, number = self._groups[group]
        first = self._ends[group] - self._sizes[group]
        at = 0
        for batch in file.iter_batches(batch_size=ROWS_AT_ONCE, row_groups=[number]):
            if at + len(batch) > start:
                yield from _decode(
                    batch.slice(max(0, start - at), stop - max(start, at)), before=first + max(at, start)
                )
            at += len(batch)
            if at >= stop:
                return

    def _decoded(self, group: int) -> list[Row]:
        return list(self._rows(group, 0, self._sizes[group]))


def class_names(file: Path, column: str) -> tuple[str, ...]:
    """The names that `datasets` stored for the numbers of a column of a parquet file; none where it stored none."""
    import pyarrow.parquet as pq

    try:
        features = parse_json((pq.read_schema(file).metadata or {})[b"huggingface"])["info"]["features"]
        found = features[column]["names"] if features[column]["_type"] == "ClassLabel" else ()
    except (KeyError, TypeError, ValueError):
        return ()
    return tuple(map(str, found)) if isinstance(found, list) else ()


def _decode(batch: "RecordBatch", *, before: int) -> list[Row]:
    """The rows of a piece that has so many rows before it."""
    try:
        return list(batch.to_pylist())
    except UnicodeDecodeError as error:
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            for number, value in enumerate(column):
                try:
                    value.as_py()
                except UnicodeDecodeError as found:
                    byte = found.object[found.start]
                    raise UsageError(
                        f"row {before + number}, column {name!r}: byte {found.start}, 0x{byte:02x}, "
                        "is not UTF-8; write the file again from text that is."
                    ) from error
        raise


class Hosted(Protocol):
    """`datasets.Dataset`, which maps its files into memory."""

    def __len__(self) -> int: ...

    def select(self, indices: range) -> Iterable[Row]: ...


class HubTable:
    """A table of `datasets`."""

    def __init__(self, dataset: Hosted) -> None:
        self._dataset = dataset

    def count(self) -> int:
        """Number of rows."""
        return len(self._dataset)

    def read(self, start: int, stop: int) -> Iterator[Row]:
        """The rows from `start` to before `stop`."""
        for row in self._dataset.select(range(start, stop)):
            yield dict(row)


class Parts:
    """Sequences of rows one behind the other, as one table."""

    def __init__(self, parts: Sequence[Sequence[Row]]) -> None:
        self._parts = parts
        self._ends = list(accumulate(map(len, parts)))

    def count(self) -> int:
        """Number of rows."""
        return self._ends[-1] if self._ends else 0

    def read(self, start: int, stop: int) -> Iterator[Row]:
        """The rows from `start` to before `stop`."""
        for part, end in zip(self._parts, self._ends, strict=True):
            first = end - len(part)
            if start < end and stop > first:
                yield from part[max(0, start - first) : stop - first]


@dataclass(frozen=True, kw_only=True)
class PickedRows:
    """Rows of a sequence by their numbers, as a table: read in one go from the first to the last."""

    rows: Sequence[Row] = field(repr=False)
    places: Ints
    """(N,), rising."""

    def count(self) -> int:
        """Number of rows."""
        return len(self.places)

    def read(self, start: int, stop: int) -> Iterator[Row]:
        """The rows from `start` to before `stop`."""
        wanted = self.places[start:stop].tolist()
        if len(wanted) == 1:
            yield self.rows[wanted[0]]
            return
        kept = frozenset(wanted)
        for place, row in enumerate(self.rows[wanted[0] : wanted[-1] + 1] if wanted else (), start=min(wanted or [0])):
            if place in kept:
                yield row


def joined(parts: Sequence[Sequence[Row]]) -> Sequence[Row]:
    """Sequences of rows one behind the other; they stay where they lie."""
    if len(parts) == 1:
        return parts[0]
    if any(isinstance(part, LazyRows) for part in parts):
        return LazyRows(Parts(parts))
    return [row for part in parts for row in part]
