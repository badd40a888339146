"""The largest rate at which a latency still holds: `--require 'p95_ms<=500@max'`.

From a first guess the rate is doubled while the latency holds, or halved until it does; then the gap is halved on a
logarithmic scale until it is a tenth. Every rate is a run of its own, with as many requests as the percentile needs; of
a run in which a request was not answered nothing holds.

>>> goal = RateGoal(percentile=95, limit_ms=100)
>>> found = largest_rate(lambda rate: (50.0 if rate <= 40 else 900.0, True), goal, first=10)
>>> round(found.rate), [round(each.rate) for each in found.tried]
(40, [10, 20, 40, 80, 57, 48, 44])
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

CLOSE = 1.1
"""How far the rate that holds may be from one that does not."""
DOUBLINGS = 12
"""Of the first guess, up or down, at most."""


@dataclass(frozen=True, kw_only=True)
class RateGoal:
    """A latency that is to hold."""

    which: str = ""
    """`ttft_`: to the first token; `itl_`: from token to token; nothing: of the whole answer."""
    percentile: int
    limit_ms: float

    @property
    def name(self) -> str:
        """As `--require` has it."""
        return f"{self.which}p{self.percentile}_ms"


@dataclass(frozen=True, kw_only=True)
class TriedRate:
    """One run of a search."""

    rate: float
    """Requests a second."""
    value_ms: float | None
    """The percentile; None: too few were answered to tell it."""
    held: bool


@dataclass(frozen=True, kw_only=True)
class LargestRate:
    """The end of a search."""

    task: str = ""
    goal: RateGoal
    rate: float
    """Requests a second, the largest that held; 0: none did."""
    tried: tuple[TriedRate, ...]


def largest_rate(
    run: Callable[[float], tuple[float | None, bool]], goal: RateGoal, *, first: float, task: str = ""
) -> LargestRate:
    """Search.

    Args:
        run: of a rate the percentile in milliseconds, and whether all requests were answered.
        first: a guess, requests a second.
    """
    tried: list[TriedRate] = []

    def holds(rate: float) -> bool:
        value, answered = run(rate)
        held = answered and value is not None and value <= goal.limit_ms
        tried.append(TriedRate(rate=rate, value_ms=value, held=held))
        return held

    low, high = 0.0, 0.0
    rate = first
    for _ in range(DOUBLINGS + 1):
        if holds(rate):
            low = rate
            rate *= 2
        else:
            high = rate
            rate /= 2
        if low and high:
            break
    while low and high / low > CLOSE and high:
        middle = sqrt(low * high)
        if holds(middle):
            low = middle
        else:
            high = middle
    return LargestRate(task=task, goal=goal, rate=low, tried=tuple(tried))
