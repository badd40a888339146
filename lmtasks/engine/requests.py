"""What is asked of the engine, and what it answers.

>>> Decoding(temperature=0.7, num_beams=4)
Traceback (most recent call last):
...
lmtasks.errors.UsageError: beam search draws nothing: with num_beams 4 the temperature must be 0, was 0.7.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from lmtasks.errors import UsageError

Stopped = Literal["stop", "end", "length"]
"""Why a text ended: a stop string, the model's own end token, or the number of new tokens."""


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How a continuation is chosen. Temperature 0 is greedy, or beam search with more than one beam."""

    max_new_tokens: int = 256
    stop: tuple[str, ...] = ()
    """The text ends before the first of these."""
    temperature: float = 0.0
    top_k: int = 0
    """Draw among the k most likely tokens; 0: all."""
    top_p: float = 1.0
    """Draw among the most likely tokens that together reach this probability."""
    min_p: float = 0.0
    """Draw among the tokens with at least this share of the most likely one's probability."""
    num_beams: int = 1
    length_penalty: float = 1.0
    """A beam's score is its log-probability over its length (tokens, the end token counted) to this power."""
    repetition_penalty: float = 1.0
    """Above 1, tokens that stood before become less likely (Keskar et al. 2019, https://arxiv.org/abs/1909.05858)."""

    def __post_init__(self) -> None:
        checks: tuple[tuple[bool, str], ...] = (
            (self.max_new_tokens >= 1, f"max_new_tokens must be at least 1, was {self.max_new_tokens}"),
            (all(self.stop), "a stop string must not be empty"),
            (self.temperature >= 0, f"temperature must be 0 or more, was {self.temperature}"),
            (self.top_k >= 0, f"top_k must be 0 (all) or more, was {self.top_k}"),
            (0 < self.top_p <= 1, f"top_p must be above 0 and at most 1, was {self.top_p}"),
            (0 <= self.min_p <= 1, f"min_p must be between 0 and 1, was {self.min_p}"),
            (self.num_beams >= 1, f"num_beams must be at least 1, was {self.num_beams}"),
            (self.repetition_penalty > 0, f"repetition_penalty must be above 0, was {self.repetition_penalty}"),
            (
                self.num_beams == 1 or self.temperature == 0,
                f"beam search draws nothing: with num_beams {self.num_beams} the temperature must be 0, "
                f"was {self.temperature}",
            ),
        )
        for holds, sentence in checks:
            if not holds:
                raise UsageError(f"{sentence}.")


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
    """What can be read since the last event; empty while a character or a stop string may still be unfinished."""
    stopped: Stopped | None
    """Set in the last event of an answer."""


OnProgress = Callable[[int], None]
"""Is told how many requests are finished so far."""

OnToken = Callable[[TokenEvent], None]

_Answer = TypeVar("_Answer")

OnAnswers = Callable[[Sequence[tuple[int, _Answer]]], None]
"""Is told of answers as soon as a batch is finished: each request's place in the list, and its answer, the very one
that the call returns in the end. Every place is told of once."""
