"""Part `speed`: the same work, both sides in turn (A B A B ...), each time in a fresh process.

Seconds are those of answering requests, tokenization included, with the model loaded and the data read; medians over
rounds, ratios round by round.
"""

import math
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from random import Random
from statistics import median
from typing import Any

from sides import SIDES, Bootstrap, Job, Request, Side
from workplace import Workplace

CHECKPOINT = "llama-30m"
BATCH = 16
DRAWS = 100_000
ITEMS = 5153
"""As many documents as LAMBADA has."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Something to time."""

    name: str
    task: str
    wanted: float
    """How many times as fast lmtasks must be."""
    documents: int
    num_fewshot: int = 0
    memory: bool = False
    """Is its memory compared?"""
    taken: bool = False
    """Does another process use one core all the while?"""


WORKLOADS: tuple[Workload, ...] = (
    Workload(name="4 choices, no shots", task="arc_easy", documents=240, wanted=5.0, memory=True),
    Workload(name="4 choices, 5 shots", task="arc_easy", documents=60, num_fewshot=5, wanted=6.0, memory=True),
    Workload(name="4 labels of one token, no shots", task="labels", documents=240, wanted=3.0),
    Workload(name="4 labels of one token, 5 shots", task="labels", documents=60, num_fewshot=5, wanted=2.0),
    Workload(name="the same, one core taken", task="labels", documents=40, num_fewshot=5, wanted=1.5, taken=True),
    Workload(name="rolling perplexity", task="wikitext", documents=8, wanted=1.5),
    Workload(name="generation", task="uneven", documents=64, wanted=1.5),
)


def run_speed(place: Workplace) -> Mapping[str, Any]:
    """All workloads, then the bootstrap."""
    chosen = [work for work in WORKLOADS if not place.only_works or any(word in work.name for word in place.only_works)]
    timed = [_timed(place, workload) for workload in chosen]
    drawn = [] if place.only_works else [_bootstrap(place, alone=True), _bootstrap(place, alone=False)]
    return {"checkpoint": CHECKPOINT, "batch_size": BATCH, "threads": place.threads, "timed": [*timed, *drawn]}


def _timed(place: Workplace, workload: Workload) -> dict[str, Any]:
    job = Job(
        name=workload.name,
        task_folder=str(place.tasks),
        tasks=(workload.task,),
        num_fewshot=workload.num_fewshot,
        limit=place.scaled(workload.documents),
        resamples=0,
    )
    request = Request(
        checkpoint=str(place.checkpoints[CHECKPOINT]), jobs=(job,), threads=place.threads, batch_size=BATCH
    )
    with _core_taken() if workload.taken else nullcontext():
        answers = _rounds(place, {side: _for(side, request) for side in SIDES}, name=f"speed/{workload.task}")
    record = _record(workload.name, workload.wanted, answers)
    if workload.memory:
        record["memory_mb"] = {
            side: {
                "peak": round(median(each["rss_peak_mb"] for each in answers[side]), 1),
                "above_model": round(median(each["rss_peak_mb"] - each["rss_loaded_mb"] for each in answers[side]), 1),
            }
            for side in SIDES
        }
    return record


@contextmanager
def _core_taken() -> Iterator[None]:
    """A process beside the others that never rests."""
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        other.kill()
        other.wait()


def _for(side: Side, request: Request) -> Request:
    """Ours takes None for its own number of draws; the peer takes 0 for none at all. Neither is part of the time."""
    jobs = tuple(replace(job, resamples=0 if side == "lm-eval" else 2) for job in request.jobs)
    return replace(request, jobs=jobs)


def _bootstrap(place: Workplace, *, alone: bool) -> dict[str, Any]:
    """The standard error of a perplexity, by the same draws on both sides."""
    draw = Random(0)
    items = tuple(-8.0 * draw.random() for _ in range(ITEMS))
    draws = max(1000, round(DRAWS * min(1.0, place.scale)) // 1000 * 1000)
    name = "bootstrap, lm-eval on one core" if alone else "bootstrap, lm-eval on all cores"
    bootstrap = Bootstrap(name=name, statistic="perplexity", items=items, resamples=draws)
    request = Request(checkpoint=None, bootstraps=(bootstrap,), threads=place.threads, single_process=alone)
    answers = _rounds(place, dict.fromkeys(SIDES, request), name=f"speed/bootstrap-{alone}")
    record = _record(name, 10.0, answers)
    errors = {side: answers[side][0]["jobs"][name]["stderr"] for side in SIDES}
    equal = math.isclose(errors["lm-eval"], errors["lmtasks"], rel_tol=1e-9)
    return {**record, "draws": draws, "items": ITEMS, "stderr": errors, "stderr_equal": equal}


def _rounds(place: Workplace, requests: Mapping[Side, Request], *, name: str) -> dict[Side, list[Mapping[str, Any]]]:
    answers: dict[Side, list[Mapping[str, Any]]] = {side: [] for side in SIDES}
    for number in range(place.rounds):
        for side in SIDES:
            answers[side].append(place.ask(side, requests[side], name=f"{name}/{number}"))
    return answers


def _record(name: str, wanted: float, answers: Mapping[Side, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    seconds = {side: [each["jobs"][name]["seconds"] for each in answers[side]] for side in SIDES}
    ratios = [theirs / ours for theirs, ours in zip(seconds["lm-eval"], seconds["lmtasks"], strict=True)]
    record = {
        "name": name,
        "wanted": wanted,
        "seconds": {side: [round(value, 4) for value in values] for side, values in seconds.items()},
        "median_seconds": {side: round(median(values), 4) for side, values in seconds.items()},
        "ratios": [round(ratio, 3) for ratio in ratios],
        "ratio": round(median(ratios), 3),
    }
    print(f"{name}: {record['ratio']} times as fast ({min(ratios):.2f} to {max(ratios):.2f}), wanted {wanted}")
    return record
