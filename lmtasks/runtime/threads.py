"""How many threads compute."""

from lmtasks.cores import usable_cores
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
