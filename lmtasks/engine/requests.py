"""Requests to the engine, and its answers.

>>> GenerateRequest(prompt_ids=(1,), settings=Decoding(temperature=0.7, num_beams=4))
Traceback (most recent call last):
...
lmtasks.errors.UsageError: beam search draws nothing: with num_beams 4 the temperature must be 0, was 0.7.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from lmtasks.settings.generation import Decoding

Stopped = Literal["stop", "end", "length"]
"""Why a text ended: a stop string, the model's own end token, or the number of new tokens."""


@dataclass(frozen=True, kw_only=True)
class ScoreRequest:
    """How likely is the target behind the context?"""

    context_ids: tuple[int, ...]
    """For an encoder-decoder: the source. For a causal model at least one token."""
    target_ids: tuple[int, ...]
    """At least one token."""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """How likely it is, in natural logarithms."""

    logprob: float
    """Of the whole target."""
    greedy: bool
    """Would greedy decoding have written the target?"""
    token_logprobs: tuple[float, ...]
    """Of each target token; fewer than asked where the target alone was longer than the model takes. Where tokens are
    a server's own, of each of those."""
    truncated: bool = False
    """Was something cut off the left, to fit the model?"""
    failed: str = ""
    """Why there is no answer, of a server that gave none; empty: there is one."""


@dataclass(frozen=True, kw_only=True)
class GenerateRequest:
    """Continue a prompt."""

    prompt_ids: tuple[int, ...]
    """For an encoder-decoder: the source."""
    settings: Decoding
    seed: int = 1234
    number: int | None = None
    """Names the stream of random draws under the seed; None: the request's place in the list.
    A list that is cut in pieces gives the numbers itself, and the draws stay the same."""
    top: int | None = None
    """So many of the likeliest tokens are told with each step (`TokenEvent.token`); None: no log-probability is."""

    def __post_init__(self) -> None:
        self.settings.check()


@dataclass(frozen=True, kw_only=True)
class Generated:
    """A continuation."""

    ids: tuple[int, ...]
    """The new tokens, without the end token; with those of the stop string."""
    text: str
    """Before the stop string; without special tokens; white space is kept."""
    stopped: Stopped
    truncated: bool = False
    """Was the prompt cut off on the left, to fit the model?"""
    failed: str = ""
    """Why there is no answer, of a server that gave none; empty: there is one."""


TokenLogprobs = tuple[tuple[int, float], ...]
"""Tokens with their log-probabilities, the likeliest first."""


@dataclass(frozen=True, kw_only=True)
class WrittenToken:
    """A token that was written, and how likely the model had it before any setting moved its scores."""

    id: int
    logprob: float
    top: TokenLogprobs
    """The likeliest ones in its place, as many as were asked for."""


@dataclass(frozen=True, kw_only=True)
class TokenEvent:
    """One step of one answer, for streaming. The texts of an answer's events join to its text."""

    request: int
    """Place of the request in the list."""
    step: int
    """0 for the first token."""
    text: str
    """Text that is readable since the last event; empty while a character or a stop string may still be unfinished."""
    stopped: Stopped | None
    """Set in the last event of an answer."""
    token: WrittenToken | None = None
    """Where the request asked for it (`top`), without beams."""


OnProgress = Callable[[int], None]
"""Called with the number of requests that are finished so far."""

OnToken = Callable[[TokenEvent], None]

_Answer = TypeVar("_Answer")

OnAnswers = Callable[[Sequence[tuple[int, _Answer]]], None]
"""Called with answers as soon as a batch is finished: each request's place in the list, and its answer, the very one
that the call returns in the end. Every place comes once."""
