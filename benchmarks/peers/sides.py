"""What both sides are asked, and how: a request as JSON to a fresh process, an answer as JSON back.

    request  {"checkpoint", "package", "threads", "batch_size", "cache", "single_process", "jobs": [...],
              "bootstraps": [...]}
    answer   {"versions", "rss_loaded_mb", "rss_peak_mb", "jobs": {name: {"seconds", "seconds_total",
              "results": {task: {"acc,none": {"value", "stderr"}}}, "groups": {...},
              "samples": {task: [{"prompts", "continuations", "replies", "answers", "metrics"}]}}}}

`replies` are lists of answers, one list a request: [log-probability, greedy], a log-probability, or a text.
Metrics are named `metric,filter` on both sides.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
Chat = Literal["no", "single", "multiturn"]
Side = Literal["lm-eval", "lmtasks"]
SIDES: tuple[Side, ...] = ("lm-eval", "lmtasks")


@dataclass(frozen=True, kw_only=True)
class Job:
    """Some tasks under one setting."""

    name: str
    task_folder: str
    tasks: tuple[str, ...]
    num_fewshot: int | None = None
    limit: int | None = None
    resamples: int = 2000
    """Of the bootstrap: lm-evaluation-harness draws in chunks of 1,000."""
    chat: Chat = "no"
    system: str | None = None
    samples: bool = True
    """Are answers to every document wanted back?"""


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """A standard error by resampling, alone."""

    name: str
    statistic: Literal["perplexity"]
    items: tuple[float, ...]
    resamples: int


@dataclass(frozen=True, kw_only=True)
class Request:
    """What one process does."""

    checkpoint: str | None
    package: str | None = None
    """What lmtasks opens instead, in its own precision."""
    jobs: tuple[Job, ...] = ()
    bootstraps: tuple[Bootstrap, ...] = ()
    threads: int = 2
    batch_size: int = 8
    cache: str = str(ROOT / "runs" / "peers" / "cache")
    single_process: bool = field(default=True)
    """May lm-evaluation-harness' bootstrap start no processes of its own?"""


def ask(side: Side, request: Request, *, peer: Path, folder: Path, reuse: bool = False) -> Mapping[str, Any]:
    """Let a side answer in a process of its own.

    Args:
        side: which.
        request: what.
        peer: Python of lm-evaluation-harness' environment.
        folder: where request, answer and log are left.
        reuse: take the answer that stands there, if it is one to this very request.

    Raises:
        SystemExit: the process failed; its last lines are shown.
    """
    folder.mkdir(parents=True, exist_ok=True)
    asked, answered, log = (folder / f"{side}.{end}" for end in ("request.json", "answer.json", "log"))
    text = json.dumps({**asdict(request), "content": _content(request)}, ensure_ascii=False)
    if reuse and answered.is_file() and asked.is_file() and asked.read_text(encoding="utf-8") == text:
        return _read(answered)
    asked.write_text(text, encoding="utf-8")
    answered.unlink(missing_ok=True)
    python = str(peer) if side == "lm-eval" else sys.executable
    script = HERE / ("side_lm_eval.py" if side == "lm-eval" else "side_lmtasks.py")
    with log.open("w", encoding="utf-8") as said:
        done = subprocess.run(
            [python, str(script), str(asked), str(answered)],
            stdout=said,
            stderr=subprocess.STDOUT,
            check=False,
            env=_environment(side, request),
        )
    if done.returncode or not answered.is_file():
        last = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-25:])
        raise SystemExit(f"{side} failed ({done.returncode}); {log}:\n{last}")
    return _read(answered)


def _content(request: Request) -> str:
    """A hash of all that the request names: task files, rows and code beside them, the checkpoint."""
    folders = {job.task_folder for job in request.jobs} | ({request.checkpoint} if request.checkpoint else set())
    digest = hashlib.sha256()
    for folder in sorted(folders):
        for file in sorted(Path(folder).rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(str(file).encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _read(file: Path) -> Mapping[str, Any]:
    answer: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return answer


def _environment(side: Side, request: Request) -> dict[str, str]:
    """The same threads for both; lmtasks from this working copy, for the peer nothing of ours."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(request.threads), "MKL_NUM_THREADS": str(request.threads)}
    environment.pop("PYTHONPATH", None)
    return {**environment, "PYTHONPATH": str(ROOT)} if side == "lmtasks" else environment
