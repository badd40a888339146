"""A table as a value, before it is HTML or Markdown."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class TableCell:
    """One cell."""

    text: str
    detail: str = ""
    """Smaller, behind the text: an interval."""
    sort: float | str | None = None
    """What the column is sorted by; None sorts last."""
    best: bool = False
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
        self._texts: list[str] = []

    def number(self, text: str) -> int:
        """The note's number."""
        if text not in self._texts:
            self._texts.append(text)
        return self._texts.index(text) + 1

    @property
    def texts(self) -> tuple[str, ...]:
        """In order."""
        return tuple(self._texts)
