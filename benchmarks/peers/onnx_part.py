"""Part `onnx`: 4-choice questions through packages for ONNX Runtime, beside lm-evaluation-harness on torch.

Interleaved as in part `speed`: A B C A B C ..., each time in a fresh process, with the model loaded and the data read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from onnx_profile import profile
from runtimes_prepare import export
from sides import Job, Request
from speed_part import BATCH, CHECKPOINT
from workplace import Workplace


@dataclass(frozen=True, kw_only=True)
class Choices:
    """One workload, and how many times as fast each precision is to be; None: it is shown beside the others."""

    name: str
    documents: int
    num_fewshot: int
    wanted: Mapping[str, float | None]


WORKLOADS = (
    Choices(name="4 choices, no shots", documents=240, num_fewshot=0, wanted={"fp32": 5.0, "int8": 12.0}),
    Choices(name="4 choices, 5 shots", documents=60, num_fewshot=5, wanted={"fp32": None, "int8": None}),
)


def run_onnx(place: Workplace) -> Mapping[str, Any]:
    """All workloads."""
    checkpoint = place.checkpoints[CHECKPOINT]
    packages: dict[str, Path] = {}
    for precision in ("fp32", "int8"):
        packages[precision] = place.out / "packages" / f"{CHECKPOINT}-{precision}"
        packages[precision].parent.mkdir(parents=True, exist_ok=True)
        export(checkpoint, packages[precision], precision=precision, base=packages["fp32"])
    rows = [row for workload in WORKLOADS for row in _timed(place, workload, packages)]
    return {"checkpoint": CHECKPOINT, "batch_size": BATCH, "threads": place.threads, "timed": rows}


def _timed(place: Workplace, workload: Choices, packages: Mapping[str, Path]) -> list[dict[str, Any]]:
    def request(package: Path | None) -> Request:
        job = Job(
            name=workload.name,
            task_folder=str(place.tasks),
            tasks=("arc_easy",),
            num_fewshot=workload.num_fewshot,
            limit=place.scaled(workload.documents),
            # Ours takes None for its own number of draws; the peer takes 0 for none. Neither is part of the time.
            resamples=0 if package is None else 2,
        )
        return Request(
            checkpoint=str(place.checkpoints[CHECKPOINT]),
            package=None if package is None else str(package),
            jobs=(job,),
            threads=place.threads,
            batch_size=BATCH,
        )

    seconds: dict[str, list[float]] = {"lm-eval": [], **{precision: [] for precision in packages}}
    correct: dict[str, float] = {}
    for number in range(place.rounds):
        for who in seconds:
            answer = place.ask(
                "lm-eval" if who == "lm-eval" else "lmtasks",
                request(packages.get(who)),
                name=f"onnx/{workload.num_fewshot}-{who}/{number}",
            )["jobs"][workload.name]
            seconds[who].append(answer["seconds"])
            found = answer["results"]["arc_easy"]  # "acc,none" there, "acc" here
            correct[who] = next(each["value"] for name, each in found.items() if name.split(",")[0] == "acc")
    rows = []
    for precision, wanted in workload.wanted.items():
        ratios = [theirs / ours for theirs, ours in zip(seconds["lm-eval"], seconds[precision], strict=True)]
        row = {
            "name": workload.name,
            "precision": precision,
            "wanted": wanted,
            "median_seconds": {who: round(median(seconds[who]), 4) for who in ("lm-eval", precision)},
            "acc": {who: correct[who] for who in ("lm-eval", precision)},
            "ratios": [round(ratio, 3) for ratio in ratios],
            "ratio": round(median(ratios), 3),
        }
        if wanted is not None and row["ratio"] < wanted:
            asked = place.out / "work" / "onnx" / f"{workload.num_fewshot}-{precision}" / "0" / "lmtasks.request.json"
            row["operators"] = profile(asked)
        print(f"{workload.name}, {precision}: {row['ratio']} times as fast, wanted {wanted}")
        rows.append(row)
    return rows
