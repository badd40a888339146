"""Rows to score, as the score graph reads them: what each column sees, where it stands, and which places are wanted.

Axes: B rows, T columns, P columns before them, S wanted tokens, W different wanted places.

>>> sees = tree_mask(np.array([[4, 4, 3, 4]]))  # tokens a b, then c and d behind b
>>> sees[0].astype(int).tolist()
[[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 0, 1]]
>>> sees.sum(axis=-1) - 1  # positions
array([[0, 1, 2, 2]])
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lmtasks.records import Bools, Floats, Floats32, Ints

SHUT = -1e30
"""What is added to the score of a key that is not seen."""


@dataclass(frozen=True, kw_only=True)
class Packed:
    """Inputs of the score graph."""

    ids: Ints
    """(B, T)"""
    positions: Ints
    """(B, T)"""
    bias: Floats32
    """(B, 1, T, P + T); (1, 1, T, P + T) where all rows are alike."""
    new: Ints
    """(B,): how many columns of each row are tokens."""


def tree_mask(subtree_end: Ints) -> Bools:
    """(B, T) -> (B, T, T): does the token of the first column see that of the second? Each sees itself.
    `subtree_end` is that of `Runtime.score`."""
    columns = np.arange(subtree_end.shape[1])
    own = columns[:, None] == columns  # padding sees itself at least: a softmax over nothing is no number
    found: Bools = ((columns[:, None] >= columns) & (columns[:, None] < subtree_end[:, None, :])) | own
    return found


def plain_rows(ids: Ints, lengths: Ints, subtree_end: Ints | None) -> Packed:
    """Rows padded on the right, one beside the other."""
    rows, columns = ids.shape
    if subtree_end is None:  # attention is causal by itself
        positions = np.tile(np.arange(columns), (rows, 1))
        bias = np.zeros((1, 1, columns, columns), dtype=np.float32)
    else:
        sees = tree_mask(subtree_end)
        positions, bias = sees.sum(axis=-1) - 1, _bias(sees)[:, None]
    return Packed(ids=np.ascontiguousarray(ids), positions=positions, bias=bias, new=lengths)


def one_row(ids: Ints, lengths: Ints, subtree_end: Ints | None, *, before: int) -> tuple[Packed, Ints]:
    """Rows padded on the right, one behind the other in a single row behind `before` others: that row's keys and values
    are then read once, and not copied for every row.

    Returns:
        Besides, where each row begins.
    """
    total = int(lengths.sum())
    starts = np.cumsum(lengths) - lengths
    positions = np.zeros((1, total), dtype=np.int64)
    sees = np.zeros((1, total, total), dtype=np.bool_)
    for row, (start, length) in enumerate(zip(starts.tolist(), lengths.tolist(), strict=True)):
        place = slice(start, start + length)
        inside = np.full((1, length), length) if subtree_end is None else subtree_end[[row], :length]
        sees[0, place, place] = tree_mask(inside)[0]
        positions[0, place] = before + sees[0, place, place].sum(axis=-1) - 1
    bias = np.zeros((1, 1, total, before + total), dtype=np.float32)
    bias[0, 0, :, before:] = _bias(sees[0])
    packed = np.concatenate([row[:length] for row, length in zip(ids, lengths, strict=True)])[None]
    return Packed(ids=packed, positions=positions, bias=bias, new=np.array([total])), starts


def row_groups(shares: Floats) -> Iterator[slice]:
    """Rows beside each other that together take no more than all there is; one that takes more stands alone.

    Args:
        shares: (B,): what each row takes, of 1.

    >>> list(row_groups(np.array([0.5, 0.5, 1.5, 0.4])))
    [slice(0, 2, None), slice(2, 3, None), slice(3, 4, None)]
    """
    first, total = 0, 0.0
    for row, share in enumerate(shares.tolist()):
        if row > first and total + share > 1:
            yield slice(first, row)
            first, total = row, 0.0
        total += share
    yield slice(first, len(shares))


def _bias(sees: Bools) -> Floats32:
    return np.where(sees, np.float32(0), np.float32(SHUT))
