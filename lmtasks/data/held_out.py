"""The rows of a single file, divided into those to learn from and those to be scored on.

A fifth of the rows of each label is for testing, the same for every model, seed and command: which rows depends on the
texts in the file alone. Rows with equal texts stand on one side, so that no test row was learned from, and their order
in the file changes nothing.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lmtasks.data.table import LazyRows, PickedRows
from lmtasks.errors import UsageError
from lmtasks.records import Row
from lmtasks.task.identity import folded
from lmtasks.task.task import Part

TEST_SHARE = 0.2


@dataclass(kw_only=True)
class _Texts:
    """Rows whose texts are equal."""

    rows: int = 0
    label: str = ""
    """The first of their labels in alphabetical order, as almost all have but one."""


def part_of(rows: Sequence[Row], part: Part, *, where: str) -> tuple[Sequence[Row], str]:
    """The rows of one part, in their order, and where they came from.

    Raises:
        UsageError: a column is missing, or there are too few rows to divide.
    """
    hashes = np.zeros(len(rows), dtype=np.uint64)
    groups: dict[int, _Texts] = defaultdict(_Texts)
    for number, row in enumerate(rows):
        missing = [column for column in (*part.texts, part.label) if column is not None and column not in row]
        if missing:
            raise UsageError(f"{where} has no column {missing[0]!r}; its columns: {', '.join(row)}.")
        key = _hash(row, part.texts)
        hashes[number] = key
        label = "" if part.label is None else folded(str(row[part.label]))
        group = groups[key]
        group.label = min(group.label, label) if group.rows else label
        group.rows += 1
    test = np.isin(hashes, np.fromiter(_for_testing(groups, where=where), dtype=np.uint64))
    places = np.flatnonzero(test if part.use == "test" else ~test)
    told = f"{where} ({len(places)} of {len(rows)} rows, for {'testing' if part.use == 'test' else 'training'})"
    if isinstance(rows, LazyRows):
        return LazyRows(PickedRows(rows=rows, places=places)), told
    return [rows[place] for place in places.tolist()], told


def _for_testing(groups: dict[int, _Texts], *, where: str) -> list[int]:
    """The hashes of the texts that are for testing."""
    if len(groups) < 2:
        raise UsageError(
            f"{where} holds one text, and cannot be divided into rows to learn from and rows to be scored on; give "
            "more rows, or a folder with train and test files."
        )
    strata: dict[str, list[int]] = defaultdict(list)
    for key in sorted(groups):  # as good as drawn, and the same in any order of the rows
        strata[groups[key].label].append(key)
    found = [key for keys in strata.values() for key in _fifth(groups, keys)]
    return found or _fifth(groups, sorted(groups))  # every text has a label of its own


def _fifth(groups: dict[int, _Texts], keys: Sequence[int]) -> list[int]:
    """A fifth of the rows, at least one text; none where there is only one."""
    if len(keys) < 2:
        return []
    wanted = max(1, round(TEST_SHARE * sum(groups[key].rows for key in keys)))
    taken: list[int] = []
    for key in keys:
        if groups[key].rows <= wanted:
            taken.append(key)
            wanted -= groups[key].rows
    return taken or [min(keys, key=lambda key: groups[key].rows)]


def _hash(row: Row, columns: Sequence[str]) -> int:
    text = "\x1f".join(folded(str(row[column])) for column in columns)
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, person=b"held out")
    return int.from_bytes(digest.digest(), "little")
