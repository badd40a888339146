"""Where the time inside ONNX Runtime's sessions goes, by operator."""

import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sides import ROOT

SHOWN = 6


def spent_by_operator(work: Callable[[], None]) -> Mapping[str, float]:
    """Share of the time inside all sessions that a work opens, of the operators that take most. Profiling stays on in
    this process afterwards, so it is a process of its own."""
    import onnxruntime

    opened: list[Any] = []
    spent: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        plain = onnxruntime.InferenceSession

        class Profiled(plain):
            def __init__(self, file: str, options: Any, **rest: Any) -> None:
                options.enable_profiling = True
                options.profile_file_prefix = str(Path(folder) / f"{Path(file).stem}-{len(opened)}")
                super().__init__(file, options, **rest)
                opened.append(self)

        onnxruntime.InferenceSession = Profiled
        work()
        for session in opened:
            for event in json.loads(Path(session.end_profiling()).read_text(encoding="utf-8")):
                if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
                    spent[event["args"]["op_name"]] += event["dur"]
    total = sum(spent.values())
    return {name: round(took / total, 3) for name, took in spent.most_common(SHOWN)}


def asked_apart(script: str, argument: str, *, about: str) -> Mapping[str, float]:
    """What a script that prints `spent_by_operator` says, in a process of its own."""
    done = subprocess.run(
        [sys.executable, script, argument],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    )
    if done.returncode:
        raise SystemExit(f"the profile of {about} failed:\n{done.stderr[-2000:]}")
    found: Mapping[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def shares(operators: Mapping[str, float]) -> str:
    """As a sentence has them."""
    return ", ".join(f"{name} {share:.0%}" for name, share in operators.items())
