"""What else this machine did while something was timed: a number is only as good as the quiet around it.

Each block of timings stands between two looks at the machine; what they saw is written beside the block's numbers.
"""

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from lmtasks.bench.machine import stolen_seconds, throttled_periods
from lmtasks.cores import usable_cores

MOST_DRIFT = 0.05
"""The same fixed kernel before and after a block may differ by so much."""
MOST_STOLEN = 0.01
"""Share of the processor's time that the hypervisor may give to others."""
MOST_BUSY = 0.1
"""Share of the processor's time that others may use before the start."""
MOST_SWITCHES = 100.0
"""Involuntary context switches a second: a core that is shared with one other busy process has 100 to 300."""
THERMAL = "cpu*/thermal_throttle/core_throttle_count"
CPUS = Path("/sys/devices/system/cpu")


@dataclass(frozen=True, kw_only=True)
class Look:
    """The counters of the machine and of this process at one moment, and the speed of a fixed kernel."""

    seconds: float
    stolen_seconds: float
    throttled_periods: int | None
    """How often the container's processor limit stopped it."""
    hot: int | None
    """How often cores were slowed down for being hot; None where the machine does not tell."""
    switches: int
    """Involuntary context switches of this process."""
    kernel: float
    """Rate of the fixed kernel, in any unit."""


def look(kernel: Callable[[], float], *, now: Callable[[], float] = time.perf_counter) -> Look:
    """Look at the machine.

    Args:
        kernel: runs the fixed kernel and returns its rate.
    """
    rate = kernel()
    return Look(
        seconds=now(),
        stolen_seconds=stolen_seconds(),
        throttled_periods=throttled_periods(),
        hot=_hot(),
        switches=resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw,
        kernel=rate,
    )


def disturbances(before: Look, after: Look, *, cores: int | None = None) -> tuple[str, ...]:
    """What disturbed a block, in words; empty where it was quiet.

    The kernel itself runs in the looks, outside the block's seconds but for the second one.
    """
    seconds = max(after.seconds - before.seconds, 1e-9)
    found = []
    change = after.kernel / before.kernel - 1
    if abs(change) > MOST_DRIFT:
        way = "faster" if change > 0 else "slower"
        found.append(f"the machine's own pace changed: a fixed matrix product ran {abs(change):.0%} {way} afterwards")
    stolen = (after.stolen_seconds - before.stolen_seconds) / seconds / (cores or usable_cores())
    if stolen > MOST_STOLEN:
        found.append(f"the hypervisor gave {100 * stolen:.1f} % of the processor's time to others")
    if (times := _more(before.throttled_periods, after.throttled_periods)) > 0:
        found.append(f"the container's processor limit stopped the process {times} times")
    if (times := _more(before.hot, after.hot)) > 0:
        found.append(f"cores were slowed down for being hot {times} times")
    switches = (after.switches - before.switches) / seconds
    if switches > MOST_SWITCHES:
        found.append(f"other processes took a core away {switches:.0f} times a second")
    return tuple(found)


def busy_share(*, seconds: float = 0.2, sleep: Callable[[float], object] = time.sleep) -> float:
    """Share of all cores' time that is used while this process sleeps: by others, that is."""
    before = psutil.cpu_times()
    sleep(seconds)
    after = psutil.cpu_times()
    total = sum(after) - sum(before)
    idle = sum(getattr(after, name, 0.0) - getattr(before, name, 0.0) for name in ("idle", "iowait"))
    return max(0.0, 1 - idle / total) if total > 0 else 0.0


def before_start(busy: float, load: float | None) -> tuple[str, ...]:
    """A sentence where others were at work before the start."""
    if busy <= MOST_BUSY:
        return ()
    mean = "" if load is None else f" (load {load:g} on {usable_cores()} cores)"
    return (f"the machine was not idle before the start: others used {busy:.0%} of it{mean}",)


def _hot() -> int | None:
    counts = [file.read_text(encoding="ascii") for file in CPUS.glob(THERMAL)]
    return sum(map(int, counts)) if counts else None


def _more(before: int | None, after: int | None) -> int:
    return 0 if before is None or after is None else after - before
