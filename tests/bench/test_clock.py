import gc
from collections.abc import Callable

from lmtasks.bench.clock import Stop, time_calls, warm_up


class FakeClock:
    """A clock that moves by one step a look, and by what a call costs."""

    def __init__(self) -> None:
        self.ns = 0

    def now(self) -> int:
        self.ns += 10
        return self.ns

    def costs(self, *seconds: float) -> Callable[[], None]:
        """A call with these costs, the last one for ever."""
        left = list(seconds)

        def call() -> None:
            self.ns += round(1e9 * (left.pop(0) if len(left) > 1 else left[0]))

        return call


def test_every_call_is_timed_by_itself() -> None:
    clock = FakeClock()
    times = time_calls(clock.costs(0.1, 0.3, 0.2), stop=Stop(least_calls=3), now=clock.now)
    assert [round(value, 6) for value in times.seconds] == [0.1, 0.3, 0.2]


def test_stop_needs_calls_and_seconds_but_knows_an_end() -> None:
    clock = FakeClock()
    assert len(time_calls(clock.costs(0.1), stop=Stop(least_calls=3, least_seconds=1), now=clock.now).seconds) == 10
    slow = Stop(least_calls=50, most_seconds=1)
    assert len(time_calls(clock.costs(0.4), stop=slow, now=clock.now).seconds) == 3
    assert len(time_calls(clock.costs(9.0), stop=slow, now=clock.now).seconds) == 1


def test_the_collector_is_off_while_timing_and_back_afterwards() -> None:
    seen: list[bool] = []
    time_calls(lambda: seen.append(gc.isenabled()), stop=Stop(least_calls=1))
    assert seen == [False]
    assert gc.isenabled()


def test_warm_up_ends_when_the_median_settles() -> None:
    clock = FakeClock()
    slow_start = [1.0, 0.9, 0.8, 0.5, 0.3, 0.2, 0.1]
    times = warm_up(clock.costs(*slow_start), window=3, tolerance=0.05, most_seconds=60, now=clock.now)
    assert 8 < len(times.seconds) < 14  # medians of 3 behind the slow start are equal from here on


def test_warm_up_ends_when_its_time_is_over() -> None:
    clock = FakeClock()
    times = warm_up(clock.costs(*[2.0**-n for n in range(1, 30)]), most_seconds=0.9, now=clock.now)
    assert len(times.seconds) < 10
