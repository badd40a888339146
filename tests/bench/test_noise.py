from dataclasses import replace

import pytest

from lmtasks.bench.machine import Look, before_start, busy_share, disturbances, look

QUIET = Look(seconds=10.0, stolen_seconds=5.0, throttled_periods=3, hot=1, switches=100, kernel=50.0)
LATER = replace(QUIET, seconds=12.0)


def test_a_quiet_block_has_no_flags() -> None:
    assert disturbances(QUIET, LATER, cores=2) == ()
    assert disturbances(QUIET, replace(LATER, kernel=51.0, switches=150, stolen_seconds=5.01), cores=2) == ()


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (replace(LATER, kernel=40.0), "a fixed matrix product ran 20% slower afterwards"),
        (replace(LATER, kernel=60.0), "a fixed matrix product ran 20% faster afterwards"),
        (replace(LATER, stolen_seconds=5.4), "the hypervisor gave 10.0 % of the processor's time to others"),
        (replace(LATER, throttled_periods=7), "the container's processor limit stopped the process 4 times"),
        (replace(LATER, hot=3), "cores were slowed down for being hot 2 times"),
        (replace(LATER, switches=700), "other processes took a core away 300 times a second"),
    ],
)
def test_each_disturbance_is_told(after: Look, said: str) -> None:
    (found,) = disturbances(QUIET, after, cores=2)
    assert found.endswith(said)


def test_a_system_that_tells_nothing_raises_no_flag() -> None:
    silent = replace(QUIET, throttled_periods=None, hot=None)
    assert disturbances(silent, LATER, cores=2) == ()


def test_looks_count_up() -> None:
    one, two = look(lambda: 1.0), look(lambda: 1.0)
    assert two.seconds > one.seconds
    assert two.switches >= one.switches


def test_others_at_work_before_the_start_are_told() -> None:
    assert before_start(0.05, 0.3) == ()
    (said,) = before_start(0.45, 1.9)
    assert said.startswith("the machine was not idle before the start: others used 45% of it (load 1.9 on ")
    assert 0 <= busy_share(seconds=0.05) <= 1
