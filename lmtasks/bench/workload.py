"""Requests of one task that a runtime is timed on: already tokens, a seeded sample of real rows; the calls that they
become, and when they come in an open loop.

Encoding is left out on purpose: it is the same for every runtime, and a child process then needs no data and no task.

>>> same = [WorkRequest(ids=(5, 6))] * 3
>>> work = sample_workload(task="sst2", kind="head", head="sst2", requests=same, seed=1)
>>> len(work.requests)  # equal requests would be answered once, so a workload holds each once
1
>>> Workload.from_json(work.as_json()) == work
True

The schedule of an open loop does not wait for answers, as people do not:

>>> schedule(Load(rate=100, count=3, arrival="even"), name="t")
(0.0, 0.01, 0.02)
"""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import accumulate, cycle
from typing import Literal, Protocol, get_args

from lmtasks.engine.requests import Generated, GenerateRequest, OnToken, Scored, ScoreRequest
from lmtasks.errors import UsageError, WorkError, unknown
from lmtasks.records import GENERATION_DEFAULTS, Floats32, Json
from lmtasks.settings.generation import Decoding

GREEDY = Decoding(
    **asdict(GENERATION_DEFAULTS) | {"max_new_tokens": 1, "temperature": 0.0, "min_new_tokens": 0, "sequence_bias": ()}
)
"""Whatever a model's generation_config.json says: texts of equal length are timed, each token the most likely one."""
Arrival = Literal["poisson", "even"]
ARRIVALS: tuple[Arrival, ...] = get_args(Arrival)
WorkKind = Literal["head", "score", "generate"]
WORK_KINDS: tuple[WorkKind, ...] = get_args(WorkKind)
REQUESTS = 48
"""As many as a 90th percentile needs (44), and a whole number of batches of 16, 8 or 4."""


@dataclass(frozen=True, kw_only=True)
class WorkRequest:
    """One request as token ids."""

    ids: tuple[int, ...]
    """Tokens that a head reads; the context of a score; the prompt of a generation."""
    types: tuple[int, ...] = ()
    """Segment ids for a head whose model reads them; otherwise not looked at."""
    target_ids: tuple[int, ...] = ()
    """What is scored behind the context; empty otherwise."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Distinct requests of one task, in the order in which they are asked."""

    task: str
    kind: WorkKind
    head: str = ""
    """The head that answers; empty for score and generate."""
    new_tokens: int = 0
    """Tokens that every generation yields, no fewer; 0 for head and score."""
    length: int = 0
    """Tokens of every request where all have as many (`at_length`); 0: as many as the task's rows have."""
    requests_per_example: float = 1.0
    """A prompted choice among four asks four times for an example, a long passage in several windows."""
    requests: tuple[WorkRequest, ...]

    def __post_init__(self) -> None:
        if self.kind not in WORK_KINDS:
            raise UsageError(f"a workload's kind is one of {', '.join(WORK_KINDS)}, was given {self.kind!r}.")
        if not self.requests:
            raise WorkError(f"the workload of {self.task} has no requests; its split is empty.")
        if self.kind == "generate" and self.new_tokens < 1:
            raise UsageError(f"a generate workload needs new_tokens of at least 1, was given {self.new_tokens}.")
        if self.kind == "head" and not self.head:
            raise UsageError(f"the workload of {self.task} has kind 'head' but names no head.")

    @property
    def unit(self) -> Literal["requests/s", "tokens/s"]:
        """The unit of its throughput: new tokens of a generation, otherwise requests (a text, a window, a choice)."""
        return "tokens/s" if self.kind == "generate" else "requests/s"

    @property
    def read_tokens(self) -> tuple[int, ...]:
        """How many tokens each request gives to read; new tokens of a generation not counted."""
        return tuple(len(request.ids) + len(request.target_ids) for request in self.requests)

    def as_json(self) -> Json:
        """Ready for a JSON file."""
        return {
            "task": self.task,
            "kind": self.kind,
            "head": self.head,
            "new_tokens": self.new_tokens,
            "length": self.length,
            "requests_per_example": self.requests_per_example,
            "requests": [
                {
                    "ids": list(r.ids),
                    "types": list(r.types),
                    "target_ids": list(r.target_ids),
                }
                for r in self.requests
            ],
        }

    @staticmethod
    def from_json(record: Json) -> "Workload":
        """The workload that `as_json` made the record of."""
        kinds: dict[object, WorkKind] = {kind: kind for kind in WORK_KINDS}
        requests = record["requests"]
        assert isinstance(requests, list)  # written by as_json, read by the child it was written for
        return Workload(
            task=str(record["task"]),
            kind=kinds[record["kind"]],
            head=str(record["head"]),
            new_tokens=int(str(record["new_tokens"])),
            length=int(str(record["length"])),
            requests_per_example=float(str(record["requests_per_example"])),
            requests=tuple(
                WorkRequest(
                    ids=tuple(r["ids"]),
                    types=tuple(r["types"]),
                    target_ids=tuple(r["target_ids"]),
                )
                for r in requests
            ),
        )


