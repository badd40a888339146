"""One variant in a fresh process: nothing that was loaded, cached or warmed before can help or hinder it.

The parent blocks on the child's output. The child speaks one line of progress between two workloads, never within.
It ends when its standard input does, so that none outlives a parent that was killed; the folder of one that was killed
is removed by the next.
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING

from lmtasks.bench.spec import SpeedSpec
from lmtasks.errors import UsageError, WorkError
from lmtasks.records import Json, Progress

if TYPE_CHECKING:
    from lmtasks.bench.pool import Memory, Round
    from lmtasks.results.speed import MachineLimits

CHILD = (sys.executable, "-P", "-m", "lmtasks.bench.child")  # -P: a torch.py in the current folder is not imported
PROGRESS = "progress "
"""A line of the child that begins so is `done total note`."""
LAST_LINES = 12
ELSEWHERE = "server"
"""The device of a server, whose machine nobody here can measure."""
SCRATCH = "lmtasks-bench-"
"""Begins the names of folders for the jobs of children and their records."""
SCRATCH_FRESH_SECONDS = 60.0
LIMITS_SECONDS = 2.5
"""For all limits of the machine together."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


@dataclass(frozen=True, kw_only=True)
class Isolated:
    """Measures in fresh processes.

    Args:
        timeout_seconds: a process is ended after so long.
        command: what is started, with two arguments behind it: the files of its job and of its record.
        on_progress: called between two blocks.
    """

    timeout_seconds: float = 1800.0
    command: Sequence[str] = CHILD
    on_progress: Callable[[Progress], None] | None = None

    def times(self, spec: SpeedSpec) -> "Round":
        """Every timing of a variant (`measure.measure_times`).

        Raises:
            UsageError: the process said that what it was given is wrong.
            WorkError: it failed or died (with its last lines), or took too long.
        """
        from lmtasks.bench.pool import Round

        job: Json = {"measure": "times", "spec": spec.as_json()}
        return Round.model_validate(self._run(job, name=spec.name, threads=spec.threads))

    def memory(self, spec: SpeedSpec) -> "Memory":
        """The variant's memory, in a process in which nothing is timed (`measure.measure_memory`)."""
        from lmtasks.bench.pool import Memory

        if spec.server is not None:  # it lies elsewhere
            return Memory(peak_memory_bytes=0, loading_memory_bytes=0, import_memory_bytes=0)
        job: Json = {"measure": "memory", "spec": spec.as_json()}
        return Memory.model_validate(self._run(job, name=spec.name, threads=spec.threads))

    def limits(self, *, threads: int, device: str, seconds: float = LIMITS_SECONDS) -> "MachineLimits":
        """The most that the machine can do (`limits.measure_limits`)."""
        from lmtasks.results.speed import MachineLimits

        if device == ELSEWHERE:
            return MachineLimits(device=device, threads=threads)
        job: Json = {"measure": "limits", "threads": threads, "device": device, "seconds": seconds}
        return MachineLimits.model_validate(self._run(job, name="the machine's limits", threads=threads))

    def _run(self, job: Json, *, name: str, threads: int) -> Json:
        with _scratch() as folder:
            job_file, out_file, log_file = (folder / each for each in ("job.json", "out.json", "log.txt"))
            job_file.write_text(json.dumps(job), encoding="utf-8")
            with log_file.open("wb") as log:
                child = subprocess.Popen(
                    [*self.command, str(job_file), str(out_file)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env=_environment(threads),
                    text=True,
                    encoding="utf-8",
                    errors="replace",
                )
                code, late = _wait(child, self.timeout_seconds, lambda line: _report_line(line, name, self.on_progress))
            if late:
                raise WorkError(
                    f"measuring {name} took longer than {self.timeout_seconds:g} s and was ended; "
                    "give it more time, fewer requests or fewer new tokens."
                )
            if code == 0 and out_file.is_file():
                return dict(json.loads(out_file.read_text(encoding="utf-8")))
            raise _failure(name, code, log_file.read_text(encoding="utf-8", errors="replace"))


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder of this process, held by a lock on it that ends with the process; those of processes that were killed
    are removed."""
    place = Path(tempfile.gettempdir())
    for left in place.glob(f"{SCRATCH}*"):
        _remove_left(left)
    with tempfile.TemporaryDirectory(prefix=SCRATCH) as name:
        handle = os.open(name, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            yield Path(name)
        finally:
            os.close(handle)


def _remove_left(folder: Path) -> None:
    """Remove a folder that nobody holds; one that was just made is about to be held."""
    with suppress(OSError):  # it is another person's, or gone by now
        if time.time() - folder.stat().st_mtime < SCRATCH_FRESH_SECONDS:
            return
        handle = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
        finally:
            os.close(handle)


def _wait(child: "subprocess.Popen[str]", timeout_seconds: float, on_line: Callable[[str], None]) -> tuple[int, bool]:
    """Exit code of the child, and whether it was ended for being late."""
    late: list[bool] = []

    def end() -> None:
        late.append(True)
        child.kill()

    timer = Timer(timeout_seconds, end)
    timer.start()
    try:
        assert child.stdout is not None  # Popen was asked for a pipe
        for line in child.stdout:
            on_line(line)
        return child.wait(), bool(late)
    finally:
        timer.cancel()
        if child.poll() is None:
            child.kill()
            child.wait()
        if child.stdin is not None:
            child.stdin.close()


def _report_line(line: str, name: str, on_progress: Callable[[Progress], None] | None) -> None:
    if on_progress is None or not line.startswith(PROGRESS):
        return
    done, total, note = line.removeprefix(PROGRESS).rstrip("\n").split(" ", 2)
    on_progress(Progress(stage=f"speed of {name}", done=int(done), total=int(total), unit="timings", note=note))


def _environment(threads: int) -> dict[str, str]:
    """The parent's, with the same number of threads for every library, and the package where this one was found."""
    home = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH", "")]))
    return {
        **os.environ,
        **dict.fromkeys(THREAD_VARIABLES, str(threads)),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": path,
        "PYTHONIOENCODING": "utf-8",
    }


def _failure(name: str, code: int, log: str) -> UsageError | WorkError:
    lines = [line for line in log.splitlines() if line.strip()]
    message = lines[-1].removeprefix("error: ") if lines and lines[-1].startswith("error: ") else ""
    if message:  # the child understood what went wrong
        return (UsageError if code == 2 else WorkError)(f"speed of {name}: {message}")
    how = f"signal {-code} ended it" if code < 0 else f"exit code {code}"
    hint = " (out of memory?)" if code == -9 else ""
    last = "\n".join(lines[-LAST_LINES:]) or "it wrote nothing"
    return WorkError(f"the process that measured {name} failed: {how}{hint}. Its last lines:\n{last}")
