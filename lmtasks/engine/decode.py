"""Continuations token by token: greedy, or drawn. Rows that are finished leave the batch at once; where a runtime has
slots, those that wait take their places (`continuous.py`).

A growing answer's text is read in pieces as they come, up to the first stop string, which may cross token borders. A
character may take several tokens (byte-level BPE), and a token's text may depend on the one before it (a leading
space), so tokens are decoded together with the few before them, and a piece is held back while it ends in the middle
of a character.

Axes: B rows that are still written, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lmtasks.data.batches import pad
from lmtasks.engine.requests import Stopped, TokenLogprobs, WrittenToken
from lmtasks.engine.sampling import Processor, ProcessorContext, draw, greedy, sample
from lmtasks.records import NO_RULES, Floats, Floats32, Ints, TokenRules, softmax_log
from lmtasks.runtime.base import Runtime
from lmtasks.settings.generation import Decoding

Decode = Callable[[Sequence[int]], str]
_UNFINISHED = "�"
OnStep = Callable[["TokenStep"], None]


@dataclass(frozen=True, kw_only=True)
class EncodedPrompt:
    """A prompt as token ids, with the settings of its continuation."""

    ids: tuple[int, ...]
    """For an encoder-decoder: the source."""
    seen: tuple[int, ...]
    """Tokens that the decoder reads before the answer: the prompt, or an encoder-decoder's start token."""
    settings: Decoding
    """None in it is as without the setting."""
    seed: int
    number: int
    top: int | None = None
    """So many of the likeliest tokens are told with each step; None: no log-probability is."""
    rules: TokenRules = NO_RULES
    """The model's."""

    @property
    def num_beams(self) -> int:
        """1: none."""
        return self.settings.num_beams or 1

    def processor(self, ends: frozenset[int]) -> Processor:
        """The changes of its scores; `ends` end it."""
        return Processor(self.settings, self.rules, ProcessorContext(start=self.seen, source=self.ids, ends=ends))


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The continuation of a row, and why it stopped."""

    ids: tuple[int, ...]
    text: str
    stopped: Stopped


@dataclass(frozen=True, kw_only=True)
class TokenStep:
    """One token of one row, for streaming."""

    row: int
    step: int
    text: str
    answer: Answer | None
    """Set with the last token."""
    token: WrittenToken | None = None
    """Where the prompt asks for it."""


def continue_rows(
    runtime: Runtime,
    prompts: Sequence[EncodedPrompt],
    *,
    pad_id: int,
    decode: Decode,
    ends: frozenset[int],
    streaming: bool,
    on_step: OnStep,
) -> None:
    """Write every row of a batch to its end, for runtimes without slots: rows leave, and none join.

    Args:
        prompts: what is to be continued; `TokenStep.row` is the place in this list.
        decode: token ids to text.
        ends: tokens that end a text.
        streaming: give the text of every step; without it only finished rows are reported.
        on_step: is called with each step.
    """
    alive = [
        Row(number, prompt, decode=decode, ends=ends, watched=streaming or bool(prompt.settings.stop))
        for number, prompt in enumerate(prompts)
    ]
    state, logits = runtime.prefill(pad([prompt.ids for prompt in prompts], pad_id=pad_id))
    step = 0
    while True:
        tokens = next_tokens(logits, alive)
        kept: list[int] = []
        for place, (row, token) in enumerate(zip(alive, tokens.tolist(), strict=True)):
            stopped = row.append(token)
            if stopped is None:
                kept.append(place)
            if streaming or stopped is not None:
                on_step(row.step(step=step, stopped=stopped, token=written_token(logits[place], token, row.prompt)))
        if not kept:
            return
        if len(kept) < len(alive):
            state = runtime.reorder(state, np.array(kept, dtype=np.int64))
        alive = [alive[place] for place in kept]
        state, logits = runtime.step(state, tokens[kept])
        step += 1


class Row:
    """A row while it is written.

    Args:
        number: names it in `TokenStep`.
        ends: tokens that end it.
        watched: look for stop strings, and for text to give, after each token.
        reported: steps before this one have been reported already.
    """

    def __init__(
        self,
        number: int,
        prompt: EncodedPrompt,
        *,
        decode: Decode,
        ends: frozenset[int],
        watched: bool,
        reported: int = 0,
    ) -> None:
        self.prompt = prompt
        self.stream = TextStream(decode, stops=prompt.settings.stop)
        self.reported = reported
        self.processor = prompt.processor(ends)
        self.plain = prompt.settings.temperature == 0 and self.processor.plain
        """Is each token simply the most likely one?"""
        self.number = number
        self._decode = decode
        self._ends = ends
        self._watched = watched

    def append(self, token: int) -> Stopped | None:
        """Take the next token; why the text ends with it, or None."""
        length = self.prompt.settings.max_new_tokens
        if token in self._ends:
            # An end that was forced, for want of room, is none that the model chose.
            return "length" if token in self.prompt.rules.last and len(self.stream.ids) + 1 >= length else "end"
        if self._watched:
            if self.stream.push(token):
                return "stop"
        else:
            self.stream.ids.append(token)
        return "length" if len(self.stream.ids) >= length else None

    def step(self, *, step: int, stopped: Stopped | None, token: WrittenToken | None = None) -> TokenStep:
        """The report of a step."""
        if stopped is None:
            return TokenStep(row=self.number, step=step, text=self.stream.take(), answer=None, token=token)
        answer = Answer(ids=tuple(self.stream.ids), text=self.stream.text(), stopped=stopped)
        return TokenStep(row=self.number, step=step, text=self.stream.rest(), answer=answer, token=token)

    def again(self) -> Row:
        """The same row, to be written from its start; it comes out the same, and is not reported twice."""
        reported = max(self.reported, len(self.stream.ids))
        return Row(
            self.number, self.prompt, decode=self._decode, ends=self._ends, watched=self._watched, reported=reported
        )


def next_tokens(logits: Floats32, rows: Sequence[Row]) -> Ints:
    """(B, V) -> (B,): the most likely tokens, or draws, as each row's settings have it."""
    if all(row.plain for row in rows):
        return greedy(logits)
    scores = logits
    for place, row in enumerate(rows):
        if row.processor.moves:
            if scores is logits:
                scores = logits.copy()
            row.processor.process(scores[place], row.stream.ids)
    tokens = greedy(scores)
    for place, row in enumerate(rows):
        prompt, written = row.prompt, row.stream.ids
        if prompt.settings.temperature != 0:
            at = draw(seed=prompt.seed, number=prompt.number, step=len(written))
            mine = scores[place].astype(np.float64)
            tokens[place] = sample(
                mine if row.processor.moves else row.processor.process(mine, written), prompt.settings, at=at
            )
        elif not row.processor.moves and not row.processor.allows(int(tokens[place]), written):
            tokens[place] = greedy(row.processor.process(scores[place].copy(), written)[None])[0]
    return tokens


