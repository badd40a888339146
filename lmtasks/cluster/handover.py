"""Hand over what the processes of a cluster write, into its place; and the memory that their work takes.

A hand writes into a folder of this one try below `in-progress/` of the run's folder, and the process that was asked for
the work, the only one that does, moves it into its place: whoever is lost while it writes leaves nothing in the
results, and what two hands have carried out, because one was only thought to be lost, is there once.
"""

import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

STAGE = "in-progress"
"""Inside a run's folder, gone when it ends: what is being written, one folder a try."""
ANSWER_MEMORY, MAKE_MEMORY = 600_000_000, 1_200_000_000
"""Bytes that the libraries take, beside the model: of whoever answers, and of whoever trains or exports."""
ANSWER_COPIES, MAKE_COPIES = 3, 8
"""Size of a model's files, to the memory that answering and training take."""
SEEN_SECONDS = 30.0
"""Until a file that another machine has written must be seen in the shared folder."""
MEMORY_STEP = 256_000_000


def new_stage() -> str:
    """The folder of one try, relative to the run's."""
    return f"{STAGE}/{uuid.uuid4().hex}"


@contextmanager
def staging(root: Path) -> Iterator[None]:
    """Work whose tries lie below `root`: those of an earlier one are gone, and so are these afterwards."""
    shutil.rmtree(root / STAGE, ignore_errors=True)
    try:
        yield
    finally:
        shutil.rmtree(root / STAGE, ignore_errors=True)


def is_seen(there: Callable[[], bool]) -> bool:
    """Wait until what another machine has written is seen here, for a network's folders lag behind; False: it is not
    in `SEEN_SECONDS`."""
    until = time.monotonic() + SEEN_SECONDS
    while not there():
        if time.monotonic() > until:
            return False
        time.sleep(0.2)
    return True


def answering_bytes(folder: Path | None) -> int:
    """Memory to answer with the model or package in a folder; None: there is none."""
    return _rounded(ANSWER_MEMORY + ANSWER_COPIES * _bytes(folder))


def making_bytes(folder: Path | None) -> int:
    """Memory to train or to export what lies in a folder; None: it is made new."""
    return _rounded(MAKE_MEMORY + MAKE_COPIES * _bytes(folder))


def _rounded(memory: int) -> int:
    """Up to a step: jobs of nearly the same needs share their hands."""
    return -(-memory // MEMORY_STEP) * MEMORY_STEP


def _bytes(folder: Path | None) -> int:
    if folder is None or not folder.is_dir():
        return 0
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
