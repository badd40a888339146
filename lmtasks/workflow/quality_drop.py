"""How much quality each timed variant loses against the first one, for `bench --require 'drop<=1'`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lmtasks.bench.judge import QualityDrop
from lmtasks.bench.spec import SpeedSpec
from lmtasks.evaluation.engine_solver import EngineSolver
from lmtasks.evaluation.evaluate import TaskResult, evaluate
from lmtasks.evaluation.outcome import remake_metric
from lmtasks.evaluation.prepare import EvalOptions
from lmtasks.metric import compare
from lmtasks.metric.drop import Loss, loss_of
from lmtasks.records import Progress
from lmtasks.settings.data import DataAccess
from lmtasks.task.task import Task
from lmtasks.workflow.open_model import open_engine

Artefact = tuple[Path, str, str, str | None]
"""Everything that an answer depends on: folder, runtime, device, precision. Threads change nothing but speed."""


def drops_of(
    specs: Sequence[SpeedSpec],
    *,
    tasks: Sequence[Task],
    options: DataAccess,
    limit: int | None,
    seed: int,
    report: Callable[[Progress], None] | None = None,
) -> Mapping[str, Mapping[str, QualityDrop]]:
    """By variant, then task: the drop of the main metric on the scored rows, paired by example.

    Args:
        specs: the first one is what others are held to.
        limit: scored rows of each task at most, a prefix.

    Raises:
        UsageError: a task cannot be answered, or its metric is code of the task file, which cannot be made again.
        WorkError: answering failed.
    """
    scored: dict[Artefact, Mapping[str, TaskResult]] = {}
    found: dict[str, Mapping[str, QualityDrop]] = {}
    for spec in specs:
        artefact = (spec.ref, spec.runtime, spec.device, spec.precision)
        if artefact not in scored:
            asked = EvalOptions(data=options, limit=limit, seed=seed, resamples=2, overlap=False)
            scored[artefact] = _scored(spec, tasks=tasks, asked=asked, report=report)
        first = next(iter(scored.values()))
        found[spec.name] = {
            name: _drop(first[name], mine, seed=seed) for name, mine in scored[artefact].items() if name in first
        }
    return found


def _scored(
    spec: SpeedSpec,
    *,
    tasks: Sequence[Task],
    asked: EvalOptions,
    report: Callable[[Progress], None] | None,
) -> Mapping[str, TaskResult]:
    with open_engine(
        spec.ref,
        runtime=spec.runtime,
        device=spec.device,
        precision=spec.precision,
        threads=spec.threads,
        force=spec.force,
    ) as engine:
        solver = EngineSolver(engine)
        answerable = [task for task in tasks if not solver.why_not(task, way="auto")]
        results = evaluate(solver=solver, tasks=answerable, options=asked, keep_samples=False, on_progress=report)
    return {result.task: result for result in results}


def _drop(first: TaskResult, mine: TaskResult, *, seed: int) -> QualityDrop:
    """Drop of the main metric, the first one."""
    name = next(iter(first.recipes))
    metric = remake_metric(first.recipes[name])
    found = compare(metric, first.statistics[name], mine.statistics[name], seed=seed, clusters=mine.clusters)
    return judged_drop(
        loss_of(
            found.difference,
            base=found.a,
            ci95=found.ci95,
            scale=metric.scale,
            higher_is_better=metric.higher_is_better,
        )
    )


def judged_drop(loss: Loss) -> QualityDrop:
    """A loss as a requirement is held against it."""
    return QualityDrop(value=loss.value, ci95=loss.ci95, unit=loss.unit)
