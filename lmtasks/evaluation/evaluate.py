"""Tasks x one solver -> scores, with everything under which they hold.

The rows of all tasks stream through the engine together (`stream.py`) and leave statistics of each example; values and
intervals come from those alone, and so do paired comparisons later.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from time import perf_counter
from typing import TypeVar

from lmtasks.data.mirror import with_stand_ins
from lmtasks.data.row_hashes import hash_row
from lmtasks.errors import LmtasksError, UsageError, WorkError
from lmtasks.evaluation.baseline_trivial import main_scoring
from lmtasks.evaluation.collector import (
    CollectedStatistics,
    PartsCounter,
    StatisticsCollector,
    UnlistedValues,
    merge,
    notes_of,
    with_values,
)
from lmtasks.evaluation.custom_results import with_custom_values_of_outcome
from lmtasks.evaluation.engine_solver import EngineSolver
from lmtasks.evaluation.overlap import (
    NONE_AMONG_OTHERS,
    KnownMarks,
    KnownRows,
    known_rows,
    mark_known,
    overlap_record,
    training_hashes,
)
from lmtasks.evaluation.prepare import EvalOptions, PreparedTask, prepare_task, scored_examples
from lmtasks.evaluation.processes import ALONE, Processes, Spooled
from lmtasks.evaluation.protocols import Solver
from lmtasks.evaluation.samples import KeptSamples, NoSamples, Samples
from lmtasks.evaluation.scoring import TaskMetric, meaningful, scorings_for
from lmtasks.evaluation.stream import CHUNK, Job, Stream, named
from lmtasks.metric import Draws, Metric, PairedResult, compare, estimate, holm
from lmtasks.metric.paired import resamples_for
from lmtasks.records import Estimate, Floats, Json, Progress, Report
from lmtasks.results.scores import ChangedScores, KnownOverlap, LabelCount, RivalChoice
from lmtasks.task.changes import has_changes
from lmtasks.task.kinds import kind_of
from lmtasks.task.task import Task


@dataclass(frozen=True, kw_only=True)
class TaskResult:
    """The scores of one task. Axes: N examples, K columns of statistics (each metric has its own)."""

    task: str
    alias: str
    kind: str
    language: str
    task_hash: str
    data_fingerprint: str
    n: int
    seconds: float
    """For making and answering requests, with the model loaded and the data opened, without bootstrap; of tasks that
    were answered together its share by tokens."""
    seconds_total: float
    truncated: int
    """Examples of which something was cut off to fit the model."""
    metrics: Mapping[str, Estimate]
    conditions: Json
    """All that the scores depend on besides model, runtime and versions; the same on every machine."""
    recipes: Mapping[str, Json]
    """What each metric is made from, for `outcome.remake_metric`."""
    statistics: Mapping[str, Floats]
    """(N, K) of each metric."""
    clusters: tuple[str, ...] | None = None
    """(N,) which examples belong together, where the task names a column for it."""
    parts: tuple[str, ...] | None = None
    """(N,) the part of the rows that an example is of; None: there are none."""
    labels: Mapping[str, LabelCount] = field(default_factory=dict)
    """How often each label was right and answered, where one of them is answered."""
    cached: int = 0
    """Requests whose answers were known before; with any, `seconds` says nothing about speed."""
    overlap: KnownOverlap | None = None
    """Scored rows that may have been known, see `evaluation.overlap`; None: nobody asked, or it is not known."""
    unknown_share: float = 0.0
    """Of the tokens of scored texts, 0-1: those that stand for something that they do not say."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Metrics of the task that these answers have no value of, each with the reason."""
    notes: tuple[str, ...] = ()
    """What a reader must know of the values, in sentences."""
    rival: RivalChoice | None = None
    """Which of several baselines answered, and what all had on the rows that chose it (`rivals.py`)."""
    changed: ChangedScores | None = None
    """What the change of its rows costs, where they are changed and were scored as they are, too."""
    samples: tuple[Json, ...] = ()
    """Where they were kept in memory."""


