"""Running out of memory, which the libraries below report each in its own way, and how much is left.

>>> with memory_errors("scoring 2 rows"):
...     raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 800 bytes.")
Traceback (most recent call last):
...
lmtasks.runtime.memory.OutOfMemory: memory ran out while scoring 2 rows.
"""

import ctypes
import mmap
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lmtasks.errors import WorkError

OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "cannot allocate memory",
    "failed to allocate memory",
    "bad allocation",
    "bad_alloc",
    "cublas_status_alloc_failed",
)
"""Parts of the messages of torch, its CPU and CUDA allocators, and onnxruntime's arena, in small letters."""
CGROUP = Path("/sys/fs/cgroup")


KEEP = ((-4, 0), (-1, 2**31 - 1), (-2, 64 * 2**20))
"""glibc's `mallopt`: M_MMAP_MAX none, M_TRIM_THRESHOLD never, M_TOP_PAD bytes taken at a time."""


COMPILED_KEPT = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "16", "LRU_CACHE_CAPACITY": "16"}
"""oneDNN compiles each product for each shape, about 0.2 MB, and it and the layer between it and torch (ideep) keep
1,024 of them each by default: those of a batch have room here, and mostly those of the one before.
Another batch seldom has the very same shape. Scoring 240 questions (30M parameters, two cores) takes 30 MB less with 16
than with 1,024, in the same time."""
PAGE_OUT = 21
"""Linux' MADV_PAGEOUT: give pages back, contents are read again when they are asked for."""


def keep_freed_memory() -> None:
    """Let the process keep memory that was freed, for the next tensors, until `give_back_freed_memory` is called.

    glibc gives large blocks back to the system at once, and the next operator pays for each page of its result anew:
    15% of the time of scoring long rows (seen on two cores, 30M parameters). Other C libraries are left alone.
    oneDNN, which reads its settings when it is first used, is set to keep less.
    """
    for name, capacity in COMPILED_KEPT.items():
        os.environ.setdefault(name, capacity)
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    for setting, value in KEEP:
        mallopt(setting, value)


def give_back_freed_memory() -> None:
    """Give back what was freed so far: loading a model leaves a copy of its weights behind, in holes, and batches of
    many shapes leave holes that the next one does not fit into."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):
        return


def let_go_of_pages(address: int, size_bytes: int) -> None:
    """Pages of a mapped file that were read and are not needed soon; whatever else lies there stays as it is."""
    page = mmap.PAGESIZE
    first, end = -(-address // page) * page, (address + size_bytes) // page * page
    if sys.platform == "linux" and first < end:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(end - first), PAGE_OUT)


class OutOfMemory(WorkError):
    """A request did not fit into memory; a smaller part of it may."""


def ran_out(error: BaseException) -> bool:
    """Does an error of a library below say that memory ran out?"""
    if isinstance(error, MemoryError | OutOfMemory):
        return True
    message = str(error).lower()  # by their words: onnxruntime's errors have no common base
    return any(words in message for words in OUT_OF_MEMORY)


@contextmanager
def memory_errors(doing: str) -> Iterator[None]:
    """Turn every kind of running out of memory into `OutOfMemory`; other errors pass.

    The old error is not kept: its traceback holds the very tensors that are to be given back. What an inner one of
    these contexts was doing is nearer to the cause, and stays.

    Args:
        doing: completes "memory ran out while ...".
    """
    try:
        yield
        return
    except (MemoryError, RuntimeError, WorkError) as error:
        if not ran_out(error):
            raise
        error.__traceback__ = None
        message = str(error) if isinstance(error, OutOfMemory) else f"memory ran out while {doing}."
    raise OutOfMemory(message)


def free_host_bytes() -> int:
    """Memory that this process can still take: what the machine has left, or its control group allows."""
    import psutil

    free = int(psutil.virtual_memory().available)
    try:
        allowed = (CGROUP / "memory.max").read_text().strip()
        used = int((CGROUP / "memory.current").read_text())
    except (OSError, ValueError):
        return free
    return free if allowed == "max" else min(free, max(0, int(allowed) - used))
