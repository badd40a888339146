"""Rows of tokens become batches: which rows stand together, and how they are padded.

Axes: B batch, T time (tokens).
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from lmtasks.errors import UsageError
from lmtasks.records import Ints, TokenBatch

SPREAD = 1.125
"""Shuffled, rows may stand together whose lengths differ by this factor or a little more."""


def pad(
    rows: Sequence[Sequence[int] | Ints],
    *,
    pad_id: int,
    types: Sequence[Sequence[int]] | None = None,
    side: Literal["left", "right"] = "right",
) -> TokenBatch:
    """Pad rows to the longest of them.

    Args:
        rows: B rows of token ids, at least one.
        pad_id: the id at padded positions; the mask is False there.
        types: segment ids, as long as `rows`; padded with 0.
        side: where the padding stands.

    >>> pad([[5, 6], [7]], pad_id=0, side="left").ids.tolist()
    [[5, 6], [0, 7]]
    """
    if not rows:
        raise UsageError("a batch needs at least one row, was given none.")
    if len(rows) == 1 and len(rows[0]):  # a text by itself: 6 us instead of 41
        ids = np.array([rows[0]], dtype=np.int64)
        alone = None if types is None else np.array([types[0]], dtype=np.int64)
        return TokenBatch(ids=ids, mask=np.ones(ids.shape, dtype=np.bool_), types=alone)
    lengths = np.array([len(row) for row in rows])
    positions = np.arange(max(1, lengths.max()))
    starts = np.zeros_like(lengths) if side == "right" else lengths.max() - lengths
    mask = (positions >= starts[:, None]) & (positions < (starts + lengths)[:, None])
    return TokenBatch(ids=_fill(rows, mask, pad_id), mask=mask, types=None if types is None else _fill(types, mask, 0))


def plan_batches(
    lengths: Sequence[int], *, tokens_per_batch: int, seed: int | None = None, max_rows: int | None = None
) -> tuple[tuple[int, ...], ...]:
    """Indices of rows that stand together: near lengths, at most `tokens_per_batch` positions with padding counted.

    A row longer than that has a batch of its own. Each index stands in exactly one batch.

    Args:
        lengths: tokens of each row.
        tokens_per_batch: most positions (B x T) of a batch.
        seed: None: longest first, then in the order given, so that memory runs out at once or never. A number: which
            rows meet, and the order of the batches, are drawn anew with each seed.
        max_rows: most rows of a batch.

    >>> plan_batches([3, 9, 3, 8], tokens_per_batch=18)
    ((1, 3), (0, 2))
    """
    if tokens_per_batch < 1 or (max_rows is not None and max_rows < 1):
        raise UsageError(f"a batch must hold 1 token and 1 row or more, was {tokens_per_batch} and {max_rows}.")
    sizes = np.asarray(lengths, dtype=np.int64)
    if seed is None:
        order = np.argsort(-sizes, kind="stable")
        return _fill_batches(order, sizes, tokens_per_batch=tokens_per_batch, max_rows=max_rows)
    draw = np.random.default_rng(seed)
    mixed = draw.permutation(len(sizes))
    buckets = np.ceil(np.log(np.maximum(sizes[mixed], 1)) / np.log(SPREAD))
    batches = _fill_batches(
        mixed[np.argsort(-buckets, kind="stable")], sizes, tokens_per_batch=tokens_per_batch, max_rows=max_rows
    )
    return tuple(batches[number] for number in draw.permutation(len(batches)))


def _fill(
    rows: Sequence[Sequence[int] | Ints], mask: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], value: int
) -> Ints:
    filled = np.full(mask.shape, value, dtype=np.int64)
    filled[mask] = np.concatenate([np.asarray(row, dtype=np.int64) for row in rows])
    return filled


def _fill_batches(
    order: Ints, sizes: Ints, *, tokens_per_batch: int, max_rows: int | None
) -> tuple[tuple[int, ...], ...]:
    batches: list[list[int]] = []
    longest = 0
    for index in order.tolist():
        longest = max(longest, int(sizes[index]))
        full = not batches or (len(batches[-1]) + 1) * longest > tokens_per_batch or len(batches[-1]) == max_rows
        if full:
            batches.append([])
            longest = int(sizes[index])
        batches[-1].append(index)
    return tuple(tuple(batch) for batch in batches)
