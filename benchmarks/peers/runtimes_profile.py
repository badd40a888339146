"""Where the time of a work goes, by operator: for works whose wanted ratio was missed.

    python runtimes_profile.py '{"folder", "inputs", "work", "threads"}'      prints {"operator": share, ...}

ONNX Runtime writes a trace of each session; sessions are those that the engine itself opens.
"""

import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from runtimes_prepare import Prepared
from runtimes_works import CONTENDERS, Work
from sides import ROOT

SHOWN = 6


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
    import onnxruntime
    from runtimes_ours import Lmtasks

    opened: list[Any] = []
    with tempfile.TemporaryDirectory() as folder:
        plain = onnxruntime.InferenceSession

        class Profiled(plain):
            def __init__(self, file: str, options: Any, **rest: Any) -> None:
                options.enable_profiling = True
                options.profile_file_prefix = str(Path(folder) / f"{Path(file).stem}-{len(opened)}")
                super().__init__(file, options, **rest)
                opened.append(self)

        onnxruntime.InferenceSession = Profiled
        side, work = Lmtasks(asked), asked["work"]
        side.open(work)
        inputs = json.loads(Path(asked["inputs"]).read_text(encoding="utf-8"))
        side.answer(work, inputs[: 1 if work["batch"] == 1 else 2 * work["batch"] if work["new"] else 200])
        spent: Counter[str] = Counter()
        for session in opened:
            for event in json.loads(Path(session.end_profiling()).read_text(encoding="utf-8")):
                if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
                    spent[event["args"]["op_name"]] += event["dur"]
    total = sum(spent.values())
    print(json.dumps({name: round(took / total, 3) for name, took in spent.most_common(SHOWN)}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