def written_token(logits: Floats32, token: int, prompt: EncodedPrompt) -> WrittenToken | None:
    """A token with its log-probability by the model's own scores (V,); None where the prompt does not ask for it."""
    if prompt.top is None:
        return None
    logprobs = softmax_log(logits)
    return WrittenToken(id=token, logprob=float(logprobs[token]), top=likeliest(logprobs, prompt.top))


def likeliest(logprobs: Floats | Floats32, count: int) -> TokenLogprobs:
    """The likeliest tokens of (V,), of equals the lowest id first.

    >>> likeliest(np.array([-2.0, -0.5, -2.0]), 2)
    ((1, -0.5), (0, -2.0))
    """
    if not count:
        return ()
    best = np.argpartition(-logprobs, min(count, len(logprobs)) - 1)[:count]
    least = logprobs[best].min()  # of several that are as likely as the last one, the lowest ids
    kept = np.flatnonzero(logprobs >= least)
    kept = kept[np.argsort(-logprobs[kept], kind="stable")][:count]
    return tuple((int(token), float(logprobs[token])) for token in kept)


class TextStream:
    """One answer's tokens and text.

    Args:
        decode: token ids to text.
        stops: strings before which the text ends.
    """

    def __init__(self, decode: Decode, *, stops: tuple[str, ...] = ()) -> None:
        self.ids: list[int] = []
        self._decode = decode
        self._stops = stops
        self._text = ""
        self._from = 0  # tokens before this one are not looked at any more
        self._read = 0  # tokens before this one are in the text
        self._before = ""  # text of the tokens from `_from` to `_read`
        self._given = 0

    def copy(self) -> TextStream:
        """The same state, to go on from it twice (beams)."""
        other = TextStream(self._decode, stops=self._stops)
        other.ids = list(self.ids)
        other._text, other._from, other._read = self._text, self._from, self._read
        other._before, other._given = self._before, self._given
        return other

    def push(self, token: int) -> bool:
        """Append a token; True where the answer now holds a stop string."""
        self.ids.append(token)
        now = self._decode(self.ids[self._from :])
        if len(now) <= len(self._before) or now.endswith(_UNFINISHED):
            return False
        searched = len(self._text)
        self._text += now[len(self._before) :]
        self._before = self._decode(self.ids[self._read :])
        self._from, self._read = self._read, len(self.ids)
        longest = max(map(len, self._stops), default=0)
        tail = self._text[max(0, searched - longest + 1) :]
        # Decoded all at once the text may differ (white space at its start): that text decides.
        return any(stop in tail for stop in self._stops) and self._first_stop(self._decode(self.ids)) is not None

    def text(self) -> str:
        """All of the answer, up to its first stop string."""
        whole = self._decode(self.ids)
        return whole[: self._first_stop(whole)]

    def take(self) -> str:
        """Text that is readable since the last call, without a beginning of a stop string."""
        safe = len(self._text)
        for stop in self._stops:
            for length in range(min(len(stop) - 1, len(self._text)), 0, -1):
                if self._text.endswith(stop[:length]):
                    safe = min(safe, len(self._text) - length)
                    break
        piece = self._text[self._given : safe]
        self._given = max(self._given, safe)
        return piece

    def rest(self) -> str:
        """The text that `take` has not given yet, once the answer is complete."""
        return self.text()[self._given :]

    def _first_stop(self, text: str) -> int | None:
        return min((text.index(stop) for stop in self._stops if stop in text), default=None)