@dataclass(frozen=True, kw_only=True)
class TaskFacts:
    """All that a task's scores are made of beside the statistics of its examples."""

    task: str
    alias: str
    kind: str
    language: str
    task_hash: str
    data_fingerprint: str
    conditions: Json
    labels: tuple[str, ...]
    """Of the task; empty: it has none."""
    marks: KnownMarks | None
    """Rows that may have been known; None: nobody could tell."""
    told_apart: bool
    """Have the task's rows something to be right, that could have been learned?"""
    notes: tuple[str, ...] = ()
    """What a reader must know beside what the answers say, in sentences."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Metrics that were not looked at, each with the reason."""
    rows: int
    """Of the scored split."""
    unanswered: Mapping[int, str] = field(default_factory=dict)
    """Numbers of the rows without an answer, each with the reason."""
    cached: int = 0
    rival: RivalChoice | None = None
    seconds: float = 0.0
    seconds_total: float = 0.0
    """But for what computing the scores takes."""


@dataclass(frozen=True, kw_only=True)
class AnsweredTask:
    """A task's answers, or those of a shard of its rows, before they make a score."""

    facts: TaskFacts
    collected: CollectedStatistics
    scorings: tuple[TaskMetric, ...]


def result_of(
    facts: TaskFacts,
    collected: CollectedStatistics,
    scorings: Sequence[TaskMetric],
    *,
    seed: int,
    resamples: int | None = None,
    draws: Draws = "ours",
) -> TaskResult:
    """Compute the scores of a task.

    Args:
        seed: of the bootstrap; as `resamples` and `draws`, see `metric.estimate`.

    Raises:
        UsageError, WorkError: a metric has no value of these answers.
    """
    started = perf_counter()
    fingerprint = _answered_rows(facts.data_fingerprint, facts.unanswered)
    kept, valueless = with_values(scorings, collected.statistics, unlisted=collected.unlisted)
    kept, refused = meaningful(kept, collected.coding)
    metrics = {
        scoring.name: estimate(
            scoring.metric,
            collected.statistics[scoring.name],
            resamples=resamples,
            seed=seed,
            clusters=collected.clusters,
            draws=draws,
        )
        for scoring in kept
    }
    overlap: KnownOverlap | None = NONE_AMONG_OTHERS
    if facts.told_apart:
        overlap = (
            None
            if facts.marks is None
            else overlap_record(facts.marks, collected, kept, resamples=resamples, seed=seed)
        )
    return TaskResult(
        task=facts.task,
        alias=facts.alias,
        kind=facts.kind,
        language=facts.language,
        task_hash=facts.task_hash,
        data_fingerprint=fingerprint,
        n=len(collected.doc_ids),
        truncated=collected.truncated,
        cached=facts.cached,
        notes=(
            *facts.notes,
            *notes_of(collected, facts.conditions),
            *_unanswered_notes(facts.unanswered, facts.rows),
        ),
        metrics=metrics,
        unknown_share=collected.coding.unknown_share,
        refused={**facts.refused, **valueless, **refused},
        rival=facts.rival,
        conditions={**facts.conditions, "data_fingerprint": fingerprint},
        overlap=overlap,
        recipes={scoring.name: scoring.recipe for scoring in kept},
        statistics={scoring.name: collected.statistics[scoring.name] for scoring in kept},
        clusters=collected.clusters,
        parts=collected.mixed_parts,
        labels=collected.labels,
        seconds=facts.seconds,
        seconds_total=facts.seconds_total + perf_counter() - started,
    )


