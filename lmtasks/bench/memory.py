"""Peak memory of this process, by the kernel's own high-water mark; no sampling thread that would disturb a timing."""

import resource
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")


def peak_bytes() -> int:
    """The most resident memory so far.

    On Linux this is `VmHWM`, which starts anew with the program. `ru_maxrss` does not: a process begins with the peak
    of the parent that forked it, so a child of a large parent would be blamed for the parent's memory.
    """
    marked = _status("VmHWM")
    if marked is not None:
        return marked
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def resident_bytes() -> int:
    """Resident memory now."""
    now = _status("VmRSS")
    if now is not None:
        return now
    import psutil

    return int(psutil.Process().memory_info().rss)


def _status(field: str) -> int | None:
    """A field of /proc/self/status, in kB there; None on other systems."""
    try:
        lines = STATUS.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, value = line.partition(":")
        if name == field:
            return 1024 * int(value.split()[0])
    return None
