"""Where the time of a work goes, by operator: for works whose wanted ratio was missed.

    python runtimes_profile.py '{"folder", "inputs", "work", "threads"}'      prints {"operator": share, ...}

ONNX Runtime writes a trace of each session; sessions are those that the engine itself opens.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from operators import spent_by_operator
from runtimes_prepare import Prepared
from runtimes_works import CONTENDERS, Work
from sides import ROOT


def profile(prepared: Prepared, *, work: Work, contender: str, threads: int) -> Mapping[str, float]:
    """Share of the time inside the sessions, of the operators that take most; in a process of its own."""
    asked = {
        **asdict(CONTENDERS[contender]),
        "shape": prepared.shape,
        "folder": str(prepared.folder(CONTENDERS[contender])),
        "inputs": str(prepared.home / "inputs.json"),
        "work": asdict(work),
        "threads": threads,
    }
    done = subprocess.run(
        [sys.executable, __file__, json.dumps(asked)],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    )
    if done.returncode:
        raise SystemExit(f"the profile of {work.name} failed:\n{done.stderr[-2000:]}")
    found: Mapping[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(asked: Mapping[str, Any]) -> None:
    """Carry out a part of the work with profiling on."""

    def carry_out() -> None:
        from runtimes_ours import Lmtasks

        side, work = Lmtasks(asked), asked["work"]
        side.open(work)
        inputs = json.loads(Path(asked["inputs"]).read_text(encoding="utf-8"))
        side.answer(work, inputs[: 1 if work["batch"] == 1 else 2 * work["batch"] if work["new"] else 200])

    print(json.dumps(spent_by_operator(carry_out)))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
