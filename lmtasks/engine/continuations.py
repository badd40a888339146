"""The best continuations of beams, found without sorting a vocabulary.

A row's logits are cut into blocks, of which only the largest are looked at. The k-th largest of them over all rows of a
prompt is reached by k continuations at least, so whatever lies below it is none of the k best ones. Blocks that reach
it are few, what is left in them is some dozens, and those are ranked exactly.

Logits are looked over a few rows at a time, which the processor's own cache then holds: 32 rows of 32,000 take 1.2 ms
of one core, most of it for their exponentials (AMD EPYC with AVX-512).

Axes: R rows (all beams of all prompts, in order), V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lmtasks.engine.sampling import check_finite
from lmtasks.records import Floats, Floats32

BLOCK = 256
PIECE_BYTES = 2**19
"""So many bytes of logits are looked at together: with as much scratch memory beside them they stay in a core's own
cache."""


@dataclass(frozen=True, kw_only=True)
class Continuation:
    """One of the best ones of a prompt."""

    logprob: float
    """of the whole text"""
    beam: int
    """which it continues, of the prompt's"""
    token: int


def continuations(
    logits: Floats32, gains: Floats, *, peaks: Floats32, beams: Sequence[int], counts: Sequence[int]
) -> list[list[Continuation]]:
    """The most likely continuations of each prompt, best first; of equals the first beam and token.

    Args:
        logits: next-token logits (R, V), without NaN.
        gains: what is added to each row's logits to get the log-probabilities of whole texts, (R,).
        peaks: of the logits, (R, blocks); see `block_peaks`.
        beams: number of beams of each prompt.
        counts: how many are wanted of each.

    >>> logits = np.log(np.array([[0.2, 0.8], [0.4, 0.6]], dtype=np.float32))
    >>> found = continuations(logits, np.array([0.0, -0.1]), peaks=block_peaks(logits), beams=[2], counts=[3])
    >>> [(each.beam, each.token) for each in found[0]]
    [(0, 1), (1, 1), (1, 0)]
    """
    ends = np.cumsum(beams)
    totals = peaks.astype(np.float64) + gains[:, None]
    least = np.empty(len(logits))
    for end, of, count in zip(ends.tolist(), beams, counts, strict=True):
        mine = totals[end - of : end].reshape(-1)
        least[end - of : end] = np.partition(mine, -count)[-count] if count <= mine.size else -np.inf
    # One step down in single precision: nothing is lost by rounding.
    floor = np.nextafter((least - gains).astype(np.float32), np.float32(-np.inf))
    rows, blocks = np.nonzero(peaks >= floor[:, None])
    columns = blocks[:, None] * BLOCK + np.arange(BLOCK)
    there = np.minimum(columns, logits.shape[1] - 1)  # the last block may be shorter
    found = logits[rows[:, None], there]
    at, beside = np.nonzero((found >= floor[rows][:, None]) & (columns == there))
    rows, tokens = rows[at], columns[at, beside]
    totals = found[at, beside].astype(np.float64) + gains[rows]
    borders = np.searchsorted(rows, [0, *ends.tolist()])
    ranked = []
    for number, (of, count) in enumerate(zip(beams, counts, strict=True)):
        part = slice(borders[number], borders[number + 1])
        best = np.argsort(-totals[part], kind="stable")[:count]  # they stand in the order of beams and tokens
        first = int(ends[number]) - of
        ranked.append(
            [
                Continuation(logprob=total, beam=row - first, token=token)
                for total, row, token in zip(
                    totals[part][best].tolist(), rows[part][best].tolist(), tokens[part][best].tolist(), strict=True
                )
            ]
        )
    return ranked


def look_over(logits: Floats32) -> tuple[Floats32, Floats]:
    """`block_peaks` (R, blocks) and `log_sums` (R,) of logits (R, V).

    Raises:
        NoNumberError: a row holds NaN, or nothing but minus infinity.
    """
    rows, wide = logits.shape
    at_once = max(1, PIECE_BYTES // (4 * wide))
    scratch = np.empty((min(rows, at_once), wide), dtype=np.float32)
    peaks = np.empty((rows, -(-wide // BLOCK)), dtype=np.float32)
    sums = np.empty(rows)
    for first in range(0, rows, at_once):
        piece = slice(first, first + at_once)
        peaks[piece] = block_peaks(logits[piece])
        highest = peaks[piece].max(axis=1, keepdims=True)
        check_finite(highest)
        shifted = np.subtract(logits[piece], highest, out=scratch[: len(highest)])
        np.exp(shifted, out=shifted)
        sums[piece] = highest[:, 0] + np.log(shifted.sum(axis=1).astype(np.float64))
    return peaks, sums


def log_sums(logits: Floats32) -> Floats:
    """(R, V) -> (R,): log of the sum of the exponentials.

    >>> np.exp(log_sums(np.log(np.array([[1.0, 2.0, 5.0]], dtype=np.float32)))).round(5).tolist()
    [8.0]
    """
    return look_over(logits)[1]


def block_peaks(logits: Floats32) -> Floats32:
    """(R, V) -> (R, blocks): the largest logit of each block of a row; NaN where one stands there."""
    rows, wide = logits.shape
    whole = wide - wide % BLOCK
    peaks: Floats32 = logits[:, :whole].reshape(rows, -1, BLOCK).max(axis=2)
    if whole < wide:
        peaks = np.concatenate([peaks, logits[:, whole:].max(axis=1, keepdims=True)], axis=1)
    return peaks
