"""The engine as bench uses it: a workload becomes calls that say how much they did."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from lmtasks.bench.workload import WorkKind, Workload, WorkRequest
from lmtasks.engine.requests import Decoding, Generated, GenerateRequest, Scored, ScoreRequest
from lmtasks.records import Floats32


class Answers(Protocol):
    """What is timed: `lmtasks.engine.engine.Engine`, or a fake of known speed."""

    def predict(self, head: str, rows: Sequence[WorkRequest]) -> Sequence[Floats32]:
        """A head's logits for each row."""
        ...

    def score(self, requests: Sequence[ScoreRequest]) -> Sequence[Scored]:
        """Log-probabilities of given targets."""
        ...

    def generate(self, requests: Sequence[GenerateRequest]) -> Iterable[Generated]:
        """Continuations of prompts."""
        ...


def answer_to(engine: Answers, *, workload: Workload) -> Callable[[Sequence[WorkRequest]], int]:
    """The calls of a workload: requests in, units done out."""
    ask = ASK[workload.kind]
    return lambda requests: ask(engine, workload, requests)


def _predict(engine: Answers, workload: Workload, requests: Sequence[WorkRequest]) -> int:
    return len(engine.predict(workload.head, requests))


def _score(engine: Answers, workload: Workload, requests: Sequence[WorkRequest]) -> int:
    return len(engine.score([ScoreRequest(context_ids=r.ids, target_ids=r.target_ids) for r in requests]))


def _generate(engine: Answers, workload: Workload, requests: Sequence[WorkRequest]) -> int:
    settings = Decoding(max_new_tokens=workload.new_tokens)
    asked = [GenerateRequest(prompt_ids=request.ids, settings=settings) for request in requests]
    return sum(len(answer.ids) for answer in engine.generate(asked))


ASK: Mapping[WorkKind, Callable[[Answers, Workload, Sequence[WorkRequest]], int]] = {
    "head": _predict,
    "score": _score,
    "generate": _generate,
}