def at_length(workload: Workload, length: int) -> Workload:
    """The same task with `length` tokens to read in every request: its own rows' tokens, one row behind the other.

    >>> rows = (WorkRequest(ids=(1, 2, 3)), WorkRequest(ids=(4, 5)))
    >>> work = Workload(task="t", kind="head", head="t", requests=rows)
    >>> [request.ids for request in at_length(work, 4).requests]
    [(1, 2, 3, 4), (4, 5, 1, 2)]

    Raises:
        UsageError: a score's target alone has as many.
    """
    requests: dict[WorkRequest, None] = {}
    for place, request in enumerate(workload.requests):
        wanted = length - len(request.target_ids)
        if wanted < 1:
            raise UsageError(
                f"a length of {length} tokens leaves no room before the {len(request.target_ids)} tokens that "
                f"{workload.task} scores; use a longer one."
            )
        ids: tuple[int, ...] = ()
        types: tuple[int, ...] = ()
        for row in cycle((*workload.requests[place:], *workload.requests[:place])):
            ids, types = ids + row.ids, types + (row.types or (0,) * len(row.ids))
            if len(ids) >= wanted:
                break
        types = types[:wanted] if request.types else ()
        requests[WorkRequest(ids=ids[:wanted], types=types, target_ids=request.target_ids)] = None
    return replace(workload, length=length, requests=tuple(requests))


def sample_workload(
    *,
    task: str,
    kind: WorkKind,
    requests: Sequence[WorkRequest],
    seed: int,
    head: str = "",
    new_tokens: int = 0,
    count: int = REQUESTS,
    examples: int | None = None,
) -> Workload:
    """`count` of the distinct requests (all, if there are fewer), drawn and ordered by the seed.

    Args:
        examples: how many examples the requests are of; None: one each.
    """
    distinct = list(dict.fromkeys(requests))
    drawn = random.Random(f"workload:{seed}:{task}").sample(distinct, min(count, len(distinct)))
    return Workload(
        task=task,
        kind=kind,
        head=head,
        new_tokens=new_tokens,
        requests_per_example=len(requests) / examples if examples else 1.0,
        requests=tuple(drawn),
    )


@dataclass(frozen=True, kw_only=True)
class Load:
    """How many requests come, and how often."""

    rate: float
    """Requests a second, on average."""
    count: int
    arrival: Arrival = "poisson"
    """`poisson`: independent of each other, as those of many people are; `even`: the same gap between any two."""
    seed: int = 1234

    def __post_init__(self) -> None:
        if self.arrival not in ARRIVALS:
            raise unknown("arrival", self.arrival, ARRIVALS)
        if not 0 < self.rate < float("inf") or self.count < 1:
            raise UsageError(f"a load needs a rate above 0 and at least 1 request, was {self.rate:g} and {self.count}.")


def schedule(load: Load, *, name: str) -> tuple[float, ...]:
    """Seconds after the start at which each request comes; the first one at 0.

    Args:
        name: of the workload: each has its own draws under the load's seed.
    """
    draw = random.Random(f"arrivals:{load.seed}:{load.rate}:{name}")
    gaps: Mapping[Arrival, Callable[[], float]] = {
        "poisson": lambda: draw.expovariate(load.rate),
        "even": lambda: 1 / load.rate,
    }
    return (0.0, *accumulate(gaps[load.arrival]() for _ in range(load.count - 1)))


class TimedEngine(Protocol):
    """The engine that is timed: `lmtasks.engine.engine.Engine`, or a fake of known speed."""

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


Answer = Callable[[Sequence[WorkRequest], OnToken | None], int]
"""Answers requests, calling back with each token of a generation; returns how many units were done: requests, or new
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
