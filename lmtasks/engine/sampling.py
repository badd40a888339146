"""The next token from its scores: the most likely one, or a draw.

A draw depends on (seed, number of the request, step) alone: Philox is a function from a key and a counter to a number
(Salmon et al. 2011, https://doi.org/10.1145/2063384.2063405), so no batch and no runtime can shift the stream.

>>> draw(seed=1, number=0, step=0) == draw(seed=1, number=0, step=0)
True
>>> logits = np.log(np.array([0.5, 0.3, 0.2]))
>>> sample(logits, Decoding(temperature=1.0, top_k=2), at=0.99)
1
"""

from math import exp, isfinite, sqrt

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
    scaled = logits.astype(np.float64) / (1.0 if settings.temperature is None else settings.temperature)
    weights = np.exp(scaled - scaled.max())
    weights[~_allowed(weights, settings)] = 0.0
    cumulated = weights.cumsum()
    chosen = int(np.searchsorted(cumulated, at * cumulated[-1], side="right"))
    # Rounding may put `at` behind the last token that can be drawn.
    return min(chosen, int(np.flatnonzero(weights)[-1]))


def _allowed(weights: Floats, settings: Decoding) -> Bools:
    """(V,): which tokens pass one filter after the other, each over the rest. Of equals the lower ids."""
    allowed = np.ones(len(weights), dtype=bool)
    if settings.top_h is not None:
        allowed &= _within_entropy(weights, share=settings.top_h)
    if 0 < (settings.top_k or 0) < len(weights):
        order = np.argsort(-np.where(allowed, weights, 0.0), kind="stable")
        allowed[order[settings.top_k :]] = False
    if settings.top_p is not None and settings.top_p < 1.0:
        order = np.argsort(-np.where(allowed, weights, 0.0), kind="stable")
        shares = np.where(allowed, weights, 0.0)[order].cumsum()
        # The token that reaches the share is still in.
        kept = 1 + int(np.searchsorted(shares, settings.top_p * shares[-1], side="left"))
        allowed[order[kept:]] = False
    if settings.min_p:
        allowed &= weights >= settings.min_p * weights.max()
    if settings.typical_p is not None and settings.typical_p < 1.0:
        allowed &= _typical(np.where(allowed, weights, 0.0), mass=settings.typical_p)
    if settings.epsilon_cutoff:
        allowed &= _likely(np.where(allowed, weights, 0.0), cutoff=settings.epsilon_cutoff)
    if settings.eta_cutoff:
        rest = np.where(allowed, weights, 0.0)
        cutoff = min(settings.eta_cutoff, sqrt(settings.eta_cutoff) * exp(-_entropy(rest)))
        allowed &= _likely(rest, cutoff=cutoff)
    return allowed


def _likely(weights: Floats, *, cutoff: float) -> Bools:
    """Tokens with at least this probability, and the most likely one."""
    likely: Bools = weights >= min(cutoff * weights.sum(), weights.max())
    return likely


def _typical(weights: Floats, *, mass: float) -> Bools:
    """Tokens whose information is nearest to the entropy, up to the one with which they have more than this mass."""
    with np.errstate(divide="ignore"):
        distance = np.abs(-np.log(weights / weights.sum()) - _entropy(weights))
    order = np.argsort(distance, kind="stable")
    last = min(int((weights[order].cumsum() < mass * weights.sum()).sum()), len(weights) - 1)
    typical: Bools = distance <= distance[order[last]]
    typical[order[0]] = True
    return typical


def _within_entropy(weights: Floats, *, share: float) -> Bools:
    """The most likely tokens, of the 100 that are looked at, that have at most this share of those's entropy."""
    order = np.argsort(-weights, kind="stable")[:100]
    parts = _information(weights[order])
    within = np.zeros(len(weights), dtype=bool)
    within[order] = parts.cumsum() <= share * parts.sum()
    within[order[0]] = True
    return within


def _information(weights: Floats) -> Floats:
    """-p log p of each."""
    shares = weights / weights.sum()
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    result: Floats = -shares * logs
    return result


def _entropy(weights: Floats) -> float:
    return float(_information(weights).sum())
