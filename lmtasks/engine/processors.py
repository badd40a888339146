"""Changes of the scores of a next token, by a text's settings and a model's rules, in transformers' order.

A processor is made once for each text (all its beams); it is given what was written so far and keeps nothing of it.
Rules name tokens that must be written, or must not, whatever they score, as transformers' `generate` keeps them:

>>> rules = TokenRules(first=2, never=(5,), never_behind=((7, 8),))
>>> forced_tokens(rules, before=1, left=9), banned_tokens(rules, before=[0, 7], step=1)
((2,), [5, 8])

Axes: V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from lmtasks.engine.requests import Decoding
from lmtasks.engine.sampling import penalize
from lmtasks.records import NO_RULES, Floats, Floats32, Ints, TokenRules

Scores = TypeVar("Scores", Floats, Floats32)


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