def evaluate(
    *,
    solver: Solver,
    tasks: Sequence[Task],
    options: EvalOptions,
    on_progress: Report | None = None,
    keep_samples: bool = True,
    samples: Samples | None = None,
    on_failure: Callable[[str, LmtasksError], None] | None = None,
    processes: Processes = ALONE,
    chunk: int = CHUNK,
) -> tuple[TaskResult, ...]:
    """Score a solver on tasks.

    Args:
        keep_samples: put the samples into the results; they are all in memory then.
        samples: takes them as they come instead.
        on_failure: is told of a task that failed, and why; the others go on. None: the first failure ends it all.
        processes: of several, the first one returns the results, the others nothing.
        chunk: requests that are answered together; changes nothing but memory and speed.

    Raises:
        UsageError: the solver cannot answer a task, a metric does not fit, or the data is not there. All that can be
            known before the first answer is checked before it.
        WorkError: answering failed.
    """
    tasks = _checked(tasks, solver=solver, options=options)
    kept = KeptSamples()
    takes: Samples = samples or (kept if keep_samples else NoSamples())
    run = _Run(
        solver=solver,
        options=options,
        samples=takes,
        report=on_progress or (lambda progress: None),
        fail=on_failure or _raise,
        processes=processes,
        chunk=chunk,
    )
    results = with_changes(tasks, run.results(tasks), seed=options.seed)
    return tuple(replace(result, samples=tuple(kept.of.get(result.task, ()))) for result in results)


def answer_shard(
    shard: Processes,
    *,
    solver: Solver,
    tasks: Sequence[Task],
    options: EvalOptions,
    samples: Samples,
    on_progress: Report,
    on_failure: Callable[[str, LmtasksError], None],
) -> tuple[AnsweredTask, ...]:
    """Answer a shard of every task's rows; nothing is scored, since a part of the rows has no score that anybody asked
    for. `evaluation.shards` makes the scores of all shards together.

    Args:
        shard: which of how many; of a baseline, too, which answers all rows and keeps its own.
        samples: takes them, in the order of the examples.
        on_failure: is told of a task that failed, and why.

    Raises:
        UsageError: as `evaluate`.
    """
    run = _Run(
        solver=solver,
        options=options,
        samples=samples,
        report=on_progress,
        fail=on_failure,
        shard=shard,
    )
    return tuple(run.answers(_checked(tasks, solver=solver, options=options)))


def _checked(tasks: Sequence[Task], *, solver: Solver, options: EvalOptions) -> tuple[Task, ...]:
    """The tasks with what a mirror has in place of their data, each of which the solver can answer."""
    found = tuple(with_stand_ins(task, options=options.data) for task in tasks)
    for task in found:
        why_not = solver.why_not(task, way=options.way)
        if why_not:
            raise UsageError(why_not)
        scorings_for(task)
    return found


_Made = TypeVar("_Made")


@dataclass(kw_only=True)
class _Scored:
    """A task whose rows are open, on its way."""

    task: Task
    prepared: PreparedTask
    collector: StatisticsCollector
    known: KnownRows = field(default_factory=KnownRows)
    seconds: float = 0.0
    cached: int = 0
    decoding: Json | None = None
    rival: RivalChoice | None = None
    refused: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    given: Json | None = None
    """Of answers that were there."""
    unanswered: Mapping[int, str] = field(default_factory=dict)
    failure: LmtasksError | None = None


