"""Padding on either side, or in the middle, brought to one side: what a runtime computes does not depend on it.

Many architectures count positions from the first column (T5, Marian, DistilBERT), so no mask makes them right under
padding on the left. Bringing the tokens to one side makes every architecture right, and drops columns that are padding
in all rows. Scored rows are right-padded (the end of a row does not reach back); prompts are left-padded, so that the
last column is every row's last token and the cache has no holes.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from lmtasks.records import Floats32, Ints, TokenBatch, TokenTargets


@dataclass(frozen=True, kw_only=True)
class Aligned:
    """A batch brought to one side. Axes: T columns as given, A columns as aligned."""

    batch: TokenBatch
    """(B, A)"""
    columns: int
    """T"""
    places: Ints | None
    """(B, A): which column of the given batch stands here; None: nothing is padded, and all stands as it was given."""

    @cached_property
    def lengths(self) -> Ints:
        """(B,): tokens of each row."""
        found: Ints = self.batch.mask.sum(axis=1)
        return found

    def restore(self, values: Floats32, *, padding: float = 0.0) -> Floats32:
        """(B, A, ...) -> (B, T, ...) in the given layout; padded positions hold `padding`."""
        if self.places is None:
            return values
        rows, columns = np.nonzero(self.batch.mask)
        out = np.full((values.shape[0], self.columns, *values.shape[2:]), padding, dtype=np.float32)
        out[rows, self.places[rows, columns]] = values[rows, columns]
        return out

    def columns_of(self, targets: TokenTargets) -> Ints:
        """(S,): where the columns of the targets stand now."""
        if self.places is None:
            return targets.columns
        moved = np.zeros((self.places.shape[0], self.columns), dtype=np.int64)
        np.put_along_axis(moved, self.places, np.arange(self.places.shape[1])[None], axis=1)
        found: Ints = moved[targets.rows, targets.columns]
        return found


def align(batch: TokenBatch, *, side: Literal["left", "right"]) -> Aligned:
    """Bring the padding of every row to `side`, and drop columns without any token.

    >>> batch = TokenBatch(ids=np.array([[0, 5, 0, 6]]), mask=np.array([[False, True, False, True]]))
    >>> align(batch, side="right").batch.ids.tolist()
    [[5, 6]]
    """
    if batch.mask.shape[1] and b"\0" not in batch.mask.tobytes():  # as where a text stands by itself; `all` takes 2 us
        whole = TokenBatch(ids=np.ascontiguousarray(batch.ids), mask=batch.mask, types=batch.types)
        return Aligned(batch=whole, columns=batch.ids.shape[1], places=None)
    lengths: Ints = batch.mask.sum(axis=1)
    order: Ints = np.argsort(batch.mask if side == "left" else ~batch.mask, axis=1, kind="stable")
    longest = max(1, int(lengths.max(initial=1)))
    places = order[:, -longest:] if side == "left" else order[:, :longest]
    return Aligned(
        batch=TokenBatch(
            ids=np.take_along_axis(batch.ids, places, axis=1),
            mask=np.take_along_axis(batch.mask, places, axis=1),
            types=None if batch.types is None else np.take_along_axis(batch.types, places, axis=1),
        ),
        columns=batch.ids.shape[1],
        places=places,
    )


def every_next(batch: TokenBatch) -> tuple[TokenBatch, TokenTargets]:
    """Rows to read, and targets, that score every token of whole rows behind those before it.

    A row's last token is a target, and need not be read; so a row may be one token longer than the model's input.

    >>> read, targets = every_next(TokenBatch(ids=np.array([[5, 6, 7]]), mask=np.ones((1, 3), dtype=np.bool_)))
    >>> read.ids[read.mask].tolist(), targets.columns.tolist(), targets.tokens.tolist()
    ([5, 6], [0, 1], [6, 7])
    """
    mask = batch.mask
    last = mask.shape[1] - 1 - mask[:, ::-1].argmax(axis=1)
    read = mask & (np.arange(mask.shape[1]) != last[:, None])
    rows, columns = np.nonzero(read)
    following = np.zeros_like(rows)
    for row in range(len(mask)):
        (real,) = np.nonzero(mask[row])
        following[rows == row] = batch.ids[row, real[1:]]
    return TokenBatch(ids=batch.ids, mask=read), TokenTargets(rows=rows, columns=columns, tokens=following)
