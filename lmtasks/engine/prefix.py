"""Long beginnings that very many rows share (the worked examples before every question of a task) are read once, and
kept as keys and values for all batches of those rows.

Shorter runs of rows share inside a row (`tree.py`): a beginning is kept where the rows behind it fill a batch.

>>> rows = [list(range(100)) + [number, number] for number in range(800)]
>>> common_prefixes([102] * 800, wanted_from=[100] * 800, shared=[0] + [100] * 799)
[Run(start=0, stop=800, before=100)]
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from lmtasks.records import Ints

LEAST_PREFIX = 48
"""Tokens that are worth the way."""
LEAST_BEHIND = 1024
"""Tokens behind a prefix, of all rows together, so that its batches are full ones."""


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