@dataclass(kw_only=True)
class _Run:
    solver: Solver
    options: EvalOptions
    samples: Samples
    report: Report
    fail: Callable[[str, LmtasksError], None]
    processes: Processes = ALONE
    """Others that answer the same tasks at the same time, and are gathered."""
    shard: Processes = ALONE
    """The part of the rows that is answered here, by this process alone."""
    chunk: int = CHUNK

    def results(self, tasks: Sequence[Task]) -> list[TaskResult]:
        """Open, answer, estimate."""
        with closing(Spooled()) as spooled:
            return self._results(tasks, spooled)

    def answers(self, tasks: Sequence[Task]) -> list[AnsweredTask]:
        """Open and answer."""
        found: list[AnsweredTask] = []
        scored = [self._open(task, samples=self.samples) for task in tasks]
        self._answer(scored)
        for each in scored:
            self._finish(each, partial(self._answered, each), found)
        return found

    def _results(self, tasks: Sequence[Task], spooled: Spooled) -> list[TaskResult]:
        alone = self.processes.count == 1 or not isinstance(self.solver, EngineSolver)
        if alone and not self.processes.first:
            return []  # a baseline takes no time worth dividing
        scored = [self._open(task, samples=self.samples if alone else spooled) for task in tasks]
        self._answer(scored)
        found: list[TaskResult] = []
        for each in scored:
            if alone:
                self._finish(each, partial(self._alone, each), found)
            else:
                self._gathered(each, spooled, found)
        return found

    def _answer(self, scored: Sequence[_Scored]) -> None:
        going = [each for each in scored if each.failure is None]
        if isinstance(self.solver, EngineSolver) and going:
            self._stream(self.solver, going)
        else:
            self._solve(going)

    def _open(self, task: Task, *, samples: Samples) -> _Scored:
        way = self.solver.way(task, way=self.options.way)
        collector = StatisticsCollector(
            task=task.name,
            scorings=list(scorings_for(task)),
            unlisted=UnlistedValues(task=task),
            cluster=task.cluster,
            parts=PartsCounter(labels=task.labels),
            samples=samples,
            identify=partial(hash_row, task) if self.options.overlap and kind_of(task).told_apart else None,
        )
        try:
            prepared = prepare_task(task, solver=self.solver, options=self.options, way=way)
        except WorkError as error:  # the network, say: a mistake in the command ends it before anything is answered
            return _Scored(task=task, prepared=PreparedTask(), collector=collector, failure=error)
        return _Scored(task=task, prepared=prepared, collector=collector, known=self._known(task, prepared))

    def _known(self, task: Task, prepared: PreparedTask) -> KnownRows:
        """The rows that scored ones may be among; only the first process counts."""
        if not (self.options.overlap and self.processes.first and kind_of(task).told_apart):
            return KnownRows()
        choosing = self.options.split == "validation"
        train = None
        if not choosing:
            train = training_hashes(task, options=self.options.data, kept=self.options.hashes, report=self.report)
        return known_rows(
            self.solver.training_rows(task, prepared.data),
            train,
            own_answers=prepared.own_answers,
            choosing=choosing,
        )

    def _stream(self, solver: EngineSolver, scored: Sequence[_Scored]) -> None:
        """All tasks through the engine together."""
        divided = self.processes if self.shard.count == 1 else self.shard
        jobs = [
            Job(
                name=each.task.name,
                request_builder=solver.request_builder(each.task, prompt_context=each.prepared.prompt_context),
                examples=scored_examples(each.task, each.prepared.rows, processes=divided),
                take=each.collector.take,
                size=each.prepared.n // divided.count,
            )
            for each in scored
        ]
        mine = sum(each.prepared.n for each in scored) // divided.count
        progress = Progress(stage=_stage(scored), done=0, total=mine, unit="examples")
        self.report(progress)
        Stream(
            engine=solver.engine,
            chunk=self.chunk,
            on_progress=lambda done, name: self.report(
                replace(progress, done=min(done, mine), note=name if len(scored) > 1 else "")
            ),
        ).run(jobs)
        for each, job in zip(scored, jobs, strict=True):
            each.seconds, each.failure, each.decoding = job.seconds, job.failure, job.request_builder.decoding
            each.cached, each.unanswered = job.cached, job.unanswered
        self.report(replace(progress, done=mine))

    def _solve(self, scored: Sequence[_Scored]) -> None:
        """Baselines, and answers that are there: each task whole."""
        for each in scored:
            try:
                solved = self.solver.solve(
                    each.task, each.prepared.data, prompt_context=each.prepared.prompt_context, report=self.report
                )
                scorings = each.collector.scorings
                each.collector.scorings = [scoring for scoring in scorings if scoring.name not in solved.refused]
                mine = each.prepared.finished(solved)[self.shard.rank :: self.shard.count]
                each.collector.take(
                    [
                        found if found.answered.made else with_custom_values_of_outcome(found, each.task)
                        for found in mine
                    ]
                )
                each.seconds, each.decoding, each.rival = solved.seconds, solved.decoding, solved.rival
                each.refused, each.notes, each.given = solved.refused, solved.notes, solved.given
            except LmtasksError as error:
                each.failure = named(each.task.name, error)

    def _gathered(self, each: _Scored, spooled: Spooled, found: list[TaskResult]) -> None:
        """The result of all processes together, in the first."""
        part = _Part(
            collected=None,
            seconds=each.seconds,
            cached=each.cached,
            unanswered=each.unanswered,
            failure=each.failure,
        )
        try:
            part = replace(part, collected=each.collector.result() if each.failure is None else None)
        except LmtasksError as error:
            part = replace(part, failure=named(each.task.name, error))
        parts = self.processes.gather(part)
        failure = self.processes.share(next((other.failure for other in parts if other.failure), None))
        if failure is None:
            spooled.gather(each.task.name, processes=self.processes, into=self.samples)
        else:
            spooled.drop(each.task.name)
        if self.processes.first:
            each.failure, each.seconds = failure, max(other.seconds for other in parts)
            each.cached = sum(other.cached for other in parts)
            each.unanswered = dict(sorted(pair for other in parts for pair in other.unanswered.items()))
            collected = [other.collected for other in parts if other.collected is not None]
            for part_of in collected:
                each.collector.add_unlisted(part_of.unlisted)
            self._finish(each, lambda: self._result(each, merge(collected, scorings=each.collector.scorings)), found)

    def _alone(self, each: _Scored) -> TaskResult:
        return self._result(each, each.collector.result())

    def _finish(self, each: _Scored, make: Callable[[], _Made], found: list[_Made]) -> None:
        if each.failure is None:
            try:
                found.append(make())
            except LmtasksError as error:
                each.failure = named(each.task.name, error)
        if each.failure is not None:
            self.samples.drop(each.task.name)
            self.fail(each.task.name, each.failure)

    def _answered(self, each: _Scored) -> AnsweredTask:
        collected = each.collector.result()
        return AnsweredTask(
            facts=self._facts(each, collected),
            collected=collected,
            scorings=tuple(each.collector.scorings),
        )

    def _result(self, each: _Scored, collected: CollectedStatistics) -> TaskResult:
        options = self.options
        return result_of(
            self._facts(each, collected),
            collected,
            each.collector.scorings,
            seed=options.seed,
            resamples=options.resamples,
            draws=options.draws,
        )

    def _facts(self, each: _Scored, collected: CollectedStatistics) -> TaskFacts:
        started = perf_counter()
        task, prepared = each.task, each.prepared
        told_apart = kind_of(task).told_apart
        marks = mark_known(each.known, collected) if told_apart else None
        return TaskFacts(
            task=task.name,
            alias=task.alias,
            kind=task.kind,
            language=task.language,
            task_hash=task.hash,
            data_fingerprint=prepared.fingerprint,
            conditions={
                **prepared.conditions,
                "decoding": each.decoding,
                **({"answers": each.given} if each.given is not None else {}),
            },
            labels=task.labels,
            marks=marks,
            told_apart=told_apart,
            notes=(*((f"{prepared.sorted_by}.",) if prepared.sorted_by else ()), *each.notes),
            refused=each.refused,
            rows=prepared.n,
            unanswered=each.unanswered,
            cached=each.cached,
            rival=each.rival,
            seconds=each.seconds,
            seconds_total=prepared.seconds + each.seconds + perf_counter() - started,
        )


