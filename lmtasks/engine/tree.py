"""Rows that begin alike stand in one row: what they share is read once, and branches off behind it.

Rows are sorted, so those that share the most are neighbours, and each one branches off the path of the one before it.
Four choices behind a context of 100 tokens take 100 tokens and the choices; one-token choices take one place.

>>> import numpy as np
>>> rows = [np.array(row) for row in ([5, 6, 7], [5, 6, 8, 9])]
>>> unit = build_unit(rows, [0, 1], shared=[0, 2], before=0)
>>> unit.ids.tolist(), unit.reach.tolist()
([5, 6, 7, 8, 9], [5, 5, 3, 5, 5])
>>> [columns.tolist() for _, columns in unit.members]
[[0, 1, 2], [0, 1, 3, 4]]
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lmtasks.records import Ints
from lmtasks.runtime.base import Sharing


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One row that is read, for one or several of the rows that were asked for."""

    ids: Ints
    """(T,)"""
    reach: Ints
    """(T,): see `Runtime.score`."""
    members: tuple[tuple[int, Ints], ...]
    """Rows as they were numbered, each with the columns where its tokens stand."""
    branches: bool
    unshared: int
    """Tokens of the longest member."""


@dataclass(frozen=True, kw_only=True)
class TreeLimits:
    """How large a row of several may become."""

    longest: int
    """With what stands before it; 0: it may not branch. Rows that begin another one stand in it all the same."""
    tokens: int
    """Without it."""
    rows: int | None
    """No more tokens than so many of its members."""
    pairs_per_token: int = Sharing.pairs_per_token
    """See `Sharing`."""


def shared_lengths(rows: Sequence[Ints]) -> list[int]:
    """How many first tokens each row shares with the one before it; 0 for the first.

    >>> shared_lengths([np.array([5, 6]), np.array([5, 6, 7]), np.array([5, 8])])
    [0, 2, 1]
    """
    shared = [0] * len(rows)
    for number in range(1, len(rows)):
        one, two = rows[number - 1], rows[number]
        length = min(len(one), len(two))
        differ = one[:length] != two[:length]
        first = int(differ.argmax()) if length else 0
        shared[number] = first if length and differ[first] else length
    return shared


def group_rows(
    lengths: Sequence[int], numbers: Sequence[int], *, shared: Sequence[int], before: int, shape: TreeLimits
) -> list[list[int]]:
    """Which of the sorted rows, neighbours all, stand in one.

    A row joins where it saves more tokens than the longer row costs in attention.

    Args:
        lengths: of all rows.
        numbers: those that are to be grouped.
        shared: see `shared_lengths`.
        before: so many first tokens are read apart, and count for nothing here.
        shape: see there.
    """
    groups: list[list[int]] = []
    tokens, unshared, branches = 0, 0, False
    for place, number in enumerate(numbers):
        length = lengths[number] - before
        if place:
            saved = shared[number] - before
            after = tokens + length - saved
            chain = not branches and shared[number] == lengths[numbers[place - 1]]
            pairs = after * (after + before) - tokens * (tokens + before) - length * (length + before)
            most = shape.tokens if shape.rows is None else min(shape.tokens, shape.rows * max(unshared, length))
            worth = saved * shape.pairs_per_token > pairs and after + before <= shape.longest and after <= most
            if chain or worth:
                groups[-1].append(number)
                tokens, unshared, branches = after, max(unshared, length), branches or not chain
                continue
        groups.append([number])
        tokens, unshared, branches = length, length, False
    return groups


def build_unit(rows: Sequence[Ints], numbers: Sequence[int], *, shared: Sequence[int], before: int) -> Unit:
    """The row in which these rows, sorted neighbours, stand together.

    Args:
        rows: all rows.
        numbers: of those that stand in it.
        shared: see `shared_lengths`.
        before: so many first tokens are read apart.
    """
    kept = [0, *(shared[number] - before for number in numbers[1:])]
    total = sum(len(rows[number]) - before - skip for number, skip in zip(numbers, kept, strict=True))
    ids, reach = np.zeros(total, dtype=np.int64), np.zeros(total, dtype=np.int64)
    path: Ints = np.zeros(0, dtype=np.int64)
    members: list[tuple[int, Ints]] = []
    count, branches = 0, False
    for number, skip in zip(numbers, kept, strict=True):
        new = rows[number][before + skip :]
        branches = branches or len(path) > skip
        reach[path[skip:]] = count
        ids[count : count + len(new)] = new
        path = np.concatenate([path[:skip], np.arange(count, count + len(new))])
        count += len(new)
        members.append((number, path))
    reach[path] = count
    unshared = max(len(rows[number]) - before for number in numbers)
    return Unit(ids=ids, reach=reach, members=tuple(members), branches=branches, unshared=unshared)
