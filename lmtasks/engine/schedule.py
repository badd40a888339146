"""In which batches requests run: equal ones once, those of a length together, the longest first.

Longest first because a batch that is too large for the memory is then the first one, not the last.

>>> plan = schedule([(1, 2, 3), (7,), (1, 2, 3), (5, 6)], costs=[3, 1, 3, 2], limits=Limits(tokens=6))
>>> plan.batches
((0, 3), (1,))
>>> plan.copies[0]
(0, 2)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from lmtasks.data.batches import plan_batches
from lmtasks.errors import UsageError

_Ran = TypeVar("_Ran")
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How large a batch may be; one row always fits."""

    tokens: int
    """Rows times the longest row, padding counted."""
    rows: int | None = None

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise UsageError(f"a batch must hold at least 1 token, was {self.tokens}.")
        if self.rows is not None and self.rows < 1:
            raise UsageError(f"a batch must hold at least 1 row, was {self.rows}.")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Which requests run, and for which others their answers stand."""

    batches: tuple[tuple[int, ...], ...]
    """Indices of requests, each different from all others."""
    copies: Mapping[int, tuple[int, ...]]
    """Each scheduled index to all requests that equal it, itself first."""


def schedule(keys: Sequence[tuple[object, ...]], *, costs: Sequence[int], limits: Limits) -> Schedule:
    """Batches over requests.

    Args:
        keys: what a request's answer depends on; equal keys run once. Keys of equal cost are sorted, so what stands
            together in a batch does not depend on the order of the requests.
        costs: length of each request in tokens.
        limits: see there.
    """
    copies: dict[tuple[object, ...], list[int]] = {}
    for index, key in enumerate(keys):
        copies.setdefault(key, []).append(index)
    firsts = sorted((indices[0] for indices in copies.values()), key=lambda index: keys[index])
    plan = plan_batches([costs[index] for index in firsts], tokens_per_batch=limits.tokens, max_rows=limits.rows)
    batches = tuple(tuple(firsts[place] for place in batch) for batch in plan)
    return Schedule(batches=batches, copies={group[0]: tuple(group) for group in copies.values()})


class Answers(Generic[_Ran, _Answer]):
    """Answers as they come, mapped back to all requests that they answer.

    Args:
        plan: what runs.
        count: number of requests.
        finish: makes a request's own answer of what ran: of two requests that ran as one, one may have been cut.
        on_progress: is told how many requests are answered so far.
        on_answers: is told of the answers themselves, batch by batch.
    """

    def __init__(
        self,
        plan: Schedule,
        *,
        count: int,
        finish: Callable[[int, _Ran], _Answer],
        on_progress: Callable[[int], None] | None,
        on_answers: Callable[[Sequence[tuple[int, _Answer]]], None] | None,
    ) -> None:
        self._copies = plan.copies
        self._answers: list[_Answer | None] = [None] * count
        self._done = 0
        self._finish = finish
        self._tell: Callable[[int], None] = on_progress or (lambda done: None)
        self._hear: Callable[[Sequence[tuple[int, _Answer]]], None] = on_answers or (lambda answers: None)

    def give(self, ran: Sequence[tuple[int, _Ran]]) -> None:
        """The answers of requests that ran, a batch, or the rows of one that are finished."""
        fresh = [(copy, self._finish(copy, answer)) for index, answer in ran for copy in self._copies[index]]
        for copy, answer in fresh:
            self._answers[copy] = answer
        self._done += len(fresh)
        self._tell(self._done)
        self._hear(fresh)

    def all(self) -> list[_Answer]:
        """In the order of the requests, once every scheduled one is answered."""
        return [answer for answer in self._answers if answer is not None]
