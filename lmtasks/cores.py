"""How many processors this process may use: the one count that every thread pool and every table goes by."""

import os
from pathlib import Path

from lmtasks.errors import UsageError


def checked_threads(threads: int | None) -> int:
    """The number asked for, or as many as this process may run on.

    Raises:
        UsageError: less than one.
    """
    if threads is None:
        return usable_cores()
    if threads < 1:
        raise UsageError(f"--threads must be at least 1, was {threads}.")
    return threads


GROUPS = Path("/sys/fs/cgroup")
OWN_GROUP = Path("/proc/self/cgroup")


def usable_cores() -> int:
    """The process's affinity, cut to whole cores of the container's limit; at least 1."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = cpu_limit()
    return max(1, affinity if limit is None else min(affinity, int(limit)))


def cpu_limit(*, groups: Path = GROUPS, own_group: Path = OWN_GROUP) -> float | None:
    """Cores that the control groups of this process (a container's, a service's) allow, the least of all levels; None
    where there is no limit."""
    limits = [limit for folder in _levels(groups, own_group) if (limit := _limit_of(folder)) is not None]
    return min(limits, default=None)


def _levels(groups: Path, own_group: Path) -> list[Path]:
    """The folders of the process's own groups and of all above them, of version 2 and of version 1."""
    found = [groups, groups / "cpu"]
    for line in _read(own_group).splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        home = groups / "cpu" if controllers else groups
        own = home / path.strip("/")
        found += [each for each in (own, *own.parents) if each.is_relative_to(home)]
    return list(dict.fromkeys(found))


def _limit_of(folder: Path) -> float | None:
    quota, _, period = _read(folder / "cpu.max").partition(" ")  # version 2
    if not quota:
        quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")  # version 1
    if not quota.isdigit() or not period.isdigit() or not int(period):  # "max" or -1: no limit
        return None
    return round(int(quota) / int(period), 2)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
