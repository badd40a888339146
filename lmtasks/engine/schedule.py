"""In which batches requests run: equal ones once, those of a length together, the longest first.

Longest first because a batch that is too large for the memory is then the first one, not the last.

>>> plan = schedule([(1, 2, 3), (7,), (1, 2, 3), (5, 6)], costs=[3, 1, 3, 2], limits=Limits(tokens=6))
>>> plan.batches
((0, 3), (1,))
>>> plan.copies[0]
(0, 2)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lmtasks.errors import UsageError


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
    firsts = [indices[0] for indices in copies.values()]
    firsts.sort(key=lambda index: (-costs[index], keys[index]))
    batches: list[tuple[int, ...]] = []
    batch: list[int] = []
    for index in firsts:
        full = len(batch) == limits.rows or bool(batch) and (len(batch) + 1) * costs[batch[0]] > limits.tokens
        if full:
            batches.append(tuple(batch))
            batch = []
        batch.append(index)
    if batch:
        batches.append(tuple(batch))
    return Schedule(batches=tuple(batches), copies={group[0]: tuple(group) for group in copies.values()})
