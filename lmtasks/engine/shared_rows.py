"""Rows that share their beginning: what they share is read once.

A long beginning that very many rows share (the worked examples before every question of a task) is kept as keys and
values for all batches of those rows:

>>> common_prefixes([102] * 800, wanted_from=[100] * 800, shared=[0] + [100] * 799)
[Run(start=0, stop=800, before=100)]

Shorter runs of rows stand in one row, and branch off behind what they share.

Rows are sorted, so those that share the most are neighbours, and each one branches off the path of the one before it.
Four choices behind a context of 100 tokens take 100 tokens and the choices; one-token choices take one place.

>>> import numpy as np
>>> rows = [np.array(row) for row in ([5, 6, 7], [5, 6, 8, 9])]
>>> unit = build_unit(rows, [0, 1], shared=[0, 2], before=0)
>>> unit.ids.tolist(), unit.subtree_end.tolist()
([5, 6, 7, 8, 9], [5, 5, 3, 5, 5])
>>> [columns.tolist() for _, columns in unit.members]
[[0, 1, 2], [0, 1, 3, 4]]
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from lmtasks.records import Ints
from lmtasks.runtime.base import Sharing

LEAST_PREFIX = 48
"""Tokens that are worth the way."""
LEAST_BEHIND = 1024
"""Tokens behind a prefix, of all rows together, so that its batches are full ones."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One row that is read, for one or several of the rows that were asked for."""

    ids: Ints
    """(T,)"""
    subtree_end: Ints
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
    ids, subtree_end = np.zeros(total, dtype=np.int64), np.zeros(total, dtype=np.int64)
    path: Ints = np.zeros(0, dtype=np.int64)
    members: list[tuple[int, Ints]] = []
    count, branches = 0, False
    for number, skip in zip(numbers, kept, strict=True):
        new = rows[number][before + skip :]
        branches = branches or len(path) > skip
        subtree_end[path[skip:]] = count
        ids[count : count + len(new)] = new
        path = np.concatenate([path[:skip], np.arange(count, count + len(new))])
        count += len(new)
        members.append((number, path))
    subtree_end[path] = count
    unshared = max(len(rows[number]) - before for number in numbers)
    return Unit(ids=ids, subtree_end=subtree_end, members=tuple(members), branches=branches, unshared=unshared)


@dataclass(frozen=True, kw_only=True)
class Run:
    """Neighbours among the sorted rows."""

    start: int
    stop: int
    before: int
    """So many first tokens they share, and read apart; 0: none."""


def common_prefixes(lengths: Sequence[int], *, wanted_from: Sequence[int], shared: Sequence[int]) -> list[Run]:
    """All rows in runs, in order; those that share a prefix which is worth it with that prefix.

    Of prefixes inside each other (a description, then the examples of each subject) those are taken that save most.

    Args:
        lengths: tokens of the sorted rows.
        wanted_from: the first column of each row where a token is wanted; it stands behind the prefix.
        shared: how many first tokens each shares with the one before it.
    """
    if not lengths:
        return []
    common, first = np.array(shared), np.array(wanted_from)
    own = np.concatenate([[0], np.cumsum(np.array(lengths) - common)])
    nodes = _nodes(common, first, own)
    chosen: list[Run] = []
    best = [0] * len(nodes)
    picked: list[list[int]] = [[] for _ in nodes]
    for number in range(len(nodes) - 1, -1, -1):  # children come after their parents
        run, gain, children = nodes[number]
        below = sum(best[child] for child in children)
        if gain >= below:
            best[number], picked[number] = gain, [number] if gain else []
        else:
            best[number], picked[number] = below, [each for child in children for each in picked[child]]
    chosen = sorted((nodes[number][0] for number in picked[0]), key=lambda run: run.start)
    runs: list[Run] = []
    at = 0
    for run in [*chosen, Run(start=len(lengths), stop=len(lengths), before=0)]:
        if at < run.start:
            runs.append(Run(start=at, stop=run.start, before=0))
        if run.start < run.stop:
            runs.append(run)
        at = run.stop
    return runs


def _nodes(common: Ints, first: Ints, own: Ints) -> list[tuple[Run, int, list[int]]]:
    """Runs inside runs, each with what its prefix saves (0: not worth it) and the numbers of its children."""
    nodes: list[tuple[Run, int, list[int]]] = []
    waiting = [(0, len(common), -1)]
    while waiting:
        start, stop, parent = waiting.pop()
        inner = common[start + 1 : stop]
        least = int(inner.min()) if len(inner) else 0
        before = min(least, int(first[start:stop].min()))
        behind = int(own[stop] - own[start] + common[start]) - before
        worth = before >= LEAST_PREFIX and behind >= max(LEAST_BEHIND, 2 * before)
        if parent >= 0:
            nodes[parent][2].append(len(nodes))
        nodes.append((Run(start=start, stop=stop, before=before), before * behind if worth else 0, []))
        cuts = [start, *(start + 1 + np.flatnonzero(inner == least)).tolist(), stop]
        for one, two in pairwise(cuts):
            # A run that cannot fill a batch has no child that can.
            if two - one > 1 and two - one < stop - start and own[two] - own[one] + common[one] >= LEAST_BEHIND:
                waiting.append((one, two, len(nodes) - 1))
    return nodes
