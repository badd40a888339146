"""One writer a folder: two runs into the same folder at the same time would mix their files.

The lock is the operating system's (`flock` on a file beside the folder): it ends with the process that holds it,
however that ends, so nobody ever has to remove a stale one.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lmtasks.errors import UsageError, WorkError


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder against other lmtasks processes; it need not exist, but its parent is made.

    The file stands beside the folder (`runs/a.lock` for `runs/a`), since the folder itself may be renamed into place.
    Parents that had to be made, and that nothing was written to, are gone afterwards.

    Raises:
        WorkError: another process holds it (named), or nothing can be written there.
    """
    place = Path(os.path.abspath(folder))
    file = place.with_name(place.name + ".lock")
    if not place.name:
        raise UsageError(f"{folder} is the root of the file system; give another --out.")
    try:
        missing = [parent for parent in place.parents if not parent.exists()]
        place.parent.mkdir(parents=True, exist_ok=True)
        handle = _acquire(file, folder)
    except OSError as error:
        raise WorkError(f"{folder} cannot be written: {error.strerror or error}; give another --out.") from error
    try:
        yield
    finally:
        file.unlink(missing_ok=True)  # while still held, so that nobody holds a file that is gone
        os.close(handle)
        for parent in missing:
            with suppress(OSError):  # it holds something by now, as it should
                parent.rmdir()


def _acquire(file: Path, folder: Path) -> int:
    while True:
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(handle, 20, 0).decode(errors="replace").strip()
            os.close(handle)
            who = f"process {holder}" if holder else "another process"
            raise WorkError(
                f"{folder} is being written by another lmtasks ({who}); wait until it ends, or give another --out."
            ) from error
        except OSError:
            os.close(handle)
            raise
        if _is_still(file, handle):
            os.ftruncate(handle, 0)
            os.pwrite(handle, str(os.getpid()).encode(), 0)
            return handle
        os.close(handle)  # its holder removed it between our open and our lock


def _is_still(file: Path, handle: int) -> bool:
    try:
        return os.path.samestat(file.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False
