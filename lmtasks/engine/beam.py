"""Beam search over a batch of prompts, each with its own beams.

At every step each prompt keeps its `num_beams` most likely unfinished texts. A text that ends is scored by

    log-probability / length ** length_penalty        (length in tokens, the end token counted)

and the best one is the answer. A prompt is finished when no unfinished text could still get a better score; that is
exact, where transformers' default stops by a heuristic. As there, only ends among the `num_beams` best candidates of a
step count, and a repetition penalty acts on log-probabilities.

Axes: R rows of the state (all beams of all unfinished prompts, in order), V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from lmtasks.data.batches import pad
from lmtasks.engine.candidates import Continuation, continuations, log_sums
from lmtasks.engine.decode import Answer, OnStep, Prompt, State, Step
from lmtasks.engine.requests import Decoding, Stopped
from lmtasks.engine.rules import restrict
from lmtasks.engine.sampling import greedy, penalize
from lmtasks.engine.stream import Decode, TextStream
from lmtasks.records import NO_RULES, Floats, Floats32
from lmtasks.runtime.base import Runtime


def beam_rows(
    runtime: Runtime[State],
    prompts: Sequence[Prompt],
    *,
    pad_id: int,
    decode: Decode,
    ends: frozenset[int],
    on_step: OnStep,
) -> None:
    """Write the best text of every row; `on_step` is told of finished rows only. Arguments as in `continue_rows`."""
    searches = [_Search(row, prompt, decode=decode, ends=ends) for row, prompt in enumerate(prompts)]
    state, logits = runtime.prefill(pad([prompt.ids for prompt in prompts], pad_id=pad_id))
    step = 0
    while True:
        greedy(logits)  # refuses NaN
        first = 0
        parents: list[int] = []
        tokens: list[int] = []
        unfinished: list[_Search] = []
        for search, best in zip(searches, _best(searches, logits), strict=True):
            beams = len(search.beams)
            moves = search.advance(best, step=step)
            if moves:
                unfinished.append(search)
                parents += [first + parent for parent, _ in moves]
                tokens += [token for _, token in moves]
            else:
                answer = search.answer()
                on_step(Step(row=search.row, step=step, text=answer.text, answer=answer))
            first += beams
        searches = unfinished
        if not searches:
            return
        if parents != list(range(first)):
            state = runtime.reorder(state, np.array(parents, dtype=np.int64))
        state, logits = runtime.step(state, np.array(tokens, dtype=np.int64))
        step += 1


@dataclass(frozen=True, kw_only=True)
class _Beam:
    """An unfinished text."""

    logprob: float
    stream: TextStream


@dataclass(frozen=True, kw_only=True)
class _Finished:
    score: float
    stream: TextStream
    stopped: Stopped


class _Search:
    """The beams of one prompt."""

    def __init__(self, row: int, prompt: Prompt, *, decode: Decode, ends: frozenset[int]) -> None:
        self.row = row
        self.beams = [_Beam(logprob=0.0, stream=TextStream(decode, stops=prompt.settings.stop))]
        self._prompt = prompt
        self._ends = ends
        self._best: _Finished | None = None

    @property
    def is_changed(self) -> bool:
        """Does anything but the model say what is likely behind a beam?"""
        return self._prompt.settings.repetition_penalty != 1.0 or self._prompt.rules != NO_RULES

    @property
    def wanted(self) -> int:
        """So many continuations: even if every end token of every beam comes first, enough others are left."""
        return max(2, 1 + len(self._ends)) * self._prompt.settings.num_beams

    def change(self, logits: Floats32, sums: Floats) -> None:
        """Change logits (number of beams, V), whose exponentials have these sums, in place: by the repetition penalty,
        then by the model's rules."""
        if self._prompt.settings.repetition_penalty != 1.0:
            self._penalize(logits, sums)
        for place, beam in enumerate(self.beams):
            written = beam.stream.ids
            restrict(
                logits[place],
                self._prompt.rules,
                before=(*self._prompt.start, *written),
                step=len(written),
                left=self._prompt.settings.max_new_tokens - len(written),
                sure=float(sums[place]),  # costs a text nothing
            )

    def _penalize(self, logits: Floats32, sums: Floats) -> None:
        for place, beam in enumerate(self.beams):
            seen = np.unique(np.array((*self._prompt.seen, *beam.stream.ids), dtype=np.int64))
            logprobs = logits[place, seen] - sums[place]
            penalty = self._prompt.settings.repetition_penalty
            logits[place, seen] = sums[place] + penalize(logprobs, seen=np.arange(len(seen)), penalty=penalty)

    def advance(self, best: Sequence[Continuation], *, step: int) -> list[tuple[int, int]]:
        """One token further, by one of the `wanted` best continuations for each beam.

        Returns:
            Parent and token of every new beam; nothing once the search is over.
        """
        settings = self._prompt.settings
        moves: list[tuple[int, int]] = []
        beams: list[_Beam] = []
        for rank, each in enumerate(best):
            score, parent, token = each.logprob, each.beam, each.token
            if len(beams) == settings.num_beams or score == -np.inf:
                break
            stream = self.beams[parent].stream
            if token in self._ends:
                if rank < settings.num_beams:
                    forced = token in self._prompt.rules.last and step + 1 == settings.max_new_tokens
                    self._finish(score, length=step + 1, stream=stream, stopped="length" if forced else "end")
                continue
            stream = stream.copy()
            if settings.stop and stream.push(token):
                if rank < settings.num_beams:
                    self._finish(score, length=step + 1, stream=stream, stopped="stop")
                continue
            if not settings.stop:
                stream.ids.append(token)
            beams.append(_Beam(logprob=score, stream=stream))
            moves.append((parent, token))
        self.beams = beams
        if step + 1 == settings.max_new_tokens:
            for beam in beams:
                self._finish(beam.logprob, length=step + 1, stream=beam.stream, stopped="length")
            return []
        return [] if self._is_settled(length=step + 2) else moves

    def answer(self) -> Answer:
        if self._best is None:
            raise AssertionError("a search ends with a finished text")
        return Answer(ids=tuple(self._best.stream.ids), text=self._best.stream.text(), stopped=self._best.stopped)

    def _finish(self, logprob: float, *, length: int, stream: TextStream, stopped: Stopped) -> None:
        score = _score(logprob, length=length, settings=self._prompt.settings)
        if self._best is None or score > self._best.score:
            self._best = _Finished(score=score, stream=stream, stopped=stopped)

    def _is_settled(self, *, length: int) -> bool:
        """Can no beam overtake the best finished text? Each can at best lose nothing more, at the kindest length."""
        if not self.beams:
            return True
        if self._best is None:
            return False
        settings = self._prompt.settings
        kindest = settings.max_new_tokens if settings.length_penalty > 0 else length
        bound = max(_score(beam.logprob, length=kindest, settings=settings) for beam in self.beams)
        return self._best.score >= bound


def _score(logprob: float, *, length: int, settings: Decoding) -> float:
    return float(logprob / length**settings.length_penalty)


def _best(searches: Sequence[_Search], logits: Floats32) -> list[list[Continuation]]:
    """The continuations that each search wants, from next-token logits (R, V)."""
    beams = [len(search.beams) for search in searches]
    sums = log_sums(logits)
    if any(search.is_changed for search in searches):
        logits = logits.copy()
        for search, end in zip(searches, accumulate(beams), strict=True):
            if search.is_changed:
                mine = slice(end - len(search.beams), end)
                search.change(logits[mine], sums[mine])
    so_far = np.array([beam.logprob for search in searches for beam in search.beams])
    return continuations(logits, so_far - sums, beams=beams, counts=[search.wanted for search in searches])
