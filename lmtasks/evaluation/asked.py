"""What evaluation needs of an engine, and how a task's settings reach it."""

from collections.abc import Sequence
from typing import Protocol

from lmtasks.data.tokenizer import Tokenizer
from lmtasks.engine.engine import HeadRow
from lmtasks.engine.requests import Decoding, Generated, GenerateRequest, OnProgress, Scored, ScoreRequest
from lmtasks.records import Floats32, ModelCard, RuntimeCard
from lmtasks.task.task import Generation


class Answers(Protocol):
    """`lmtasks.engine.engine.Engine`, whatever its runtime's state."""

    tokenizer: Tokenizer

    @property
    def cached(self) -> Sequence[bool]:
        """Of the last call, for each request: was its answer known before? Empty: none was."""
        ...

    @property
    def model(self) -> ModelCard: ...

    @property
    def card(self) -> RuntimeCard: ...

    @property
    def max_length_tokens(self) -> int: ...

    def predict(self, head: str, rows: Sequence[HeadRow], *, on_progress: OnProgress | None) -> list[Floats32]: ...

    def score(self, requests: Sequence[ScoreRequest], *, on_progress: OnProgress | None) -> list[Scored]: ...

    def generate(self, requests: Sequence[GenerateRequest], *, on_progress: OnProgress | None) -> list[Generated]: ...


def decoding_of(settings: Generation) -> Decoding:
    """A task's settings of generation as the engine reads them."""
    return Decoding(
        max_new_tokens=settings.max_new_tokens,
        stop=settings.stop,
        temperature=settings.temperature,
        top_k=settings.top_k,
        top_p=settings.top_p,
        min_p=settings.min_p,
        num_beams=settings.num_beams,
        length_penalty=settings.length_penalty,
        repetition_penalty=settings.repetition_penalty,
    )
