"""The fresh process that measures one variant: `python -m lmtasks.bench.child JOB.json OUT.json`.

JOB.json is its job: {"measure": "times" | "memory", "spec": {...}}, or {"measure": "limits", "threads": 2, ...}.

Importing this module loads nothing heavy, so that the time of the imports can be taken here.
"""

import importlib
import json
import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lmtasks.errors import LmtasksError, UsageError
from lmtasks.files import aside
from lmtasks.settings.runtimes import RUNTIMES

if TYPE_CHECKING:
    from lmtasks.bench.measure import OpenedVariant
    from lmtasks.bench.spec import SpeedSpec
    from lmtasks.records import Json

SHARED = ("lmtasks.bench.measure", "lmtasks.engine.engine", "lmtasks.data.tokenizer", "lmtasks.runtime.open")

Open = Callable[["SpeedSpec"], "OpenedVariant"]


def main(arguments: list[str], *, open_engine: Open | None = None) -> int:
    """Exit code: 0 done, 1 the work failed, 2 what was given is wrong. An error's sentence is the last line of stderr.

    Args:
        arguments: the files of the spec and of the record.
        open_engine: opens something else than lmtasks' own engine; for tests.
    """
    end_with_parent()
    try:
        spec_file, out_file = (Path(argument) for argument in arguments)
        job = json.loads(spec_file.read_text(encoding="utf-8"))
        record = _measure(job, open_engine)
        with aside(out_file) as part:
            part.write_text(json.dumps(record), encoding="utf-8")
    except LmtasksError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return 2 if isinstance(error, UsageError) else 1
    return 0


def _measure(job: "Json", open_engine: Open | None) -> "Json":
    return MEASURES[str(job["measure"])](job, open_engine)


def _times(job: "Json", open_engine: Open | None) -> "Json":
    spec, import_seconds = job["spec"], _import(job, open_engine)
    assert isinstance(spec, dict)  # written by isolate

    from lmtasks.bench.measure import measure_memory, measure_times, open_variant
    from lmtasks.bench.spec import spec_from_json

    measure = measure_times if job["measure"] == "times" else measure_memory
    opener: Open = open_variant
    if spec["server"] is not None:
        from lmtasks.bench.server import open_server

        opener = open_server
    return measure(
        spec_from_json(spec), open_engine=open_engine or opener, import_seconds=import_seconds, report=_send_line
    )


def _limits(job: "Json", open_engine: Open | None) -> "Json":
    from lmtasks.bench.machine_peaks import measure_limits

    return measure_limits(
        threads=int(str(job["threads"])), device=str(job["device"]), seconds=float(str(job["seconds"]))
    ).as_json()


def _import(job: "Json", open_engine: Open | None) -> float:
    """Seconds of importing what the variant needs."""
    spec = job["spec"]
    assert isinstance(spec, dict)  # written by isolate
    started = time.perf_counter()
    for name in SHARED[:1] if open_engine else (*SHARED, *_imports(str(spec["runtime"]))):
        importlib.import_module(name)
    return time.perf_counter() - started


def _imports(runtime: str) -> Sequence[str]:
    return RUNTIMES[runtime].imports if runtime in RUNTIMES else ()


def _send_line(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


MEASURES: "Mapping[str, Callable[[Json, Open | None], Json]]" = {
    "times": _times,
    "memory": _times,
    "limits": _limits,
}


def end_with_parent() -> None:
    """From now on this process ends with its standard input, a pipe whose other end the parent has. The thread sleeps
    in the kernel until then, and disturbs no timing."""
    if not stat.S_ISFIFO(os.fstat(0).st_mode):  # started by hand
        return

    def wait() -> None:
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
