"""Wanted tokens as plain rows, for a graph that scores each next token of a row and no other.

Axes: B rows given, G rows of the grid, T columns of the grid, S wanted tokens.
"""

from dataclasses import dataclass

import numpy as np

from lmtasks.records import Ints, TokenBatch, TokenTargets
from lmtasks.runtime.align import align


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Rows in which every wanted token stands behind what it is to follow."""

    batch: TokenBatch
    """(G, T), padded on the right."""
    origin: Ints
    """(G,): the given row that each one was made from."""
    rows: Ints
    """(S,): where each wanted token's score stands among the grid's (G, T - 1): row, ..."""
    columns: Ints
    """... and column."""


def grid_of(batch: TokenBatch, wanted: TokenTargets) -> Grid:
    """A given row serves all wanted tokens that it holds itself, and one more behind its end; each other one gets a row
    of its own.

    >>> rows = TokenBatch(ids=np.array([[5, 6]]), mask=np.ones((1, 2), dtype=np.bool_))
    >>> asked = TokenTargets(rows=np.array([0, 0, 0]), columns=np.array([0, 1, 1]), tokens=np.array([6, 7, 8]))
    >>> grid = grid_of(rows, asked)
    >>> grid.batch.ids.tolist(), grid.rows.tolist(), grid.columns.tolist()
    ([[5, 6, 7], [5, 6, 8]], [0, 0, 1], [0, 1, 1])
    """
    aligned = align(batch, side="right")
    columns = aligned.columns_of(wanted)
    read = [row[mask].tolist() for row, mask in zip(aligned.batch.ids, aligned.batch.mask, strict=True)]
    asked = list(zip(wanted.rows.tolist(), columns.tolist(), wanted.tokens.tolist(), strict=True))
    held = [read[row][column + 1 : column + 2] == [token] for row, column, token in asked]
    made: list[list[int]] = []
    origin: list[int] = []
    behind: dict[tuple[int, int, int], int] = {}
    whole: dict[int, int] = {}
    for (row, column, token), inside in zip(asked, held, strict=True):
        if not inside and (row, column, token) not in behind:
            if column + 1 == len(read[row]):
                whole.setdefault(row, len(made))
            behind[row, column, token] = len(made)
            made.append([*read[row][: column + 1], token])
            origin.append(row)
    for (row, _, _), inside in zip(asked, held, strict=True):
        if inside and row not in whole:
            whole[row] = len(made)
            made.append(read[row])
            origin.append(row)
    places = [whole[cell[0]] if inside else behind[cell] for cell, inside in zip(asked, held, strict=True)]
    return Grid(batch=_padded(made), origin=np.array(origin), rows=np.array(places), columns=columns)


def _padded(rows: list[list[int]]) -> TokenBatch:
    shape = (len(rows), max(map(len, rows)))
    ids, mask = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.bool_)
    for number, row in enumerate(rows):
        ids[number, : len(row)], mask[number, : len(row)] = row, True
    return TokenBatch(ids=ids, mask=mask)
