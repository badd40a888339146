"""n-gram language models as sorted arrays: interpolated probabilities with back-off weights, as in the ARPA format.

All n-grams of one order are a level: a trie whose edges are numbers. The key of an n-gram is the place of its first
n - 1 tokens in the level below, times V + 1, plus its last token; so keys are sorted, the continuations of a context
are neighbours, and looking up many n-grams is one `searchsorted`. Where a line begins, the token V stands.

    p(w | u v)  is stored where the text had  u v w,  else it is  backoff(u v) * p(w | v).

Axes: B rows, T tokens of a row, S wanted tokens, V vocabulary, N n-grams of a level, K = order - 1 lengths of context.

>>> from lmtasks.backbone.kneser_ney import count_ngrams, kneser_ney
>>> text = [np.array([1, 2, 1, 2, 0, 1, 2, 2, 0])]
>>> model = kneser_ney(count_ngrams(text, order=2, vocabulary=3, ends=(0,)), fallback=True)
>>> rows = model.read(model.start(1), np.array([[1]]))
>>> bool(np.isclose(np.exp(model.next_logprobs(rows[:, 0])).sum(), 1))
True
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lmtasks.records import Bools, Floats32, Ints

NEVER = -99.0 * np.log(10.0)
"""Logarithm of a probability of nothing, as ARPA files write it for the start of a line, which is never predicted."""
UNKNOWN = -1
"""Place of a context that the text did not have."""


@dataclass(frozen=True, kw_only=True)
class NgramOrder:
    """All n-grams of one order, sorted by their keys. Logarithms are natural."""

    keys: Ints
    """(N,)"""
    logprobs: Floats32
    """(N,) of the last token behind those before it."""
    backoffs: Floats32
    """(N,) weight of shorter contexts, for tokens that were not seen behind this n-gram; empty at the highest order."""


@dataclass(frozen=True, kw_only=True)
class Ngram:
    """A model of one order or more."""

    vocabulary: int
    """V. Tokens are 0 to V - 1."""
    ends: tuple[int, ...]
    """Tokens that end a line: what stands behind them begins one, and does not look back over them."""
    levels: tuple[NgramOrder, ...]
    """By order. The first one has V + 1 n-grams, whose keys are their tokens."""

    @property
    def order(self) -> int:
        """Tokens of the longest n-grams."""
        return len(self.levels)

    @property
    def contexts(self) -> int:
        """K: lengths of context, 1 to order - 1; at least one, so that a state of a unigram model has a column."""
        return max(1, self.order - 1)

    def start(self, rows: int) -> Ints:
        """The state at the beginning of a line, (B, K): place of the last 1, 2, ... tokens in their levels."""
        state = np.full((rows, self.contexts), UNKNOWN, dtype=np.int64)
        state[:, 0] = self.vocabulary
        return state

    def read(self, state: Ints, ids: Ints) -> Ints:
        """Read on, (B, K) and (B, T): the state behind each token, (B, T, K)."""
        found = np.empty((*ids.shape, self.contexts), dtype=np.int64)
        ended = self._is_end[ids]
        found[..., 0] = np.where(ended, self.vocabulary, ids)
        before = np.empty_like(ids)
        for length in range(1, self.contexts):
            before[:, 0], before[:, 1:] = state[:, length - 1], found[:, :-1, length - 1]
            place = self.find(length, before, ids)
            place[ended] = UNKNOWN
            found[..., length] = place
        return found

    def find(self, length: int, contexts: Ints, tokens: Ints) -> Ints:
        """Places of the n-grams of contexts of `length` tokens and one token more, of any shape; UNKNOWN: not seen."""
        keys = self.levels[length].keys
        found = np.full(tokens.shape, UNKNOWN, dtype=np.int64)
        known = contexts >= 0
        wanted = contexts[known] * (self.vocabulary + 1) + tokens[known]
        if len(keys):
            # Looked up in their order, neighbours are read together: three times as fast over 700,000 4-grams.
            order = np.argsort(wanted)
            wanted = wanted[order]
            place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
            places = np.empty(len(wanted), dtype=np.int64)
            places[order] = np.where(keys[place] == wanted, place, UNKNOWN)
            found[known] = places
        return found

    def score(self, states: Ints, tokens: Ints) -> Floats32:
        """Log-probability of a token behind each state, (S, K) and (S,) -> (S,)."""
        found = self.levels[0].logprobs[tokens]
        for length in range(1, self.order):
            context = states[:, length - 1]
            place = self.find(length, context, tokens)
            backed = found + np.where(context >= 0, self.levels[length - 1].backoffs[context], np.float32(0))
            found = np.where(place >= 0, self.levels[length].logprobs[place], backed)
        return found

    def best(self, states: Ints) -> Floats32:
        """Log-probability of the most likely token behind each state, (S, K) -> (S,).

        A token that was seen behind a context is never less likely than its shorter context would say; so the best of
        each length is that of the one below, or one of its own. Back-off models that are not interpolated break this
        rule, and then the result is an upper bound.
        """
        found = np.full(len(states), self.levels[0].logprobs[: self.vocabulary].max(), dtype=np.float32)
        for length in range(1, self.order):
            context = states[:, length - 1]
            own = np.maximum(self._best_seen[length - 1][context], found + self.levels[length - 1].backoffs[context])
            found = np.where(context >= 0, own, found)
        return found

    def next_logprobs(self, states: Ints) -> Floats32:
        """Log-probability of every token behind each state, (B, K) -> (B, V)."""
        found = np.repeat(self.levels[0].logprobs[None, : self.vocabulary], len(states), axis=0)
        for length in range(1, self.order):
            level = self.levels[length]
            context = states[:, length - 1]
            known = np.maximum(context, 0)
            found += np.where(context >= 0, self.levels[length - 1].backoffs[known], np.float32(0))[:, None]
            first = np.searchsorted(level.keys, known * (self.vocabulary + 1))
            last = np.searchsorted(level.keys, (known + 1) * (self.vocabulary + 1))
            for row in np.flatnonzero((context >= 0) & (last > first)):
                seen = slice(first[row], last[row])
                found[row, level.keys[seen] % (self.vocabulary + 1)] = level.logprobs[seen]
        return found

    def row_logprobs(self, rows: Sequence[Ints]) -> Floats32:
        """Log-probability of whole rows from the beginning of a line, (B,): end tokens before and behind included."""
        found = np.zeros(len(rows), dtype=np.float32)
        for number, row in enumerate(rows):
            before = self.start(1)
            states = np.concatenate([before, self.read(before, row[None])[0, :-1]]) if len(row) else before[:0]
            found[number] = self.score(states, row).sum(dtype=np.float64)
        return found

    @cached_property
    def _is_end(self) -> Bools:
        found = np.zeros(self.vocabulary + 1, dtype=np.bool_)
        found[list(self.ends)] = True
        return found

    @cached_property
    def _best_seen(self) -> tuple[Floats32, ...]:
        """For each level below the highest: the best stored log-probability behind each of its n-grams."""
        found = []
        for below, level in zip(self.levels, self.levels[1:], strict=False):
            best = np.full(len(below.keys), -np.inf, dtype=np.float32)
            parents = level.keys // (self.vocabulary + 1)
            firsts = np.flatnonzero(np.diff(parents, prepend=UNKNOWN))
            if len(firsts):
                best[parents[firsts]] = np.maximum.reduceat(level.logprobs, firsts)
            found.append(best)
        return tuple(found)
