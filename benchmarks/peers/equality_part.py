"""Part `equality`: every checkpoint on every task, both sides, number by number."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from equality import Compared, compare
from near_tie import near_ties
from peer_tasks import TASKS
from sides import SIDES, Job, Request
from workplace import Workplace

CHECKPOINTS = ("small-gpt2", "small-llama", "small-t5", "lmtasks-mini")
RESAMPLES = 2000
"""Two chunks of lm-evaluation-harness' draws."""


def run_equality(place: Workplace) -> Mapping[str, Any]:
    """Ask both sides, one checkpoint after the other."""
    found: list[dict[str, Any]] = []
    versions: dict[str, Any] = {}
    for checkpoint in CHECKPOINTS:
        if place.only_checkpoints and checkpoint not in place.only_checkpoints:
            continue
        jobs = _jobs(place)
        request = Request(checkpoint=str(place.checkpoints[checkpoint]), jobs=jobs, threads=place.threads)
        answers = {}
        for side in SIDES:
            # The peer's answers to the same request do not change; ours do with our code.
            reuse = side == "lm-eval"
            answers[side] = place.ask(side, request, name=f"equality/{checkpoint}", reuse=reuse)
            versions[side] = answers[side]["versions"]
        judge = near_ties(place.checkpoints[checkpoint])
        for job in jobs:
            theirs, ours = (answers[side]["jobs"][job.name] for side in SIDES)
            checks = compare(job.name, theirs, ours, near_tie=judge)
            found += [{"checkpoint": checkpoint, **_record(check)} for check in checks]
            bad = [check for check in checks if not check.equal]
            print(f"{checkpoint:14} {job.name:18} {len(checks) - len(bad)} of {len(checks)} equal")
            for check in bad:
                print(f"    {check.what}: {check.worst:.3g} over {check.bound:.0e}; {check.detail[:300]}")
    return {"versions": versions, "resamples": RESAMPLES, "compared": found}


def _jobs(place: Workplace) -> tuple[Job, ...]:
    return tuple(
        Job(
            name=f"{task.name}, {shots} shots",
            task_folder=str(place.tasks),
            tasks=(task.name,),
            num_fewshot=shots,
            limit=place.scaled(task.limit, least=3),
            resamples=RESAMPLES,
        )
        for task in TASKS
        if not place.only_tasks or task.name in place.only_tasks
        for shots in task.shots
    )


def _record(check: Compared) -> dict[str, Any]:
    record = {**asdict(check), "equal": check.equal, "worst": min(check.worst, 1e300)}
    return record if not check.equal else {**record, "detail": check.detail[:120]}