@dataclass(frozen=True, kw_only=True)
class _Part:
    """What one process has of a task."""

    collected: CollectedStatistics | None
    seconds: float
    cached: int
    unanswered: Mapping[int, str]
    failure: LmtasksError | None


def _unanswered_notes(unanswered: Mapping[int, str], n: int) -> tuple[str, ...]:
    """Sentences on examples that are left out."""
    if not unanswered:
        return ()
    number, reason = next(iter(unanswered.items()))
    return (f"{len(unanswered)} of {n} examples have no answer and are left out; row {number}: {reason}",)


def _answered_rows(fingerprint: str, unanswered: Mapping[int, str]) -> str:
    """The fingerprint of the rows that have an answer: without some they are other rows, and are paired with none."""
    if not unanswered:
        return fingerprint
    return hashlib.sha256(json.dumps([fingerprint, sorted(unanswered)]).encode()).hexdigest()[: len(fingerprint)]


def _stage(scored: Sequence[_Scored]) -> str:
    return scored[0].task.name if len(scored) == 1 else f"{len(scored)} tasks"


def _raise(task: str, error: LmtasksError) -> None:
    raise error


@dataclass(frozen=True, kw_only=True)
class ScoredChange:
    """A task whose rows are changed, and the task as it is."""

    task: str
    clean: str
    change: str
    seed: int
    """Of the change."""
    metric: str
    """The task's first one, on which both are compared."""


