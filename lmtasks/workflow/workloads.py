"""Workloads and loads that a variant is timed on: what its tasks ask of an engine, noted down without a model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from lmtasks.bench.judge import Requirement
from lmtasks.bench.percentile import least_samples
from lmtasks.bench.rate_search import RateGoal
from lmtasks.bench.recorder import Recorder
from lmtasks.bench.workload import Arrival, Load, Workload, at_length
from lmtasks.data.tokenizer import load_tokenizer
from lmtasks.errors import UsageError
from lmtasks.evaluation.engine_solver import EngineSolver
from lmtasks.evaluation.evaluate import evaluate
from lmtasks.evaluation.prepare import EvalOptions
from lmtasks.model.files import tokenizer_folder
from lmtasks.records import ModelCard, RuntimeCard
from lmtasks.settings.data import DataAccess
from lmtasks.task.task import Task

if TYPE_CHECKING:
    from lmtasks.endpoint.probe import Server
    from lmtasks.settings.endpoint import Endpoint

NO_NAMES: Mapping[str, str] = MappingProxyType({})
USUAL_PERCENTILE = 95
"""So many requests come under a load that this one can be told."""
SPARE = 1.1
NO_RUNTIME = RuntimeCard(runtime="native", version="", device="cpu", precision="none", threads=1, size_bytes=0)


def workloads_of(
    tasks: Sequence[Task],
    *,
    ref: Path,
    model: ModelCard,
    options: DataAccess,
    rows: int,
    seed: int,
    label_names: Mapping[str, str] = NO_NAMES,
) -> tuple[Workload, ...]:
    """The workloads of all tasks that the model in `ref` can answer.

    Args:
        rows: scored rows of each task that requests are drawn from, a prefix.
        label_names: a checkpoint's own label to a label of the tasks.
    """
    recorder = Recorder(model=model, card=NO_RUNTIME, tokenizer=load_tokenizer(tokenizer_folder(ref)))
    solver = EngineSolver(recorder, label_names=label_names)
    found = []
    for task in tasks:
        if solver.why_not(task, way="auto"):
            continue
        asked = EvalOptions(data=options, limit=rows, seed=seed, resamples=2, overlap=False)
        (result,) = evaluate(solver=solver, tasks=[task], options=asked, keep_samples=False)
        found.append(recorder.workload(task=task.name, seed=seed, examples=result.n))
    return tuple(found)


def server_workloads(
    tasks: Sequence[Task], *, server: Server, settings: Endpoint, options: DataAccess, rows: int, seed: int
) -> tuple[ModelCard, tuple[Workload, ...]]:
    """The card of a server's model, and the workloads of all tasks that it can answer; nothing is asked of it."""
    from lmtasks.workflow.choose_models import as_asked
    from lmtasks.workflow.open_endpoint import server_solver, unasked_engine

    with closing(unasked_engine(server, settings)) as engine:
        recorder = Recorder(model=engine.model, card=engine.card, tokenizer=engine.tokenizer)
        solver = server_solver(recorder, server, settings)
        found = []
        for task in tasks:
            if solver.why_not(task, way="auto"):
                continue
            asked = EvalOptions(data=options, limit=rows, seed=seed, resamples=2, overlap=False)
            (result,) = evaluate(solver=solver, tasks=[as_asked(solver, task)], options=asked, keep_samples=False)
            found.append(recorder.workload(task=task.name, seed=seed, examples=result.n))
        return engine.model, tuple(found)


def at_lengths(workloads: Sequence[Workload], lengths: Sequence[int], *, model: ModelCard) -> list[Workload]:
    """Every workload once more at every length.

    Raises:
        UsageError: longer than the model takes.
    """
    found = []
    for workload in workloads:
        new = workload.new_tokens if model.kind != "encoder-decoder" else 0
        for length in lengths:
            if length + new > model.max_length_tokens:
                behind = f" and {new} new ones" if new else ""
                raise UsageError(
                    f"a length of {length} tokens was asked for: {model.name} takes {model.max_length_tokens}, and "
                    f"{workload.task} needs {length}{behind}; use at most {model.max_length_tokens - new}."
                )
            found.append(at_length(workload, length))
    return found


def goals_of(requirements: Sequence[Requirement]) -> tuple[RateGoal, ...]:
    """Latencies whose largest rate is asked for (`@max`)."""
    return tuple(
        RateGoal(which=each.latency[0], percentile=each.latency[1], limit_ms=each.limit)
        for each in requirements
        if each.at_max and each.latency is not None
    )


def loads_of(
    rates: Sequence[float],
    *,
    arrival: Arrival,
    requirements: Sequence[Requirement],
    rounds: int,
    seconds: float,
    seed: int,
) -> tuple[Load, ...]:
    """One for each rate that was asked for, or that is required: with so many requests, in all rounds together, that
    the percentile which is asked of it can be told.

    Args:
        seconds: a round lasts at least so long.
    """
    wanted = dict.fromkeys(rates, USUAL_PERCENTILE)
    for each in requirements:
        if each.rate is not None and each.latency is not None:
            wanted[each.rate] = max(wanted.get(each.rate, USUAL_PERCENTILE), each.latency[1])
    return tuple(
        Load(
            rate=rate,
            count=max(math.ceil(rate * seconds), math.ceil(SPARE * least_samples(percentile) / rounds)),
            arrival=arrival,
            seed=seed,
        )
        for rate, percentile in wanted.items()
    )
