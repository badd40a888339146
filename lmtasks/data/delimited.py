"""CSV and TSV: lines become cells, and cells become rows in which a column of numbers holds numbers.

What stands between cells is found in the first lines, where the suffix says something else than the file:

>>> dialect_of(lambda: ["text;label", "good, really;pos"], form="csv", reading=ReaderOptions())
Dialect(delimiter=';', quoted=True, lines_before=0)
>>> dialect_of(lambda: ["sep=,", "text,label", "good,pos"], form="csv", reading=ReaderOptions())
Dialect(delimiter=',', quoted=True, lines_before=1)
"""

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lmtasks.data.decoding import Notify, log_notice
from lmtasks.errors import UsageError
from lmtasks.records import Row
from lmtasks.task.formats import Format
from lmtasks.task.task import ReaderOptions

if TYPE_CHECKING:
    from _csv import Reader

# Numbers as a program writes them; anything else (007, +1, 1e5, 1,000) stays text.
INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")
NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)\.[0-9]+(?:[eE][+-]?[0-9]+)?")

DELIMITERS = {"csv": ",", "tsv": "\t"}
NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
NAMED_DELIMITER = re.compile(r'"?sep=(.)"?', re.IGNORECASE)
"""The first line by which Excel is told the delimiter."""
LOOKED_AT = 100
"""Lines of cells that a delimiter is found by."""
LONGEST_CELL = 2**31 - 1
"""Characters; the limit is the csv module's own global, and raising it changes no result."""


@dataclass(frozen=True)
class Dialect:
    """The way in which lines are divided into cells."""

    delimiter: str
    quoted: bool = True
    """Quotes hold cells together; else they are characters like any other."""
    lines_before: int = 0
    """Lines before the header."""

    def reader(self, lines: Iterable[str]) -> "Reader":
        """The csv module's reader."""
        csv.field_size_limit(LONGEST_CELL)
        quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if self.quoted else csv.QUOTE_NONE
        return csv.reader(lines, delimiter=self.delimiter, quoting=quoting, strict=self.quoted)

    def skip(self, lines: Iterator[str]) -> None:
        """Take the lines before the header."""
        for _ in range(self.lines_before):
            next(lines, None)

    @property
    def name(self) -> str:
        """The delimiter's name, for people."""
        return NAMES.get(self.delimiter, repr(self.delimiter))


def dialect_of(lines: Callable[[], Iterable[str]], *, form: Format, reading: ReaderOptions) -> Dialect:
    """The delimiter that a task names, or that the first line names (`sep=;`); else that of the suffix, unless the
    first lines have several cells each only by another one.

    Args:
        lines: the file's lines with their ends, anew with each call; the first hundred or so are taken.
    """
    usual = Dialect(reading.delimiter or DELIMITERS[form])
    if reading.delimiter is not None:
        return usual
    named = NAMED_DELIMITER.fullmatch(next(iter(lines()), "").rstrip("\r\n"))
    if named is not None:
        return Dialect(named[1], lines_before=1)
    if _columns(lines(), usual) > 1:
        return usual
    counts = {other: _columns(lines(), Dialect(other)) for other in NAMES if other != usual.delimiter}
    best = max(counts, key=lambda delimiter: counts[delimiter])
    return Dialect(best) if counts[best] > 1 else usual


def notify_dialect(dialect: Dialect, *, file: Path, form: Format, reading: ReaderOptions, notify: Notify) -> None:
    """Say that a file's cells are not divided as its suffix says, or are as its first line says."""
    if dialect.lines_before:
        notify(f"{file}: its first line says that its cells are divided by {dialect.name}, and it was read so.")
    elif reading.delimiter is None and dialect.delimiter != DELIMITERS[form]:
        notify(f"{file}: its cells are divided by {dialect.name}, and were read so.")


def _columns(lines: Iterable[str], dialect: Dialect) -> int:
    """How many cells the first lines have, all alike; 0 where they have not."""
    kept = list(islice(lines, 10 * LOOKED_AT))
    found = _counted(kept, dialect)
    if not found and dialect.delimiter == "\t":  # where a quote may be a character like any other
        found = _counted(kept, replace(dialect, quoted=False))
    return found


def _counted(lines: Iterable[str], dialect: Dialect) -> int:
    shape: LineShape | None = None
    try:
        for cells in islice(filter(None, dialect.reader(lines)), LOOKED_AT):
            shape = shape or LineShape.of(cells)
            if not shape.is_blank(cells) and shape.fit(cells) is None:
                return 0
    except csv.Error:
        return 0
    return shape.width if shape else 0


