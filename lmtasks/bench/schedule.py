"""When requests come in an open loop: by a schedule that does not wait for answers, as people do not.

>>> schedule(Load(rate=100, count=3, arrival="even"), name="t")
(0.0, 0.01, 0.02)
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, get_args

from lmtasks.errors import UsageError, unknown

Arrival = Literal["poisson", "even"]
ARRIVALS: tuple[Arrival, ...] = get_args(Arrival)


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
