"""Continuations token by token: greedy, or drawn. Rows that are finished leave the batch at once.

Axes: B rows that are still written, V vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from lmtasks.engine.requests import Decoding, Stopped
from lmtasks.engine.sampling import draw, greedy, penalize, sample
from lmtasks.engine.stream import Decode, TextStream
from lmtasks.records import Floats32, Ints, TokenBatch
from lmtasks.runtime.base import Runtime

State = TypeVar("State")


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One row of a batch that is to be continued."""

    seen: tuple[int, ...]
    """Tokens that the repetition penalty counts from the start; empty for an encoder-decoder, whose source is no text
    that it continues."""
    settings: Decoding
    seed: int
    number: int


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What became of a row."""

    ids: tuple[int, ...]
    text: str
    stopped: Stopped


@dataclass(frozen=True, kw_only=True)
class Step:
    """One token of one row, for streaming."""

    row: int
    step: int
    text: str
    answer: Answer | None
    """Set with the last token."""


OnStep = Callable[[Step], None]


def continue_rows(
    runtime: Runtime[State],
    batch: TokenBatch,
    prompts: Sequence[Prompt],
    *,
    decode: Decode,
    ends: frozenset[int],
    streaming: bool,
    on_step: OnStep,
) -> None:
    """Write every row to its end.

    Args:
        batch: the prompts, (B, T).
        prompts: what else is to be known of each row.
        decode: token ids to text.
        ends: tokens that end a text.
        streaming: give the text of every step; without it only finished rows are told.
        on_step: is told of each step.
    """
    rows = [_Row(prompt, decode=decode, watched=streaming or bool(prompt.settings.stop)) for prompt in prompts]
    alive = np.arange(len(rows))
    state, logits = runtime.prefill(batch)
    step = 0
    while True:
        tokens = _next_tokens(logits, [rows[row] for row in alive], step=step)
        kept: list[int] = []
        for place, (row, token) in enumerate(zip(alive.tolist(), tokens.tolist(), strict=True)):
            stopped = rows[row].append(token, ends=ends)
            if stopped is None:
                kept.append(place)
            if streaming or stopped is not None:
                on_step(rows[row].step(row=row, step=step, stopped=stopped))
        if not kept:
            return
        if len(kept) < len(alive):
            state = runtime.reorder(state, np.array(kept, dtype=np.int64))
        alive = alive[kept]
        state, logits = runtime.step(state, tokens[kept])
        step += 1


class _Row:
    """A row while it is written."""

    def __init__(self, prompt: Prompt, *, decode: Decode, watched: bool) -> None:
        self.prompt = prompt
        self.stream = TextStream(decode, stops=prompt.settings.stop)
        self.watched = watched

    def append(self, token: int, *, ends: frozenset[int]) -> Stopped | None:
        if token in ends:
            return "end"
        if self.watched:
            if self.stream.push(token):
                return "stop"
        else:
            self.stream.ids.append(token)
        return "length" if len(self.stream.ids) >= self.prompt.settings.max_new_tokens else None

    def step(self, *, row: int, step: int, stopped: Stopped | None) -> Step:
        if stopped is None:
            return Step(row=row, step=step, text=self.stream.take(), answer=None)
        answer = Answer(ids=tuple(self.stream.ids), text=self.stream.text(), stopped=stopped)
        return Step(row=row, step=step, text=self.stream.rest(), answer=answer)


def _next_tokens(logits: Floats32, rows: Sequence[_Row], *, step: int) -> Ints:
    """(B, V) -> (B,)"""
    scores = logits
    for place, row in enumerate(rows):
        penalty = row.prompt.settings.repetition_penalty
        if penalty != 1.0:
            if scores is logits:
                scores = logits.copy()
            seen = np.array((*row.prompt.seen, *row.stream.ids), dtype=np.int64)
            scores[place] = penalize(scores[place].astype(np.float64), seen=seen, penalty=penalty)
    tokens = greedy(scores)
    for place, row in enumerate(rows):
        prompt = row.prompt
        if prompt.settings.temperature > 0:
            at = draw(seed=prompt.seed, number=prompt.number, step=step)
            tokens[place] = sample(scores[place].astype(np.float64), prompt.settings, at=at)
    return tokens
