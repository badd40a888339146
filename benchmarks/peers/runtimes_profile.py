"""Where the time of a work goes, by operator: for works whose wanted ratio was missed.

    python runtimes_profile.py '{"folder", "inputs", "work", "threads"}'      prints {"operator": share, ...}

ONNX Runtime writes a trace of each session; sessions are those that the engine itself opens.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from operators import asked_apart, spent_by_operator
from runtimes_prepare import Prepared
from runtimes_works import CONTENDERS, Work


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
    return asked_apart(__file__, json.dumps(asked), about=work.name)


def main(asked: Mapping[str, Any]) -> None:
    """Carry out a part of the work with profiling on."""

    def carry_out() -> None:
        from runtimes_ours import Lmtasks

        side, work = Lmtasks(asked), asked["work"]
        side.open(work)
        inputs = json.loads(Path(asked["inputs"]).read_text(encoding="utf-8"))
        side.answer(work, inputs[: 1 if work["batch"] == 1 else 2 * (work["batch"] or 32) if work["new"] else 200])

    print(json.dumps(spent_by_operator(carry_out)))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
