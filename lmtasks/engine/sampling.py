"""The next token from its scores: the most likely one, or a draw, after a text's settings and a model's rules.

A processor changes the scores, in transformers' order. It is made once for each text (all its beams); it is given what
was written so far and keeps nothing of it. Rules name tokens that must be written, or must not, whatever they score, as
transformers' `generate` keeps them:

>>> rules = TokenRules(first=2, never=(5,), never_behind=((7, 8),))
>>> forced_tokens(rules, before=1, left=9), banned_tokens(rules, before=[0, 7], step=1)
((2,), [5, 8])

A draw depends on (seed, number of the request, step) alone: Philox is a function from a key and a counter to a number
(Salmon et al. 2011, https://doi.org/10.1145/2063384.2063405), so no batch and no runtime can shift the stream.

>>> draw(seed=1, number=0, step=0) == draw(seed=1, number=0, step=0)
True
>>> logits = np.log(np.array([0.5, 0.3, 0.2]))
>>> sample(logits, Decoding(temperature=1.0, top_k=2), at=0.99)
1

Axes: B rows, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, isfinite, sqrt
from typing import TypeVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from lmtasks.errors import NoNumberError
from lmtasks.records import NO_RULES, Bools, Floats, Floats32, Ints, TokenRules
from lmtasks.settings.generation import Decoding

Scores = TypeVar("Scores", Floats, Floats32)
_WORD = (1 << 64) - 1


@dataclass(frozen=True, kw_only=True)
class ProcessorContext:
    """Tokens before a text."""

    start: tuple[int, ...]
    """Tokens that its decoder reads first: the prompt, or an encoder-decoder's start token."""
    source: tuple[int, ...]
    """The prompt, or what an encoder-decoder's encoder reads."""
    ends: frozenset[int]
    """Tokens that end it."""


class Processor:
    """The rules of one text.

    Args:
        settings: None is as without the setting.
        rules: the model's.
    """

    def __init__(self, settings: Decoding, rules: TokenRules, reading: ProcessorContext) -> None:
        self._settings, self._rules, self._reading = settings, rules, reading
        self._start = np.array(reading.start, dtype=np.int64)
        self._ends = sorted(reading.ends)
        at_least = settings.min_new_tokens
        if at_least is None:
            at_least = max(0, (settings.min_length or 0) - len(reading.start))
        self._at_least = at_least if self._ends else 0
        self._decay = settings.exponential_decay_length_penalty if self._ends else None
        self._ngram, self._source_ngram = settings.no_repeat_ngram_size or 0, settings.encoder_no_repeat_ngram_size or 0
        self._penalty = settings.repetition_penalty or 1.0
        self._source_penalty = 1 / (settings.encoder_repetition_penalty or 1.0)
        self._source = np.array(reading.source if self._source_penalty != 1 or self._source_ngram else (), np.int64)
        self.moves = bool(
            settings.sequence_bias or self._source_penalty != 1 or self._penalty != 1 or self._decay is not None
        )
        """Does it change scores, and not only forbid tokens?"""
        self.plain = not (self.moves or self._ngram or self._source_ngram or self._at_least or rules != NO_RULES)
        """Does it do nothing at all?"""

    def allows(self, token: int, written: Sequence[int]) -> bool:
        """May the token follow? Mostly it may, and no row of scores is copied; asked where nothing `moves`."""
        if self.plain:
            return True
        forced = self._forced(written)
        if forced:
            return token == min(forced)  # of several any would do; transformers takes the lowest id
        return token not in self._banned(written)

    def process(self, scores: Scores, written: Sequence[int], *, sure: float = 0.0) -> Scores:
        """Scores (V,) changed in place: minus infinity where no token may follow.

        Args:
            scores: logits, of beams log-probabilities; logits of beams, too, where nothing `moves`.
            sure: the score of a token that is forced.
        """
        if self.plain:
            return scores
        forced = self._forced(written)
        if forced:
            scores[:] = -np.inf
            scores[list(forced)] = sure
            return scores
        for ids, bias in self._settings.sequence_bias or ():
            if self._ends_with(ids[:-1], written):
                scores[ids[-1]] += bias
        if self._source_penalty != 1:
            _multiply(scores, self._source, self._source_penalty)
        if self._penalty != 1:
            _multiply(scores, self._before(written), self._penalty)
        if self._decay is not None and len(written) > self._decay[0]:
            self._favour_ends(scores, factor=self._decay[1] ** (len(written) - self._decay[0]))
        scores[[token for token in self._banned(written) if token < len(scores)]] = -np.inf
        return scores

    def _before(self, written: Sequence[int]) -> Ints:
        """All that the decoder has read."""
        return np.concatenate([self._start, np.array(written, dtype=np.int64)])

    def _ends_with(self, tokens: tuple[int, ...], written: Sequence[int]) -> bool:
        """Are these the last tokens that the decoder has read?"""
        before = (*self._reading.start, *written)
        return len(tokens) <= len(before) and before[len(before) - len(tokens) :] == tokens

    def _forced(self, written: Sequence[int]) -> tuple[int, ...]:
        left = self._settings.max_new_tokens - len(written)
        return forced_tokens(self._rules, before=len(self._reading.start) + len(written), left=left)

    def _banned(self, written: Sequence[int]) -> list[int]:
        banned: list[int] = []
        if self._rules != NO_RULES:
            banned += banned_tokens(self._rules, before=(*self._reading.start, *written), step=len(written))
        if self._ngram or self._source_ngram:
            before = self._before(written)
            banned += _behind(before, self._ngram, within=before) if self._ngram else []
            banned += _behind(before, self._source_ngram, within=self._source) if self._source_ngram else []
        if len(written) < self._at_least:
            banned += self._ends
        return banned

    def _favour_ends(self, scores: Floats | Floats32, *, factor: float) -> None:
        ends = scores[self._ends]
        scores[self._ends] = np.where(np.isfinite(ends), ends + np.abs(ends) * (factor - 1), ends)


