"""Read a split of a data set that lies on this machine, whole or cut.

A split may be cut as `datasets` writes it: `train[:100]`, `train[10%:20%]`, `train[-50:]`, `train+validation`.

Large JSON Lines, CSV and TSV files stay on the disk: of each row only the place where it begins is kept.

A million short rows as Python dicts take most of a gigabyte; their places take 8 MB. What is read is what `files.py`
reads of a small file, with the same errors; every row is looked at once when the file is opened.
"""

import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import IO

from lmtasks.data.decoding import Encoding, Notify, encoding_of, log_notice
from lmtasks.data.delimited import Columns, Dialect, LineShape, cells_of, dialect_of, notify_dialect
from lmtasks.data.files import json_row, read_file
from lmtasks.data.mirror import LocalSet
from lmtasks.data.table import LazyRows, ParquetTable, RowReader, joined
from lmtasks.errors import UsageError, WorkError
from lmtasks.records import Row
from lmtasks.task.formats import SUFFIXES, Format
from lmtasks.task.task import ReaderOptions

PART = re.compile(r"\s*([^\[\]+]+?)\s*(\[[^\[\]]*\](?:\([a-z0-9_]+\))?)?\s*(?:\+|$)")

LARGE_BYTES = 8_000_000
"""From this size on a file's rows stay on the disk: smaller ones are read faster whole."""
ENDS = re.compile(rb"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
"""Lines with their ends, as the csv module wants them."""


def read_local(
    local: LocalSet, split: str, *, limit: int | None, notify: Notify = log_notice
) -> tuple[Sequence[Row], str]:
    """The rows of a split, at most `limit`, and the files that they came from.

    Raises:
        UsageError: no such split, a slice that cannot be cut, or a file that cannot be read.
    """
    parts = split_parts(split)
    whole = not any(cut for _, cut in parts)
    read = {name: _read_files(local, name, limit=limit if whole else None, notify=notify) for name, _ in parts}
    where = ", ".join(dict.fromkeys(_where(local, name) for name, _ in parts))
    rows = joined([read[name] for name, _ in parts]) if whole else _cut(split, read, where=where)
    return rows if limit is None else rows[:limit], where


def split_parts(split: str) -> tuple[tuple[str, str], ...]:
    """The names in a split's specification, each with its slice or an empty text.

    >>> split_parts("train[:10%]+validation")
    (('train', '[:10%]'), ('validation', ''))

    Raises:
        UsageError: it is not written as `datasets` writes splits.
    """
    parts: list[tuple[str, str]] = []
    at = 0
    while at < len(split):
        part = PART.match(split, at)
        if part is None:
            break
        parts.append((part[1], part[2] or ""))
        at = part.end()
    if at < len(split) or not parts or split.rstrip().endswith("+"):
        raise UsageError(f"{split!r} is no split; write `train`, `train[:100]`, `train[10%:20%]` or `train+test`.")
    return tuple(parts)


def _read_files(local: LocalSet, split: str, *, limit: int | None, notify: Notify) -> Sequence[Row]:
    """Parquet and large text files stay on the disk until a row is asked for; others are read whole."""
    parts: list[Sequence[Row]] = []
    files = local.files(split)
    if files and all(file.suffix.lower() == ".parquet" and file.is_file() for file in files):
        found = LazyRows(ParquetTable(files))
        return found if limit is None else found[:limit]
    for file in files:
        left = None if limit is None else limit - sum(map(len, parts))
        parts.append(open_file(file, fallback=local.form, limit=left, reading=local.reading, notify=notify))
        if limit is not None and sum(map(len, parts)) >= limit:
            break
    return joined(parts) if parts else []


def _cut(split: str, read: Mapping[str, Sequence[Row]], *, where: str) -> Sequence[Row]:
    # Imported for slices alone, because it takes seconds; the rounding of percentages is then exactly theirs.
    from datasets import ReadInstruction

    try:
        pieces = ReadInstruction.from_spec(split).to_absolute({name: len(rows) for name, rows in read.items()})
    except (ValueError, AssertionError) as error:
        raise UsageError(f"{split!r} cannot be cut from {where}: {error}") from error
    return joined([read[piece.splitname][piece.from_ : piece.to] for piece in pieces])


def _where(local: LocalSet, split: str) -> str:
    files = local.files(split)
    return str(files[0]) if len(files) == 1 else f"{local.where} ({len(files)} files of {split})"


def open_file(
    file: Path,
    *,
    fallback: Format | None = None,
    limit: int | None = None,
    reading: ReaderOptions | None = None,
    notify: Notify = log_notice,
) -> Sequence[Row]:
    """The rows of one file, as `read_file` has them; those of a large one stay on the disk.

    Raises:
        UsageError: as `read_file`.
        WorkError: while its rows are read, the file is changed.
    """
    form = SUFFIXES.get(file.suffix.lower(), fallback)
    table = None if form is None or not file.is_file() else _table(file, form, reading or ReaderOptions(), notify)
    if table is None:
        return read_file(file, fallback=fallback, limit=limit, reading=reading, notify=notify)
    rows = LazyRows(table)
    return rows if limit is None else rows[:limit]


def _table(file: Path, form: Format, reading: ReaderOptions, notify: Notify) -> RowReader | None:
    """None: the file is read whole, as small ones are, and those whose lines cannot be decoded one by one."""
    if form == "parquet":
        return ParquetTable([file])
    if file.stat().st_size < LARGE_BYTES or form not in ("jsonl", "csv", "tsv") or reading.encoding is not None:
        return None
    encoding = encoding_of(file, notify=notify)
    if encoding is None:
        return None
    places = _Places(file, encoding)
    if form == "jsonl":
        return JsonLinesTable(places)
    with ExitStack() as opened:
        begin = encoding.mark_bytes
        dialect = dialect_of(lambda: opened.enter_context(_Lines(places, at=begin)), form=form, reading=reading)
    notify_dialect(dialect, file=file, form=form, reading=reading, notify=notify)
    try:
        return CellsTable(places, reading=reading, dialect=dialect, notify=notify)
    except UsageError as error:  # as GLUE's, where a quote is a character like any other
        if dialect.delimiter != "\t":
            raise
        table = CellsTable(
            _Places(file, encoding), reading=reading, dialect=replace(dialect, quoted=False), notify=notify
        )
        notify(f"{file}: quotes were read as plain characters, since {error}")
        return table


class _Places:
    """A file of which some bytes are read again later."""

    def __init__(self, file: Path, encoding: Encoding) -> None:
        self.file = file
        self._stamp = self._now()
        self.encoding = encoding
        self.begins = array("Q")
        """Where each row begins."""

    def opened(self, place: int) -> IO[bytes]:
        """The file from a row on.

        Raises:
            WorkError: it was changed since its rows were counted.
        """
        if self._now() != self._stamp:
            raise WorkError(f"{self.file} was changed while it was read; start again when nothing writes to it.")
        stream = self.file.open("rb")
        stream.seek(place)
        return stream

    def _now(self) -> tuple[int, int]:
        stat = self.file.stat()
        return stat.st_size, stat.st_mtime_ns


class JsonLinesTable:
    """One object a line."""

    def __init__(self, places: _Places) -> None:
        self._places = places
        self._names: dict[str, None] = {}
        codec, at = self._places.encoding.codec, self._places.encoding.mark_bytes
        with self._places.opened(at) as stream:
            for number, line in enumerate(stream, start=1):
                row = json_row(line.decode(codec), file=places.file, number=number)
                if row is not None:
                    self._places.begins.append(at)
                    self._names.update(dict.fromkeys(row))
                at += len(line)

    def count(self) -> int:
        """Number of rows."""
        return len(self._places.begins)

    def read(self, start: int, stop: int) -> Iterator[Row]:
        """The rows from `start` to before `stop`, each with every column of the file."""
        left = min(stop, self.count()) - start
        if left <= 0:
            return
        with self._places.opened(self._places.begins[start]) as stream:
            for number, line in enumerate(stream, start=1):
                row = json_row(line.decode(self._places.encoding.codec), file=self._places.file, number=number)
                if row is None:
                    continue
                yield row if len(row) == len(self._names) else {name: row.get(name) for name in self._names}
                left -= 1
                if not left:
                    return


class CellsTable:
    """CSV or TSV."""

    def __init__(self, places: _Places, *, reading: ReaderOptions, dialect: Dialect, notify: Notify) -> None:
        self._places = places
        self._dialect = dialect
        with _Lines(places, at=places.encoding.mark_bytes) as lines:
            dialect.skip(lines)
            found = cells_of(lines, file=places.file, dialect=dialect)
            at, first = lines.at, next(found, None)
            self._shape = LineShape.of(first or ())
            self._columns = Columns(
                first or (), file=places.file, reading=reading if first else ReaderOptions(), notify=notify
            )
            if first is not None and self._columns.first_is_row:
                self._columns.see(first)
                places.begins.append(at)
            at = lines.at
            for cells in found:
                self._columns.see(cells)
                places.begins.append(at)  # blank lines before a row are passed over again when it is read
                at = lines.at

    def count(self) -> int:
        """Number of rows."""
        return len(self._places.begins)

    def read(self, start: int, stop: int) -> Iterator[Row]:
        """The rows from `start` to before `stop`."""
        left = min(stop, self.count()) - start
        if left <= 0:
            return
        with _Lines(self._places, at=self._places.begins[start]) as lines:
            for cells in self._dialect.reader(lines):
                fitting = None if self._shape.is_blank(cells) else self._shape.fit(cells)
                if fitting is None:  # blank; all others were seen to fit
                    continue
                yield self._columns.row(fitting)
                left -= 1
                if not left:
                    return


class _Lines(Iterator[str]):
    """Decoded lines with their ends, and where the next one begins."""

    def __init__(self, places: _Places, *, at: int) -> None:
        self.at = at
        self._codec = places.encoding.codec
        self._stream = places.opened(at)
        self._parts: Iterator[bytes] = iter(())

    def __enter__(self) -> "_Lines":
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def __next__(self) -> str:
        part = next(self._parts, None)
        if part is None:
            line = next(self._stream)
            self._parts = iter(ENDS.findall(line))
            part = next(self._parts)
        self.at += len(part)
        return part.decode(self._codec)
