"""When the tokens of answers came: time to the first one, and from each to the next.

>>> clock = iter([1.0, 1.5, 1.75, 2.0])
>>> ears = TokenTimes(now=lambda: next(clock))
>>> for request, step in ((0, 0), (1, 0), (0, 1), (1, 1)):
...     ears.hear(TokenEvent(request=request, step=step, text="", stopped=None))
>>> ears.first_seconds({0: 0.75, 1: 1.25}), ears.between_seconds()
([0.25, 0.25], [0.75, 0.5])
"""

import time
from collections.abc import Callable, Mapping
from itertools import pairwise

from lmtasks.engine.requests import TokenEvent


class TokenTimes:
    """Hears of the tokens of one call, or of one open-loop run. A call has a new one, so nothing is carried over from
    the call before."""

    def __init__(self, *, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._heard: dict[int, list[float]] = {}

    def hear(self, event: TokenEvent) -> None:
        """A token came. An event without text counts too: its token was made."""
        self._heard.setdefault(event.request, []).append(self._now())

    def first_seconds(self, starts: Mapping[int, float]) -> list[float]:
        """From each request's start to its first token."""
        return [self._heard[request][0] - start for request, start in starts.items() if request in self._heard]

    def between_seconds(self) -> list[float]:
        """From each token to the next one of the same request."""
        return [after - before for times in self._heard.values() for before, after in pairwise(times)]

    def last(self, request: int) -> float | None:
        """When its last token came so far; None: none did."""
        return self._heard[request][-1] if request in self._heard else None
