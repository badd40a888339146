"""How many threads compute."""

import os

from lmtasks.errors import UsageError


def checked_threads(threads: int | None) -> int:
    """The number asked for, or as many as this process may run on.

    Raises:
        UsageError: less than one.
    """
    if threads is None:
        return max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    if threads < 1:
        raise UsageError(f"--threads must be at least 1, was {threads}.")
    return threads
