"""Requests to the engine, and its answers.

>>> Decoding(temperature=0.7, num_beams=4)
Traceback (most recent call last):
...
lmtasks.errors.UsageError: beam search draws nothing: with num_beams 4 the temperature must be 0, was 0.7.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from lmtasks.errors import UsageError
from lmtasks.records import GenerationSettings

Stopped = Literal["stop", "end", "length"]
"""Why a text ended: a stop string, the model's own end token, or the number of new tokens."""


@dataclass(frozen=True, kw_only=True)
class Decoding(GenerationSettings):
    """How a continuation is chosen. Temperature 0 is greedy, or beam search with more than one beam.

    What is None is as the model's generation_config.json has it, else as transformers has it (`decoding_settings.py`).
    """

    max_new_tokens: int = 256
    stop: tuple[str, ...] = ()
    """The text ends before the first of these."""
    temperature: float | None = 0.0
    """None: drawn at the model's own temperature, else at 1."""
    room_tokens: int | None = None
    """So many new tokens have room behind a prompt that is cut; None: all. With it, an answer that finds less room than
    `max_new_tokens` is shorter; without, it is refused."""

    @property
    def room(self) -> int:
        """New tokens that have room behind a prompt that is cut."""
        return self.max_new_tokens if self.room_tokens is None else self.room_tokens

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(self.stop):
            raise UsageError("a stop string must not be empty.")
        if (self.num_beams or 1) > 1 and self.temperature != 0:
            raise UsageError(
                f"beam search draws nothing: with num_beams {self.num_beams} the temperature must be 0, "
                f"was {self.temperature}."
            )


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
    """Of each target token; fewer than asked where the target alone was longer than the model takes."""
    truncated: bool = False
    """Was something cut off the left, to fit the model?"""


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


OnProgress = Callable[[int], None]
"""Called with the number of requests that are finished so far."""

OnToken = Callable[[TokenEvent], None]

_Answer = TypeVar("_Answer")

OnAnswers = Callable[[Sequence[tuple[int, _Answer]]], None]
"""Called with answers as soon as a batch is finished: each request's place in the list, and its answer, the very one
that the call returns in the end. Every place comes once."""
