"""A table as a value, before it is HTML or Markdown."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import inf

from lmtasks.report.format import MISSING

SPARSE = 0.5
"""A matrix with a smaller share of filled cells reads better as a list."""
FEW_COLUMNS = 4
"""So many fit on a phone: such a table stays as it is."""


@dataclass(frozen=True, kw_only=True)
class TableCell:
    """One cell."""

    text: str
    detail: str = ""
    """Smaller, behind the text: an interval."""
    sort: float | str | None = None
    """What the column is sorted by; None sorts last."""
    best: bool = False
    """Significantly better than every other one that it is compared with, or exactly so where nothing is uncertain."""
    quiet: bool = False
    """Not a number: not applicable, failed."""
    notes: tuple[int, ...] = ()
    """Numbers of the table's notes, from 1."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column."""

    title: str
    detail: str = ""
    """Smaller, below the title."""
    lower_is_better: bool = False
    """The first click on its title puts the smallest first."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One row. Its first cell is its name."""

    name: str
    detail: str = ""
    cells: tuple[TableCell, ...]
    group: str = ""
    """Rows of a group stand together under its title; empty: no title."""
    quiet: bool = False
    """A baseline, not a model."""
    notes: tuple[int, ...] = ()
    """On the name."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows under columns; `corner` is the title above the rows' names."""

    caption: str
    corner: str
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()
    """Numbered from 1, printed below."""


class Notes:
    """Collects notes; an equal one keeps its number."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        """The note's number."""
        return self._numbers.setdefault(text, len(self._numbers) + 1)

    @property
    def texts(self) -> tuple[str, ...]:
        """In order."""
        return tuple(self._numbers)


def readable(table: Table, *, value: str, by_column: bool, corner: str) -> Table:
    """A matrix as it is, or, where most of its cells are empty, as a list with a group for each task.

    Args:
        value: the title of the list's one column of values.
        by_column: the matrix has a task a column (else a task a line); the other side is the list's lines.
        corner: the title above the names of the list's lines.
    """
    cells = [cell for line in table.lines for cell in line.cells]
    filled = sum(not _is_empty(cell) for cell in cells)
    if len(table.columns) <= FEW_COLUMNS or filled >= SPARSE * len(cells):
        return table
    lines = _by_column(table) if by_column else _by_line(table)
    return replace(table, corner=corner, columns=(Column(title=value),), lines=tuple(lines))


def _by_column(table: Table) -> Iterator[Line]:
    for place, column in enumerate(table.columns):
        rows = [(line, line.cells[place]) for line in table.lines if not _is_empty(line.cells[place])]
        for line, cell in sorted(rows, key=lambda row: _order(row[1], column.lower_is_better)):
            yield replace(line, cells=(cell,), group=_titled(column.title, column.detail))


def _by_line(table: Table) -> Iterator[Line]:
    for line in table.lines:
        for column, cell in zip(table.columns, line.cells, strict=True):
            if not _is_empty(cell):
                yield Line(
                    name=column.title, detail=column.detail, cells=(cell,), group=_titled(line.name, line.detail)
                )


def _is_empty(cell: TableCell) -> bool:
    """Was nothing asked? A cell that failed is not empty."""
    return cell.text == MISSING


def _order(cell: TableCell, lower_is_better: bool) -> float:
    if not isinstance(cell.sort, int | float):
        return inf
    return cell.sort if lower_is_better else -cell.sort


def _titled(name: str, detail: str) -> str:
    return f"{name} · {detail}" if detail else name
