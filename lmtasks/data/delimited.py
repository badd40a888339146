"""CSV and TSV: lines become cells, and cells become rows in which a column of numbers holds numbers."""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from lmtasks.errors import UsageError
from lmtasks.records import Row
from lmtasks.task.task import Reading

# Numbers as a program writes them; anything else (007, +1, 1e5, 1,000) stays text.
INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")
NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)\.[0-9]+(?:[eE][+-]?[0-9]+)?")

DELIMITERS = {"csv": ",", "tsv": "\t"}


def cells_of(lines: Iterable[str], *, file: Path, delimiter: str, quoted: bool) -> Iterator[list[str]]:
    """Lines of cells, the header first; each line as long as the header.

    Args:
        lines: with their ends; one is taken only when its cells are asked for.
        file: for errors.
        quoted: quotes hold cells together; else they are characters like any other.

    Raises:
        UsageError: a line has more or fewer cells than the first, or a quote is never closed.
    """
    # The limit on a cell's length is the csv module's own global; raising it changes no result.
    csv.field_size_limit(max(csv.field_size_limit(), file.stat().st_size))
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    reader = csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=quoted)
    first: list[str] = []
    try:
        for cells in reader:
            if not cells:
                continue
            first = first or cells
            if len(cells) != len(first):
                raise UsageError(
                    f"{file}, line {reader.line_num} has {len(cells)} cells, but the header names {len(first)} "
                    f"columns ({', '.join(first)}); put cells that hold {delimiter!r} in double quotes."
                )
            yield cells
    except csv.Error as error:
        raise UsageError(f"{file}, line {reader.line_num} is no {file.suffix[1:] or 'csv'}: {error}.") from error


class Columns:
    """The columns of a file: their names, and what their cells are once all were seen.

    Args:
        first: the first line's cells.
        file: for errors.
        reading: names that the task gives, in place of the file's own or where it has none.

    Raises:
        UsageError: a name is missing or stands twice, or there are more or fewer names than columns.
    """

    def __init__(self, first: Sequence[str], *, file: Path, reading: Reading) -> None:
        given = reading.column_names
        if given is not None and len(given) != len(first):
            raise UsageError(
                f"{file} has {len(first)} columns, but column_names names {len(given)} ({', '.join(given)})."
            )
        self.names = [name.strip() for name in (first if given is None else given)]
        self.first_is_row = given is not None and not reading.header
        """Is the first line no header but a row?"""
        if len(set(self.names)) != len(self.names) or "" in self.names:
            raise UsageError(
                f"{file}: the first line must name each column, once; it is "
                f"{', '.join(repr(name) for name in self.names)}."
            )
        self._filled = [False] * len(self.names)
        self._integers = [True] * len(self.names)
        self._numbers = [True] * len(self.names)

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
        return {name: self._value(place, cells[place]) for place, name in enumerate(self.names)}

    def _value(self, place: int, cell: str) -> object:
        if not self._numbers[place] or not self._filled[place]:
            return cell
        if not cell:
            return None
        return int(cell) if self._integers[place] else float(cell)
