"""The engine as bench uses it: a workload becomes calls that say how much they did."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Protocol

from lmtasks.bench.workload import WorkKind, Workload, WorkRequest
from lmtasks.engine.requests import Decoding, Generated, GenerateRequest, OnToken, Scored, ScoreRequest
from lmtasks.records import GENERATION_DEFAULTS, Floats32


class TimedEngine(Protocol):
    """What is timed: `lmtasks.engine.engine.Engine`, or a fake of known speed."""

    def predict(self, head: str, rows: Sequence[WorkRequest]) -> Sequence[Floats32]:
        """A head's logits for each row."""
        ...

    def score(self, requests: Sequence[ScoreRequest]) -> Sequence[Scored]:
        """Log-probabilities of given targets."""
        ...

    def generate(self, requests: Sequence[GenerateRequest], *, on_token: OnToken | None = None) -> Iterable[Generated]:
        """Continuations of prompts."""
        ...

    def joins(self) -> bool:
        """Can texts join while others are being written, as `serve` needs it?"""
        ...

    def serve(
        self,
        arriving: Callable[[bool], Sequence[GenerateRequest] | None],
        *,
        rows: int,
        length: int,
        on_token: OnToken,
    ) -> None:
        """Continuations of prompts that come one after the other; see `Engine.serve`."""
        ...


GREEDY = Decoding(
    **asdict(GENERATION_DEFAULTS) | {"max_new_tokens": 1, "temperature": 0.0, "min_new_tokens": 0, "sequence_bias": ()}
)
"""Whatever a model's generation_config.json says: texts of equal length are timed, each token the most likely one."""

Answer = Callable[[Sequence[WorkRequest], OnToken | None], int]
"""Answers requests, and tells of each token of a generation; returns how many units were done: requests, or new
tokens of a generation."""


def answer_to(engine: TimedEngine, *, workload: Workload) -> Answer:
    """The calls of a workload: requests in, units done out."""
    ask = ASK[workload.kind]
    return lambda requests, on_token: ask(engine, workload, requests, on_token)


def asked(workload: Workload, request: WorkRequest) -> GenerateRequest:
    """A text that is to be continued, by as many tokens as the workload has it."""
    return GenerateRequest(prompt_ids=request.ids, settings=replace(GREEDY, max_new_tokens=workload.new_tokens))


def _predict(engine: TimedEngine, workload: Workload, requests: Sequence[WorkRequest], on_token: OnToken | None) -> int:
    return len(engine.predict(workload.head, requests))


def _score(engine: TimedEngine, workload: Workload, requests: Sequence[WorkRequest], on_token: OnToken | None) -> int:
    return len(engine.score([ScoreRequest(context_ids=r.ids, target_ids=r.target_ids) for r in requests]))


def _generate(
    engine: TimedEngine, workload: Workload, requests: Sequence[WorkRequest], on_token: OnToken | None
) -> int:
    answers = engine.generate([asked(workload, request) for request in requests], on_token=on_token)
    return sum(len(answer.ids) for answer in answers)


ASK: Mapping[WorkKind, Callable[[TimedEngine, Workload, Sequence[WorkRequest], OnToken | None], int]] = {
    "head": _predict,
    "score": _score,
    "generate": _generate,
}
