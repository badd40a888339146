"""The best continuations of beams, found without sorting a vocabulary.

A row's logits are cut into blocks, of which only the largest are looked at. The k-th largest of them over all rows of a
prompt is reached by k continuations at least, so whatever lies below it is none of the k best ones. What is left is
some dozens, and those are ranked exactly. Rows with 32,000 logits take 40 us each, most of it for their normalization.

Axes: R rows, the beams of all prompts in order; V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lmtasks.records import Floats, Floats32

BLOCK = 256


@dataclass(frozen=True, kw_only=True)
class Continuation:
    """One of the best ones of a prompt."""

    logprob: float
    """of the whole text"""
    beam: int
    """which it continues, of the prompt's"""
    token: int


def continuations(
    logits: Floats32, gains: Floats, *, beams: Sequence[int], counts: Sequence[int]
) -> list[list[Continuation]]:
    """The most likely continuations of each prompt, best first; of equals the first beam and token.

    Args:
        logits: next-token logits (R, V), without NaN.
        gains: what is added to each row's logits to get the log-probabilities of whole texts, (R,).
        beams: number of beams of each prompt.
        counts: how many are wanted of each.

    >>> logits = np.log(np.array([[0.2, 0.8], [0.4, 0.6]], dtype=np.float32))
    >>> found = continuations(logits, np.array([0.0, -0.1]), beams=[2], counts=[3])
    >>> [(each.beam, each.token) for each in found[0]]
    [(0, 1), (1, 1), (1, 0)]
    """
    ends = np.cumsum(beams)
    peaks = _peaks(logits) + gains[:, None]
    least = np.empty(len(logits))
    for end, of, count in zip(ends.tolist(), beams, counts, strict=True):
        mine = peaks[end - of : end].reshape(-1)
        least[end - of : end] = np.partition(mine, -count)[-count] if count <= mine.size else -np.inf
    # One step down in single precision: nothing is lost by rounding.
    floor = np.nextafter((least - gains).astype(np.float32), np.float32(-np.inf))
    rows, tokens = np.divmod(np.flatnonzero(logits >= floor[:, None]), logits.shape[1])  # nonzero is 10 times as slow
    totals = logits[rows, tokens].astype(np.float64) + gains[rows]
    borders = np.searchsorted(rows, [0, *ends.tolist()])
    found = []
    for number, (of, count) in enumerate(zip(beams, counts, strict=True)):
        part = slice(borders[number], borders[number + 1])
        best = np.argsort(-totals[part], kind="stable")[:count]  # they stand in the order of beams and tokens
        first = int(ends[number]) - of
        found.append(
            [
                Continuation(logprob=total, beam=row - first, token=token)
                for total, row, token in zip(
                    totals[part][best].tolist(), rows[part][best].tolist(), tokens[part][best].tolist(), strict=True
                )
            ]
        )
    return found


def log_sums(logits: Floats32) -> Floats:
    """(R, V) -> (R,): log of the sum of the exponentials."""
    highest = logits.max(axis=1, keepdims=True)
    shifted = logits - highest
    np.exp(shifted, out=shifted)
    result: Floats = highest[:, 0] + np.log(shifted.sum(axis=1).astype(np.float64))
    return result


def _peaks(logits: Floats32) -> Floats:
    """The largest logit of each block of a row, (R, blocks)."""
    rows, wide = logits.shape
    whole = wide - wide % BLOCK
    peaks = logits[:, :whole].reshape(rows, -1, BLOCK).max(axis=2)
    if whole < wide:
        peaks = np.concatenate([peaks, logits[:, whole:].max(axis=1, keepdims=True)], axis=1)
    result: Floats = peaks.astype(np.float64)
    return result
