"""One contender in a process of its own: it sleeps until it is asked, answers a line of JSON with a line of JSON.

    python runtimes_worker.py '{"side", "runtime", "precision", "folder", "inputs", "threads", "marian"}'

    {"open": work}                     -> {"opened": true, "batch"}      layout and warm-up for a work; where its batch
                                          is 0, the fastest of a few, or 0 where the contender chooses itself
    {"run": work, "inputs": [0, 1]}    -> {"seconds", "count", "answers", "peak_mb"}
    {"steps": work}                    -> {"python_us", "step_ms", "weight_bytes"}     lmtasks over ONNX Runtime only

It runs in CTranslate2's environment too, so what it needs of lmtasks or of a peer is imported by that side alone.
"""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any, cast

from runtimes_contestant import OWN_BATCHES, Contestant, Inputs, Stepper, Work
from runtimes_ours import Lmtasks, Memory
from runtimes_packed import Packed
from runtimes_peers import Compiled, CTranslate2, Genai, OpenVino, Optimum, Transformers

SIDES: Mapping[str, type[Contestant]] = {
    "transformers": Transformers,
    "compiled": Compiled,
    "optimum": Optimum,
    "genai": Genai,
    "ctranslate2": CTranslate2,
    "openvino": OpenVino,
    "packed": Packed,
    "lmtasks": Lmtasks,
    "memory": Memory,
}


def main(asked: dict[str, Any]) -> None:
    """Answer until the asker is gone."""
    said = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # what a library prints is no answer
    inputs = json.loads(Path(asked["inputs"]).read_text(encoding="utf-8"))
    side = SIDES[asked["side"]](asked)
    said.write(json.dumps({"versions": side.versions()}) + "\n")
    for line in sys.stdin:
        request = json.loads(line)
        if "open" in request:
            work = _with_batch(side, request["open"], inputs)
            side.open(work)
            for count in (1, 2) if work["batch"] == 1 else (1,):
                side.answer(work, inputs[: (count * work["batch"] or work["inputs"]) if work["new"] else 200])
            _forget_peak()
            answer: dict[str, Any] = {"opened": True, "batch": work["batch"]}
        elif "steps" in request:
            answer = cast("Stepper", side).steps(request["steps"], inputs)  # of ours and of memory only
        else:
            chosen = [inputs[at] for at in request["inputs"]]
            started = perf_counter()
            answers = side.answer({**request["run"], "batch": work["batch"]}, chosen)
            seconds = perf_counter() - started
            count = sum(map(len, answers)) if request["run"]["new"] else len(answers)
            answer = {"seconds": seconds, "count": count, "answers": answers, "peak_mb": _peak_mb()}
        said.write(json.dumps(answer) + "\n")


def _with_batch(side: Contestant, work: Work, inputs: Inputs) -> Work:
    """The work at the contender's own best batch, where it is to have that."""
    if work["batch"] or getattr(side, "chooses_batch", False):
        return work

    def seconds(batch: int) -> float:
        side.open({**work, "batch": batch})
        started = perf_counter()
        side.answer({**work, "batch": batch}, inputs[: work["inputs"]])
        return perf_counter() - started

    return {**work, "batch": min(OWN_BATCHES, key=seconds)}


def _forget_peak() -> None:
    """From here on `VmHWM` counts anew (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return  # the peak is then that of the process, loading included


def _peak_mb() -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
