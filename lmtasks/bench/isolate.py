"""One variant in a fresh process: nothing that was loaded, cached or warmed before can help or hinder it.

The parent blocks on the child's output. The child speaks one line of progress between two workloads, never within.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Timer

import lmtasks
from lmtasks.bench.spec import SpeedSpec
from lmtasks.errors import UsageError, WorkError
from lmtasks.records import Json, Progress

CHILD = (sys.executable, "-P", "-m", "lmtasks.bench.child")  # -P: a torch.py in the current folder is not imported
PROGRESS = "progress "
"""A line of the child that begins so is `done total note`."""
LAST_LINES = 12
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def measure_isolated(
    spec: SpeedSpec,
    *,
    timeout_seconds: float = 1800.0,
    command: Sequence[str] = CHILD,
    on_progress: Callable[[Progress], None] | None = None,
) -> Json:
    """Measures one variant and returns its speed record (`speed/<variant>.json` of a run folder).

    Args:
        spec: what to open and to time.
        timeout_seconds: the child is ended after so long.
        command: what is started, with two arguments behind it: the files of the spec and of the record.
        on_progress: told between two workloads.

    Raises:
        UsageError: the child said that what it was given is wrong.
        WorkError: the child failed or died (with its last lines), or took too long.
    """
    with tempfile.TemporaryDirectory(prefix="lmtasks-bench-") as folder:
        spec_file, out_file, log_file = (Path(folder) / name for name in ("spec.json", "out.json", "log.txt"))
        spec_file.write_text(json.dumps(spec.as_json()), encoding="utf-8")
        with log_file.open("wb") as log:
            child = subprocess.Popen(
                [*command, str(spec_file), str(out_file)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_environment(spec.threads),
                text=True,
                encoding="utf-8",
                errors="replace",
            )
            code, late = _wait(child, timeout_seconds, lambda line: _tell(line, spec.name, on_progress))
        if late:
            raise WorkError(
                f"measuring {spec.name} took longer than {timeout_seconds:g} s and was ended; "
                "give it more time, fewer requests or fewer new tokens."
            )
        if code == 0 and out_file.is_file():
            record = json.loads(out_file.read_text(encoding="utf-8"))
            return dict(record)
        raise _failure(spec.name, code, log_file.read_text(encoding="utf-8", errors="replace"))


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


def _tell(line: str, name: str, on_progress: Callable[[Progress], None] | None) -> None:
    if on_progress is None or not line.startswith(PROGRESS):
        return
    done, total, note = line.removeprefix(PROGRESS).rstrip("\n").split(" ", 2)
    on_progress(Progress(stage=f"speed of {name}", done=int(done), total=int(total), unit="timings", note=note))


def _environment(threads: int) -> dict[str, str]:
    """The parent's, with the same number of threads for every library, and the package where this one was found."""
    home = str(Path(lmtasks.__file__).parent.parent)
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
    told = lines[-1].removeprefix("error: ") if lines and lines[-1].startswith("error: ") else ""
    if told:  # the child understood what went wrong
        return (UsageError if code == 2 else WorkError)(f"speed of {name}: {told}")
    how = f"signal {-code} ended it" if code < 0 else f"exit code {code}"
    hint = " (out of memory?)" if code == -9 else ""
    last = "\n".join(lines[-LAST_LINES:]) or "it wrote nothing"
    return WorkError(f"the process that measured {name} failed: {how}{hint}. Its last lines:\n{last}")