def changes_of(tasks: Sequence[Task]) -> tuple[ScoredChange, ...]:
    """The changed ones among tasks that are scored together."""
    found: list[ScoredChange] = []
    for task in tasks:
        how = task.sources["test"].changed if "test" in task.sources else None
        if has_changes(task) and task.clean is not None and how is not None:
            scoring = main_scoring(task)
            found.append(
                ScoredChange(
                    task=task.name,
                    clean=task.clean.name,
                    change=how.change,
                    seed=how.seed,
                    metric=scoring.name,
                )
            )
    return tuple(found)


def with_changes(tasks: Sequence[Task], results: Sequence[TaskResult], *, seed: int) -> list[TaskResult]:
    """The results, those of changed rows with what the change costs on the task's first metric, paired by example; all
    changes are one family."""
    metrics = {task.name: main_scoring(task).metric for task in tasks if has_changes(task)}
    return compared_with_clean(changes_of(tasks), results, metrics=metrics, seed=seed)


def compared_with_clean(
    changes: Sequence[ScoredChange], results: Sequence[TaskResult], *, metrics: Mapping[str, Metric], seed: int
) -> list[TaskResult]:
    """As `with_changes`.

    Args:
        metrics: a changed task to its first metric.
    """
    by_name = {result.task: result for result in results}
    scored = [each for each in changes if each.task in by_name]
    compared: dict[str, PairedResult] = {}
    for each in scored:
        clean, mine = by_name.get(each.clean), by_name[each.task]
        if clean is None or clean.n != mine.n:
            continue
        if each.metric in clean.metrics and each.metric in mine.metrics:
            compared[each.task] = compare(
                metrics[each.task],
                clean.statistics[each.metric],
                mine.statistics[each.metric],
                resamples=resamples_for(len(scored)),
                seed=seed,
                clusters=clean.clusters,
            )
    adjusted = dict(zip(compared, holm([each.p_value for each in compared.values()]), strict=True))
    found = {
        each.task: ChangedScores(
            clean=each.clean,
            change=each.change,
            seed=each.seed,
            metric=each.metric,
            scale=metrics[each.task].scale,
            n=by_name[each.task].n,
            before=by_name[each.clean].metrics[each.metric].value,
            difference=compared[each.task].difference,
            ci95=compared[each.task].ci95,
            p_value=compared[each.task].p_value,
            p_holm=adjusted[each.task],
        )
        for each in scored
        if each.task in compared
    }
    return [replace(result, changed=found.get(result.task)) for result in results]
