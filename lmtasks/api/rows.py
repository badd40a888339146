"""Rows as people hold them in Python: a pandas or polars DataFrame, or a list of dicts.

>>> held_rows([{"comment": "good", "stars": 5}, {"comment": "poor", "stars": float("nan")}]).rows
[{'comment': 'good', 'stars': 5}, {'comment': 'poor', 'stars': None}]
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from lmtasks.data.rows import fingerprint
from lmtasks.errors import UsageError
from lmtasks.records import Row
from lmtasks.settings.bounds import shown
from lmtasks.task.task import SPLITS, HeldRows


@runtime_checkable
class DataFrame(Protocol):
    """A table of pandas, by the one method of it that is used."""

    def to_dict(self, orient: str) -> Sequence[Mapping[Hashable, object]]:
        """The rows, for orient `records`."""
        ...


@runtime_checkable
class PolarsFrame(Protocol):
    """A table of polars, by the one method of it that is used."""

    def to_dicts(self) -> Sequence[Mapping[str, object]]:
        """The rows."""
        ...


TableLike = DataFrame | PolarsFrame | Iterable[Mapping[str, object]]
GivenRows = TableLike | Mapping[str, TableLike]
"""Undivided rows, or a table for each of train, validation and test."""


def held_rows(given: GivenRows) -> HeldRows:
    """The rows as a task takes them; NaN, NaT and NA become None, NumPy's numbers and arrays Python's.

    Raises:
        UsageError: no rows, or something else than rows.
    """
    if isinstance(given, Mapping) and not isinstance(given, DataFrame):
        other = [str(name) for name in given if name not in SPLITS]
        if other or not given:
            raise UsageError(
                f"rows by split are called {', '.join(SPLITS)}, was {other[0] if other else 'nothing'!r}; give a table "
                "or a list of dicts, or one for each split."
            )
        splits = {str(split): _rows(rows) for split, rows in given.items()}
        held = HeldRows(splits=splits)
    else:
        held = HeldRows(rows=_rows(given))
    return HeldRows(rows=held.rows, splits=held.splits, fingerprint=fingerprint(held.all_rows))


def _rows(given: object) -> list[Row]:
    rows: object = given
    if isinstance(given, PolarsFrame):
        rows = given.to_dicts()
    elif isinstance(given, DataFrame) and not isinstance(given, Mapping):
        rows = given.to_dict(orient="records")
    if isinstance(rows, str | bytes | Mapping) or not isinstance(rows, Iterable):
        raise UsageError(f"rows must be a table of pandas or polars or a list of dicts, was {shown(given)}.")
    found: list[Row] = []
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            raise UsageError(f"row {number} (counted from 1) must be a dict of columns, was {shown(row)}.")
        found.append({str(column): _plain(value) for column, value in row.items()})
    if not found:
        raise UsageError("the given rows are empty; give one at least.")
    return found


def _plain(value: object) -> object:
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return None if value != value else float(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if type(value).__name__ in ("NAType", "NaTType"):  # pandas' own, which compare with nothing
        return None
    to_list = getattr(value, "tolist", None)  # NumPy's scalars and arrays
    return _plain(to_list()) if callable(to_list) else value
