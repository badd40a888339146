"""What a runtime is timed on: requests of one task, already tokens, a seeded sample of real rows.

Encoding is left out on purpose: it is the same for every runtime, and a child process then needs no data and no task.

>>> same = [WorkRequest(ids=(5, 6))] * 3
>>> work = sample_workload(task="sst2", kind="head", head="sst2", requests=same, seed=1)
>>> len(work.requests)  # equal requests would be answered once, so a workload holds each once
1
>>> Workload.from_json(work.as_json()) == work
True
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Literal, get_args

from lmtasks.errors import UsageError, WorkError
from lmtasks.records import Json

WorkKind = Literal["head", "score", "generate"]
WORK_KINDS: tuple[WorkKind, ...] = get_args(WorkKind)

REQUESTS = 48
"""As many as a 90th percentile needs (44), and a whole number of batches of 16, 8 or 4."""


@dataclass(frozen=True, kw_only=True)
class WorkRequest:
    """One request as token ids."""

    ids: tuple[int, ...]
    """What a head reads; the context of a score; the prompt of a generation."""
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
        """What its throughput counts: new tokens of a generation, otherwise requests (a text, a window, a choice)."""
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
        """What `as_json` gave."""
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
