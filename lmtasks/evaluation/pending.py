"""Examples that wait for replies, between a task and an engine.

A request builder turns examples into requests, many at a time; once the replies are there, each `finish` makes answers
of them. `stream.py` carries requests of all tasks to the engine together.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from lmtasks.engine.engine import HeadRow
from lmtasks.engine.requests import Generated, GenerateRequest, Scored, ScoreRequest
from lmtasks.evaluation.outcome import Answered
from lmtasks.records import Floats32, Json, Row


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredExample:
    """One row of the scored split."""

    doc_id: int
    """Its place in the split: what shots and draws are keyed by, however the split is cut."""
    row: Row


@dataclass(frozen=True, kw_only=True, slots=True)
class Replies:
    """The engine's replies to one `Pending`, in the order of its requests."""

    scored: Sequence[Scored] = ()
    generated: Sequence[Generated] = ()
    logits: Sequence[Floats32] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """An example with its answer."""

    example: ScoredExample
    answered: Answered
    truncated: bool
    """Was something cut off to fit the model?"""
    remarks: tuple[str, ...] = ()
    """What a reader must know of the answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pending:
    """Requests that wait for replies."""

    doc_id: int
    """The example that they are about, for messages."""
    score: Sequence[ScoreRequest] = ()
    generate: Sequence[GenerateRequest] = ()
    predict: Sequence[HeadRow] = ()
    head: str = ""
    """Answers `predict`."""
    cut: int = 0
    """Requests of which something was cut off before; the engine says itself what it cuts off."""
    finish: Callable[[Replies], Sequence[Finished]]
    """Usually one answer; several or none where examples share requests."""

    @property
    def size(self) -> int:
        """Number of requests."""
        return len(self.score) + len(self.generate) + len(self.predict)


class RequestBuilder(Protocol):
    """Makes requests from a task's examples. It may keep something from one call to the next, and gives the rest at the
    end.
    """

    @property
    def decoding(self) -> Json | None:
        """Settings of generation, where texts are generated."""
        ...

    def build(self, examples: Sequence[ScoredExample]) -> Sequence[Pending]:
        """The requests of these examples, in their order.

        Raises:
            UsageError: the task does not fit a row, or the model.
        """
        ...

    def end(self) -> Sequence[Pending]:
        """The requests that are left after the last example."""
        ...