@dataclass(frozen=True, kw_only=True)
class LineShape:
    """The number of cells of a line."""

    width: int
    """As many as the first line."""
    named: int
    """Those up to the last one that the first line names; the others may be missing."""

    @staticmethod
    def of(first: Sequence[str]) -> "LineShape":
        """That of a header."""
        named = [place for place, cell in enumerate(first, start=1) if cell.strip()]
        return LineShape(width=len(first), named=max(named, default=len(first)))

    def is_blank(self, cells: Sequence[str]) -> bool:
        """True where a line is no row; an empty cell of a single column is one."""
        return not cells or (self.width > 1 and not any(cell.strip() for cell in cells))

    def fit(self, cells: Sequence[str]) -> list[str] | None:
        """The cells, as many as the header has; None where there are more, or fewer. Empty ones at the end, as they
        come of commas there, do not count."""
        if any(cell.strip() for cell in cells[self.width :]) or len(cells) < self.named:
            return None
        return [*cells[: self.width], *[""] * (self.width - len(cells))]


def cells_of(lines: Iterable[str], *, file: Path, dialect: Dialect) -> Iterator[list[str]]:
    """Lines of cells, the header first; each line as long as the header. Blank lines, and lines of empty cells, are
    left out.

    Args:
        lines: those behind `lines_before`, with their ends; one is taken only when its cells are asked for.
        file: for errors.

    Raises:
        UsageError: a line has more or fewer cells than the first, or a quote is never closed.
    """
    reader = dialect.reader(lines)
    shape: LineShape | None = None
    try:
        for cells in reader:
            if not cells:
                continue
            shape = shape or LineShape.of(first := cells)
            if shape.is_blank(cells):
                continue
            fitting = shape.fit(cells)
            if fitting is None:
                raise UsageError(
                    f"{file}, line {dialect.lines_before + reader.line_num} has {len(cells)} cells, but the header "
                    f"names {shape.width} columns ({', '.join(first)}); cells are divided by {dialect.name}, so put "
                    f"cells that hold {dialect.delimiter!r} in double quotes."
                )
            yield fitting
    except csv.Error as error:
        line = dialect.lines_before + reader.line_num
        raise UsageError(f"{file}, line {line} is no {file.suffix[1:] or 'csv'}: {error}.") from error


class Columns:
    """The columns of a file: their names, and what their cells are once all were seen. Columns without a name (an
    index that pandas wrote, a comma at the end of each line) are left out.

    Args:
        first: the first line's cells.
        file: for messages.
        reading: names that the task gives, in place of the file's own or where it has none.
        notify: called with a sentence about columns that are left out.

    Raises:
        UsageError: no column has a name, one stands twice, or there are more or fewer names than columns.
    """

    def __init__(
        self, first: Sequence[str], *, file: Path, reading: ReaderOptions, notify: Notify = log_notice
    ) -> None:
        given = reading.column_names
        if given is not None and len(given) != len(first):
            raise UsageError(
                f"{file} has {len(first)} columns, but column_names names {len(given)} ({', '.join(given)})."
            )
        names = [name.strip() for name in (first if given is None else given)]
        self.names = {place: name for place, name in enumerate(names) if name}
        """By the place of their cells."""
        self.first_is_row = given is not None and not reading.header
        """Is the first line no header but a row?"""
        twice = sorted({name for name in names if name and names.count(name) > 1})
        if twice or (names and not self.names):
            wrong = f"{', '.join(map(repr, twice))} more than once" if twice else "none"
            raise UsageError(
                f"{file}: the first line must name each column, once; it names {wrong}: {', '.join(first)}."
            )
        unnamed = [place for place, name in enumerate(names, start=1) if not name]
        if unnamed:
            which = f"column {unnamed[0]} of {len(names)} has" if len(unnamed) == 1 else f"{len(unnamed)} columns have"
            notify(f"{file}: {which} no name and {'is' if len(unnamed) == 1 else 'are'} left out.")
        self._filled = [False] * len(names)
        self._integers = [True] * len(names)
        self._numbers = [True] * len(names)

    def see(self, cells: Sequence[str]) -> None:
        """One more row."""
        for place, cell in enumerate(cells):
            if not cell:
                continue
            self._filled[place] = True
            if self._integers[place] and not INTEGER.fullmatch(cell):
                self._integers[place] = False
            if self._numbers[place] and not (INTEGER.fullmatch(cell) or NUMBER.fullmatch(cell)):
                self._numbers[place] = False

    def row(self, cells: Sequence[str]) -> Row:
        """A row that was seen. A column of numbers has numbers, and None where a cell is empty."""
        return {name: self._value(place, cells[place]) for place, name in self.names.items()}

    def _value(self, place: int, cell: str) -> object:
        if not self._numbers[place] or not self._filled[place]:
            return cell
        if not cell:
            return None
        return int(cell) if self._integers[place] else float(cell)
