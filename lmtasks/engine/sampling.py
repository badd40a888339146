"""The next token from its scores: the most likely one, or a draw.

A draw depends on (seed, number of the request, step) alone: Philox is a function from a key and a counter to a number
(Salmon et al. 2011, https://doi.org/10.1145/2063384.2063405), so no batch and no runtime can shift the stream.

>>> draw(seed=1, number=0, step=0) == draw(seed=1, number=0, step=0)
True
>>> logits = np.log(np.array([0.5, 0.3, 0.2]))
>>> sample(logits, Decoding(temperature=1.0, top_k=2), at=0.99)
1
"""

from math import isfinite

import numpy as np

from lmtasks.engine.requests import Decoding
from lmtasks.errors import NoNumberError
from lmtasks.records import Bools, Floats, Floats32, Ints

_WORD = (1 << 64) - 1


def penalize(scores: Floats, *, seen: Ints, penalty: float) -> Floats:
    """Scores (V,) with those of the tokens `seen` divided by the penalty, or multiplied where they are below 0."""
    penalized = scores.copy()
    chosen = scores[seen]
    penalized[seen] = np.where(chosen < 0, chosen * penalty, chosen / penalty)
    return penalized


def greedy(logits: Floats32) -> Ints:
    """(B, V) -> (B,): the most likely tokens, of equals the lowest id.

    Raises:
        NoNumberError: a row holds NaN, or nothing but minus infinity.
    """
    best: Ints = logits.argmax(axis=-1)
    # argmax finds a NaN before any number. One by one: of few rows that takes less than an array of them.
    if not all(isfinite(logits[row, token]) for row, token in enumerate(best.tolist())):
        raise NoNumberError(
            "the model's next-token scores are not numbers; did it overflow in this precision, or are its weights "
            "damaged?"
        )
    return best


def draw(*, seed: int, number: int, step: int) -> float:
    """A number in [0, 1) for one step of one request."""
    stream = np.random.Philox(key=np.array([seed & _WORD, number], dtype=np.uint64), counter=step)
    return float(np.random.Generator(stream).random())


def sample(logits: Floats, settings: Decoding, *, at: float) -> int:
    """The token at `at` in [0, 1) of the distribution's cumulated probability, in the order of ids.

    In the order of ids and not of probabilities: two tokens whose probabilities differ in the last bits may swap their
    ranks between runtimes, but never their ids.
    """
    scaled = logits.astype(np.float64) / settings.temperature
    weights = np.exp(scaled - scaled.max())
    weights[~_allowed(weights, settings)] = 0.0
    cumulated = weights.cumsum()
    chosen = int(np.searchsorted(cumulated, at * cumulated[-1], side="right"))
    # Rounding may put `at` behind the last token that can be drawn.
    return min(chosen, int(np.flatnonzero(weights)[-1]))


def _allowed(weights: Floats, settings: Decoding) -> Bools:
    """(V,): which tokens pass top-k, then top-p over the rest, then min-p. Of equals the lower ids."""
    allowed = np.ones(len(weights), dtype=bool)
    if 0 < settings.top_k < len(weights):
        allowed[:] = False
        allowed[np.argsort(-weights, kind="stable")[: settings.top_k]] = True
    if settings.top_p < 1.0:
        order = np.argsort(-np.where(allowed, weights, 0.0), kind="stable")
        shares = np.where(allowed, weights, 0.0)[order].cumsum()
        # The token that reaches the share is still in.
        kept = 1 + int(np.searchsorted(shares, settings.top_p * shares[-1], side="left"))
        allowed[order[kept:]] = False
    if settings.min_p > 0.0:
        allowed &= weights >= settings.min_p * weights.max()
    return allowed
