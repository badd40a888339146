"""Beam search over a batch of prompts, each with its own beams.

At every step each prompt keeps its `num_beams` most likely unfinished texts. A text that ends is scored by

    log-probability / length ** length_penalty        (length in tokens, the end token counted)

the `num_beams` best of those are kept, and the best one is the answer. When a prompt is finished is what
`early_stopping` says; all is as in transformers 5: only ends among the `num_beams` best candidates of a step count, and
whatever changes scores acts on log-probabilities.

Axes: R rows of the state (all beams of all unfinished prompts, in order), V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from lmtasks.data.batches import pad
from lmtasks.engine.continuations import Continuation, block_peaks, continuations, log_sums, look_over
from lmtasks.engine.decode import Answer, Decode, EncodedPrompt, OnStep, TextStream, TokenStep
from lmtasks.engine.requests import Stopped
from lmtasks.records import Floats, Floats32
from lmtasks.runtime.base import Runtime
from lmtasks.settings.generation import Decoding


def beam_rows(
    runtime: Runtime,
    prompts: Sequence[EncodedPrompt],
    *,
    pad_id: int,
    decode: Decode,
    ends: frozenset[int],
    on_step: OnStep,
) -> None:
    """Write the best text of every row; `on_step` is called with finished rows only. See `continue_rows`."""
    searches = [_Search(row, prompt, decode=decode, ends=ends) for row, prompt in enumerate(prompts)]
    state, logits = runtime.prefill(pad([prompt.ids for prompt in prompts], pad_id=pad_id))
    step = 0
    while True:
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
                on_step(TokenStep(row=search.row, step=step, text=answer.text, answer=answer))
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

    def __init__(self, row: int, prompt: EncodedPrompt, *, decode: Decode, ends: frozenset[int]) -> None:
        self.row = row
        self.beams = [_Beam(logprob=0.0, stream=TextStream(decode, stops=prompt.settings.stop))]
        self._prompt = prompt
        self._ends = ends
        self._processor = prompt.processor(ends)
        self._finished: list[_Finished] = []
        """The `num_beams` best so far, best first; of equals the first one."""

    @property
    def is_changed(self) -> bool:
        """Does anything but the model change what is likely behind a beam?"""
        return not self._processor.plain

    @property
    def wanted(self) -> int:
        """So many continuations: even if every end token of every beam comes first, enough others are left."""
        return max(2, 1 + len(self._ends)) * self._prompt.num_beams

    def change(self, logits: Floats32, sums: Floats) -> None:
        """Change logits (number of beams, V), whose exponentials have these sums, in place, by the settings and by the
        model's rules; and the sums with them."""
        for place, beam in enumerate(self.beams):
            row = logits[place]
            if self._processor.moves:  # what moves scores acts on log-probabilities; what only forbids need not wait
                row -= sums[place]
                sums[place] = 0.0
            self._processor.process(row, beam.stream.ids, sure=float(sums[place]))
            if self._prompt.settings.renormalize_logits:
                sums[place] = log_sums(row[None])[0]

    def advance(self, best: Sequence[Continuation], *, step: int) -> list[tuple[int, int]]:
        """One token further, by one of the `wanted` best continuations for each beam.

        Returns:
            Parent and token of every new beam; nothing once the search is over.
        """
        settings, count = self._prompt.settings, self._prompt.num_beams
        moves: list[tuple[int, int]] = []
        beams: list[_Beam] = []
        ended: list[_Finished] = []
        for rank, each in enumerate(best):
            score, parent, token = each.logprob, each.beam, each.token
            if len(beams) == count or score == -np.inf:
                break
            stream = self.beams[parent].stream
            stopped: Stopped | None = None
            if token in self._ends:
                forced = token in self._prompt.rules.last and step + 1 == settings.max_new_tokens
                stopped = "length" if forced else "end"
            else:
                stream = stream.copy()
                if settings.stop and stream.push(token):
                    stopped = "stop"
                elif not settings.stop:
                    stream.ids.append(token)
            if stopped is None:
                beams.append(_Beam(logprob=score, stream=stream))
                moves.append((parent, token))
            elif rank < count:
                ended.append(
                    _Finished(score=_score(score, length=step + 1, settings=settings), stream=stream, stopped=stopped)
                )
        self.beams = beams
        if step + 1 == settings.max_new_tokens:
            ended += [
                _Finished(
                    score=_score(beam.logprob, length=step + 1, settings=settings), stream=beam.stream, stopped="length"
                )
                for beam in beams
            ]
            beams = []
        # Sorted stably: where scores are equal, what was finished first stays first.
        self._finished = sorted([*self._finished, *ended], key=lambda text: -text.score)[:count]
        return moves if beams and self._is_open(length=step + 1) else []

    def answer(self) -> Answer:
        if not self._finished:
            raise AssertionError("a search ends with a finished text")
        best = self._finished[0]
        return Answer(ids=tuple(best.stream.ids), text=best.stream.text(), stopped=best.stopped)

    def _is_open(self, *, length: int) -> bool:
        """Is the search to go on, with unfinished texts of this length?"""
        settings = self._prompt.settings
        if len(self._finished) < self._prompt.num_beams:
            return True
        if settings.early_stopping is True:
            return False
        if settings.early_stopping == "never" and _length_penalty(settings) > 0:
            length = settings.max_new_tokens  # the kindest, as if nothing more were lost
        return _score(self.beams[0].logprob, length=length, settings=settings) > self._finished[-1].score


def _score(logprob: float, *, length: int, settings: Decoding) -> float:
    return float(logprob / length ** _length_penalty(settings))


def _length_penalty(settings: Decoding) -> float:
    return 1.0 if settings.length_penalty is None else settings.length_penalty


def _best(searches: Sequence[_Search], logits: Floats32) -> list[list[Continuation]]:
    """The continuations that each search wants, from next-token logits (R, V)."""
    beams = [len(search.beams) for search in searches]
    peaks, sums = look_over(logits)
    if any(search.is_changed for search in searches):
        logits = logits.copy()
        for search, end in zip(searches, accumulate(beams), strict=True):
            if search.is_changed:
                mine = slice(end - len(search.beams), end)
                search.change(logits[mine], sums[mine])
                peaks[mine] = block_peaks(logits[mine])
    so_far = np.array([beam.logprob for search in searches for beam in search.beams])
    counts = [search.wanted for search in searches]
    return continuations(logits, so_far - sums, peaks=peaks, beams=beams, counts=counts)
