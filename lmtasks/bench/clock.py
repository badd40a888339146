"""Timing calls: warm-up until the times settle, no garbage collection in between, a floor of calls and of seconds.

>>> ticks = iter(range(0, 10**9, 1000))
>>> times = time_calls(lambda: None, stop=Stop(least_calls=3), now=lambda: next(ticks))
>>> times.seconds  # 1,000 ns each
(1e-06, 1e-06, 1e-06)

Of texts it is recorded when each token came: the time to the first one, and from each to the next.

>>> seconds = iter([1.0, 1.5, 1.75, 2.0])
>>> tokens = TokenTimes(now=lambda: next(seconds))
>>> for request, step in ((0, 0), (1, 0), (0, 1), (1, 1)):
...     tokens.record(TokenEvent(request=request, step=step, text="", stopped=None))
>>> tokens.first_seconds({0: 0.75, 1: 1.25}), tokens.between_seconds()
([0.25, 0.25], [0.75, 0.5])
"""

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from lmtasks.engine.requests import TokenEvent

Now = Callable[[], int]
"""A clock in nanoseconds that never goes back."""


@dataclass(frozen=True, kw_only=True)
class Stop:
    """When timing ends: after the least calls and seconds, at the end of a pass; never long after `most_seconds`."""

    least_calls: int = 7
    least_seconds: float = 0.0
    calls_per_pass: int = 1
    most_seconds: float = float("inf")
    """Ends even within a pass, but not before 1 call is done."""

    def reached(self, *, calls: int, seconds: float) -> bool:
        """Is it enough?"""
        if calls > 0 and seconds >= self.most_seconds:
            return True
        enough = calls >= self.least_calls and seconds >= self.least_seconds
        return enough and calls % self.calls_per_pass == 0


@dataclass(frozen=True, kw_only=True)
class Times:
    """Seconds of each call, in order."""

    seconds: tuple[float, ...]
    settled: bool = True
    """Of a warm-up: did the median settle, or did its time run out?"""

    @property
    def total(self) -> float:
        """Seconds of all calls together."""
        return sum(self.seconds)


def time_calls(call: Callable[[], object], *, stop: Stop, now: Now = time.perf_counter_ns) -> Times:
    """Times every call by itself, with the garbage collector off."""
    taken: list[float] = []
    total = 0.0
    with without_garbage_collection():
        while not stop.reached(calls=len(taken), seconds=total):
            start = now()
            call()
            taken.append((now() - start) / 1e9)
            total += taken[-1]
    return Times(seconds=tuple(taken))


def warm_up(
    call: Callable[[], object],
    *,
    window: int = 5,
    tolerance: float = 0.05,
    most_seconds: float = 5.0,
    now: Now = time.perf_counter_ns,
) -> Times:
    """Calls until the median of the last `window` calls is within `tolerance` of the median of the window before.

    A fixed number of calls would be too few for a runtime that still allocates and too many for a slow one.

    Returns:
        The times of the calls, which are not to be counted, and whether their median settled.
    """
    taken: list[float] = []
    settled = False
    while sum(taken) < most_seconds:
        start = now()
        call()
        taken.append((now() - start) / 1e9)
        if len(taken) >= 2 * window:
            before, last = median(taken[-2 * window : -window]), median(taken[-window:])
            if abs(last - before) <= tolerance * before:
                settled = True
                break
    return Times(seconds=tuple(taken), settled=settled)


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Collect once, then keep the collector off inside the block; afterwards it is as it was."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class TokenTimes:
    """Times of the tokens of one call, or of one open-loop run. A call has a new one, so nothing is left over from the
    call before."""

    def __init__(self, *, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._times: dict[int, list[float]] = {}

    def record(self, event: TokenEvent) -> None:
        """Record that a token came. An event without text counts too: its token was made."""
        self._times.setdefault(event.request, []).append(self._now())

    def first_seconds(self, starts: Mapping[int, float]) -> list[float]:
        """From each request's start to its first token."""
        return [self._times[request][0] - start for request, start in starts.items() if request in self._times]

    def between_seconds(self) -> list[float]:
        """From each token to the next one of the same request."""
        return [after - before for times in self._times.values() for before, after in pairwise(times)]

    def last(self, request: int) -> float | None:
        """When its last token came so far; None: none did."""
        return self._times[request][-1] if request in self._times else None
