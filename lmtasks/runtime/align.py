"""Padding on either side, or in the middle, brought to one side: what a runtime computes does not depend on it.

Many architectures count positions from the first column (T5, Marian, DistilBERT), so no mask makes them right under
padding on the left. Bringing the tokens to one side makes every architecture right, and drops columns that are padding
in all rows. Scores are right-padded (the end of a row does not reach back); prompts are left-padded, so that the last
column is every row's last token and the cache has no holes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lmtasks.records import Floats32, Ints, TokenBatch, TokenScores


@dataclass(frozen=True, kw_only=True)
class Aligned:
    """A batch brought to one side. Axes: T columns as given, A columns as aligned."""

    batch: TokenBatch
    """(B, A)"""
    places: Ints
    """(B, A): which column of the given batch stands here."""
    columns: int
    """T"""

    def restore(self, values: Floats32, *, padding: float = 0.0) -> Floats32:
        """(B, A, ...) -> (B, T, ...) in the given layout; padded positions hold `padding`."""
        rows, columns = np.nonzero(self.batch.mask)
        out = np.full((values.shape[0], self.columns, *values.shape[2:]), padding, dtype=np.float32)
        out[rows, self.places[rows, columns]] = values[rows, columns]
        return out

    def restore_scores(self, scores: TokenScores) -> TokenScores:
        """Scores of the aligned batch, (B, A - 1), in the given layout, (B, T - 1); 0 and False at padding."""
        out = no_scores(self.places.shape[0], self.columns)
        rows, columns = np.nonzero(self.batch.mask[:, 1:])
        places = self.places[rows, columns + 1] - 1
        out.logprobs[rows, places] = scores.logprobs[rows, columns]
        out.greedy[rows, places] = scores.greedy[rows, columns]
        return out


def align(batch: TokenBatch, *, side: Literal["left", "right"]) -> Aligned:
    """Bring the padding of every row to `side`, and drop columns without any token.

    >>> batch = TokenBatch(ids=np.array([[0, 5, 0, 6]]), mask=np.array([[False, True, False, True]]))
    >>> align(batch, side="right").batch.ids.tolist()
    [[5, 6]]
    """
    order: Ints = np.argsort(batch.mask if side == "left" else ~batch.mask, axis=1, kind="stable")
    longest = max(1, int(batch.mask.sum(axis=1).max(initial=1)))
    places = order[:, -longest:] if side == "left" else order[:, :longest]
    return Aligned(
        batch=TokenBatch(
            ids=np.take_along_axis(batch.ids, places, axis=1),
            mask=np.take_along_axis(batch.mask, places, axis=1),
            types=None if batch.types is None else np.take_along_axis(batch.types, places, axis=1),
        ),
        places=places,
        columns=batch.ids.shape[1],
    )


def no_scores(rows: int, columns: int) -> TokenScores:
    """Scores of rows that have nothing to be scored, (B, T - 1)."""
    shape = (rows, max(0, columns - 1))
    return TokenScores(logprobs=np.zeros(shape, dtype=np.float32), greedy=np.zeros(shape, dtype=np.bool_))


def join_scores(parts: Sequence[TokenScores]) -> TokenScores:
    """Scores of consecutive rows, put together."""
    return TokenScores(
        logprobs=np.concatenate([part.logprobs for part in parts]),
        greedy=np.concatenate([part.greedy for part in parts]),
    )