def greedy(logits: Floats32) -> Ints:
    """(B, V) -> (B,): the most likely tokens, of equals the lowest id.

    Raises:
        NoNumberError: a row holds NaN, or nothing but minus infinity.
    """
    best: Ints = logits.argmax(axis=-1)
    # argmax finds a NaN before any number. One by one: of few rows that takes less than an array of them.
    if not all(isfinite(logits[row, token]) for row, token in enumerate(best.tolist())):
        raise _no_numbers()
    return best


def check_finite(highest: Floats32) -> None:
    """Check the largest scores of rows.

    Raises:
        NoNumberError: one is no number: its row holds NaN, or nothing but minus infinity.
    """
    if not np.isfinite(highest).all():
        raise _no_numbers()


def _no_numbers() -> NoNumberError:
    return NoNumberError(
        "the model's next-token scores are not numbers; did it overflow in this precision, or are its weights damaged?"
    )


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


def penalize(scores: Floats, *, seen: Ints, penalty: float) -> Floats:
    """Scores (V,) with those of the tokens `seen` divided by the penalty, or multiplied where they are below 0."""
    penalized = scores.copy()
    chosen = scores[seen]
    penalized[seen] = np.where(chosen < 0, chosen * penalty, chosen / penalty)
    return penalized


def forced_tokens(rules: TokenRules, *, before: int, left: int) -> tuple[int, ...]:
    """The tokens of which the next one must be one; empty: any.

    Args:
        before: how many tokens the decoder has read.
        left: tokens that may still be written.
    """
    if left == 1 and rules.last:
        return rules.last
    return (rules.first,) if rules.first is not None and before == 1 else ()


def banned_tokens(rules: TokenRules, *, before: Sequence[int], step: int) -> list[int]:
    """The tokens that the next one must not be.

    Args:
        before: what the decoder has read: prompt and answer, or its start token and answer.
        step: tokens that were written so far.
    """
    banned = list(rules.never)
    # A forced first token is not counted as the first that is written freely.
    forced = rules.first is not None and len(before) - step == 1
    if step == (1 if forced else 0):
        banned += rules.never_first
    for *words, token in rules.never_behind:
        if tuple(before[-len(words) :]) == tuple(words):
            banned.append(token)
    return banned


def _multiply(scores: Floats | Floats32, tokens: Ints, penalty: float) -> None:
    tokens = tokens[tokens < len(scores)]  # a table of embeddings may have more rows than there are scores
    found = scores[tokens].astype(np.float64)
    scores[tokens] = penalize(found, seen=np.arange(len(found)), penalty=penalty)


def _behind(before: Ints, size: int, *, within: Ints) -> list[int]:
    """The tokens that would complete a run of `size` tokens that stands in `within`."""
    if len(within) < size or len(before) < size - 1:
        return []
    runs = sliding_window_view(within, size)
    last = before[len(before) - size + 1 :]
    found: list[int] = runs[(runs[:, :-1] == last).all(axis=1), -1].tolist()
    return found


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
