"""Tasks x one solver -> scores, with everything under which they hold.

The scored split is opened once, answered, and reduced to statistics of each example; values and intervals come from
those alone, and so do paired comparisons later.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np

from lmtasks.data.options import DataOptions
from lmtasks.data.rows import Rows, open_rows
from lmtasks.data.splits import TaskData, load_task_data
from lmtasks.data.stand_in import with_stand_ins
from lmtasks.errors import UsageError
from lmtasks.evaluation.outcome import Answered, Way, metrics_for, recipe
from lmtasks.evaluation.solver import AskedWay, Asking, Report, Solved, Solver
from lmtasks.metric import Metric, estimate
from lmtasks.records import Estimate, Floats, Json, Row
from lmtasks.task.task import Kind, SplitName, Task


@dataclass(frozen=True, kw_only=True)
class EvalOptions:
    """How to evaluate."""

    data: DataOptions = field(default_factory=DataOptions)
    limit: int | None = None
    """Score only the first rows."""
    num_fewshot: int | None = None
    """Worked examples before a prompt; None: as many as the task says."""
    seed: int = 1234
    """Of worked examples, sampling, random answers, and the validation rows that are kept away from training ones."""
    way: AskedWay = "auto"
    resamples: int = 1000
    """Of the bootstrap, for metrics whose standard error has no closed form."""


@dataclass(frozen=True, kw_only=True)
class TaskResult:
    """The scores of one task. Axes: N examples, K columns of statistics (each metric has its own)."""

    task: str
    alias: str
    kind: Kind
    language: str
    task_hash: str
    data_fingerprint: str
    n: int
    seconds: float
    """For answering, with the model loaded and the data ready, without bootstrap."""
    seconds_total: float
    truncated: int
    """Examples of which something was cut off to fit the model."""
    metrics: Mapping[str, Estimate]
    conditions: Json
    """All that the scores depend on besides model, runtime and versions; the same on every machine."""
    cached: int
    """Requests whose answers were known before; with any, `seconds` says nothing about speed."""
    recipes: Mapping[str, Json]
    """What each metric is made from, for `outcome.remake_metric`."""
    statistics: Mapping[str, Floats]
    """(N, K) of each metric."""
    samples: tuple[Json, ...] = ()


def evaluate(
    *,
    solver: Solver,
    tasks: Sequence[Task],
    options: EvalOptions,
    on_progress: Report | None = None,
    keep_samples: bool = True,
) -> tuple[TaskResult, ...]:
    """Score a solver on tasks.

    Raises:
        UsageError: the solver cannot answer a task, a metric does not fit, or the data is not there. All that can be
            known before the first answer is checked before it.
        WorkError: answering failed.
    """
    report = on_progress or (lambda progress: None)
    tasks = tuple(with_stand_ins(task, options=options.data) for task in tasks)
    for task in tasks:
        why_not = solver.why_not(task, way=options.way)
        if why_not:
            raise UsageError(why_not)
        metrics_for(task, solver.way(task, way=options.way))
    return tuple(_evaluate(solver, task, options=options, report=report, keep_samples=keep_samples) for task in tasks)


def shots_of(task: Task, way: Way, *, asked: int | None) -> int:
    """Worked examples before each prompt. A task file that says 0 itself is never overridden, as in the harness."""
    if way != "prompt" or task.zero_shot_only:
        return 0
    return task.num_fewshot if asked is None else asked


def _evaluate(solver: Solver, task: Task, *, options: EvalOptions, report: Report, keep_samples: bool) -> TaskResult:
    started = perf_counter()
    way = solver.way(task, way=options.way)
    metrics = metrics_for(task, way)
    needed: frozenset[SplitName] = solver.needs(task) | {"test"}
    data = load_task_data(task, options=options.data, need=needed, limit=options.limit, seed=options.seed)
    scored = _scored_rows(task, data)
    shots = shots_of(task, way, asked=options.num_fewshot)
    pool = open_rows(task.shots, options=options.data) if shots and task.shots is not None else None
    asking = Asking(way=options.way, num_fewshot=shots, shot_pool=pool.rows if pool else (), seed=options.seed)
    solved = solver.solve(task, data, asking=asking, report=report)
    outcomes = [example.outcome for example in solved.examples]
    statistics = {metric.name: metric.statistics(outcomes) for metric in metrics}
    estimates = {
        metric.name: estimate(metric, statistics[metric.name], resamples=options.resamples, seed=options.seed)
        for metric in metrics
    }
    conditions: Json = {
        "task_hash": task.hash,
        "data_fingerprint": scored.fingerprint,
        "train_fingerprint": data.train.fingerprint if data.train else None,
        "shots_fingerprint": pool.fingerprint if pool else None,
        "prompt_way": way,
        "num_fewshot": shots,
        "limit": options.limit,
        "seed": options.seed,
        "decoding": solved.decoding,
    }
    return TaskResult(
        task=task.name,
        alias=task.alias,
        kind=task.kind,
        language=task.language,
        task_hash=task.hash,
        data_fingerprint=scored.fingerprint,
        n=len(outcomes),
        seconds=solved.seconds,
        seconds_total=perf_counter() - started,
        truncated=solved.truncated,
        cached=solved.cached,
        metrics=estimates,
        conditions=conditions,
        recipes={use.name: recipe(task, way, use) for use in task.metrics},
        statistics=statistics,
        samples=_samples(scored.rows, solved, metrics, statistics) if keep_samples else (),
    )


def _scored_rows(task: Task, data: TaskData) -> Rows:
    if data.test is None:
        raise UsageError(f"task {task.name} has no split to score.")
    return data.test


def _samples(
    rows: Sequence[Row], solved: Solved, metrics: Sequence[Metric], statistics: Mapping[str, Floats]
) -> tuple[Json, ...]:
    values = {metric.name: metric.per_example(statistics[metric.name]).tolist() for metric in metrics}
    return tuple(
        _sample(number, row, example, {name: column[number] for name, column in values.items()})
        for number, (row, example) in enumerate(zip(rows, solved.examples, strict=True))
    )


def _sample(number: int, row: Row, example: Answered, values: Mapping[str, float]) -> Json:
    asked = {"doc": plain(row), "prompt": plain(example.prompt), "target": _one_or_all(example.target)}
    text = json.dumps(asked, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return {
        "doc_id": number,
        **asked,
        "raw": plain(example.raw),
        "answer": example.answer,
        "metrics": plain(values),
        "hash": hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16],
    }


def _one_or_all(texts: tuple[str, ...]) -> object:
    return texts[0] if len(texts) == 1 else list(texts)


def plain(value: object) -> object:
    """A value as JSON can hold it: what JSON has no form for becomes text (dates, bytes, infinite numbers)."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if np.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value)
