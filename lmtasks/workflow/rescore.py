"""Stored samples scored again, without a model: other metrics, or task files whose metrics or filters have changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from lmtasks.errors import UsageError, unknown
from lmtasks.evaluation.collector import PartsCounter, StatisticsCollector, UnlistedValues, notes_of, with_values
from lmtasks.evaluation.custom_results import lm_eval_result, with_custom_values
from lmtasks.evaluation.evaluate import TaskResult
from lmtasks.evaluation.filtering import answer_after, missing_token_remark, with_filters
from lmtasks.evaluation.groups import group_results, stored_groups
from lmtasks.evaluation.outcome import WAYS, Answered, remake_metric
from lmtasks.evaluation.prepare import question_hash
from lmtasks.evaluation.protocols import Finished, ScoredExample
from lmtasks.evaluation.samples import Samples, answered_of, as_stored, is_unchanged, raw_texts, sample_files
from lmtasks.evaluation.scoring import TaskMetric, meaningful, scorings_for
from lmtasks.evaluation.stream import pieces
from lmtasks.evaluation.write import (
    StoredResults,
    StoredTask,
    check_samples,
    read_results,
    read_samples,
    samples_file,
    write_results,
)
from lmtasks.files import locked, reading
from lmtasks.metric import Draws, estimate
from lmtasks.records import Json, Text
from lmtasks.results.scores import CleanScores, KnownOverlap, TaskScores
from lmtasks.task.task import MetricUse, Task
from lmtasks.workflow.evaluate import Evaluated, ModelScores
from lmtasks.workflow.results_folder import asked_json, check_free, make_free, next_folder

if TYPE_CHECKING:
    from lmtasks.metric import Draws


AT_ONCE = 5000
"""Samples that are in memory together."""


@dataclass(frozen=True, kw_only=True)
class RescoreRequest:
    """Which stored results are scored again, and by what."""

    folder: Path
    tasks: str = ""
    """Task files to score by; empty: all tasks, as they were scored."""
    include: Sequence[Path] = ()
    metrics: Sequence[str] = ()
    seed: int = 1234
    resamples: int | None = None
    draws: Draws = "ours"
    trust_code: bool = False
    out: Path | None = None
    """None: `runs/eval-N`."""
    overwrite: bool = False
    samples: bool = True
    given: Mapping[str, object] = field(default_factory=dict)
    """Options as they were given, for results.json."""


def rescore_results(request: RescoreRequest) -> Evaluated:
    """Compute and write.

    Raises:
        UsageError: the folder holds no results, the samples do not fit, or options do not go together.
        WorkError: a metric has no value, or nothing can be written.
    """
    from lmtasks.bench.machine import versions
    from lmtasks.task.index import default_index

    stored = read_results(request.folder)
    out = request.out or next_folder("eval")
    if out.resolve() == request.folder.resolve():
        raise UsageError(f"--out {out} holds the results that are to be scored again; give another folder.")
    index = default_index(include=request.include)
    rescoring = Rescoring(
        tasks=index.find(request.tasks, trust_code=request.trust_code) if request.tasks else (),
        metrics=request.metrics,
        seed=request.seed,
        resamples=request.resamples,
        draws=request.draws,
    )
    asks = asked_json(request.given, tasks=rescoring.tasks)
    with locked(out), sample_files(out, name=samples_file) as samples:
        (make_free if request.overwrite else check_free)({out: asks}, out=out)
        results = rescore(stored, rescoring, samples=samples)
        named = index.find_groups(request.tasks) if request.tasks else stored_groups(stored.record.groups)
        groups = {name: record for name, record in group_results(named, results).items() if record.metrics}
        write_results(
            out,
            results=results,
            model=stored.record.model,
            runtime=stored.record.runtime,
            machine=stored.record.machine,
            versions=versions(),
            samples=samples if request.samples else False,
            groups=groups,
            asked=asks,
        )
    scores = ModelScores(label=stored.record.model.name, folder=out, results=results, groups=groups, failed={})
    return Evaluated(folder=out, tasks=tuple(result.task for result in results), models=(scores,), reasons={})


@dataclass(frozen=True, kw_only=True)
class Rescoring:
    """Settings of computing scores again."""

    tasks: Sequence[Task] = ()
    """Task files to score by; those of results that are not among them are left out. None: all, as they were scored."""
    metrics: Sequence[str] = ()
    """Names of metrics; none: those of the task files, or of the results."""
    resamples: int | None = None
    seed: int = 1234
    draws: Draws = "ours"


def rescore(stored: StoredResults, rescoring: Rescoring, *, samples: Samples) -> tuple[TaskResult, ...]:
    """Score stored samples.

    Raises:
        UsageError: there are no samples, they were changed or are incomplete; a task file asks something else than the
            samples were asked; or a metric does not fit them.
        WorkError: a metric has no value, or the task's own code failed.
    """
    given = {task.name: task for task in rescoring.tasks}
    for name in given:
        if name not in stored.tasks:
            raise unknown(f"task of {stored.folder}", name, stored.tasks)
    wanted = [stored.tasks[name] for name in stored.tasks if not given or name in given]
    found = tuple(_rescored(stored, task, given.get(task.name), rescoring, samples) for task in wanted)
    check_samples(stored)
    return found


def _rescored(
    stored: StoredResults, record: StoredTask, task: Task | None, rescoring: Rescoring, samples: Samples
) -> TaskResult:
    started = perf_counter()
    conditions = record.scores.conditions
    if task is not None:
        _check_way(conditions)
        task = _fitting(task, conditions, stored=stored, metrics=rescoring.metrics)
        scorings = scorings_for(task)
    else:
        scorings = _stored_scorings(record, rescoring.metrics)
    cluster = task.cluster if task is not None else conditions.get("cluster")
    collector = StatisticsCollector(
        task=record.name,
        scorings=list(scorings),
        unlisted=None if task is None or rescoring.metrics else UnlistedValues(task=task),
        cluster=None if cluster is None else str(cluster),
        parts=PartsCounter(labels=_labels(record)),
        samples=samples,
    )
    trained = conditions.get("prompt_way") == "head"
    for part in pieces(_finished(stored, record, task, trained=trained), AT_ONCE):
        collector.take(part)
    collected = collector.result()
    kept, valueless = with_values(collector.scorings, collected.statistics, unlisted=collected.unlisted)
    kept, refused = meaningful(kept, collected.coding)
    scores = record.scores
    if len(collected.doc_ids) != scores.n:
        raise UsageError(
            f"{stored.folder} holds {len(collected.doc_ids)} samples of {record.name}, but {scores.n} rows were "
            "scored; run the evaluation again."
        )
    return TaskResult(
        task=record.name,
        alias=task.alias if task is not None else scores.alias or record.name,
        kind=task.kind if task is not None else scores.kind,
        language=task.language if task is not None else scores.language,
        task_hash=task.hash if task is not None else str(conditions.get("task_hash")),
        data_fingerprint=str(conditions.get("data_fingerprint")),
        n=scores.n,
        seconds=scores.seconds,
        seconds_total=scores.seconds + perf_counter() - started,
        truncated=scores.truncated,
        cached=scores.cached,
        notes=notes_of(collected, conditions),
        metrics={
            scoring.name: estimate(
                scoring.metric,
                collected.statistics[scoring.name],
                resamples=rescoring.resamples,
                seed=rescoring.seed,
                clusters=collected.clusters,
                draws=rescoring.draws,
            )
            for scoring in kept
        },
        conditions={**conditions, "task_hash": task.hash, "cluster": task.cluster} if task is not None else conditions,
        overlap=_overlap(scores),
        recipes={scoring.name: scoring.recipe for scoring in kept},
        statistics={scoring.name: collected.statistics[scoring.name] for scoring in kept},
        unknown_share=collected.coding.unknown_share,
        refused={**valueless, **refused},
        clusters=collected.clusters,
        parts=collected.mixed_parts,
        labels=collected.labels,
    )


def _labels(record: StoredTask) -> tuple[str, ...]:
    """The task's labels, as its first metric was made with."""
    labels = next(iter(record.statistics.recipes.values()), {}).get("labels")
    return tuple(map(str, labels)) if isinstance(labels, list) else ()


def _overlap(scores: TaskScores) -> KnownOverlap | None:
    """How many rows may have been known, as it was counted; not which, so that others are not scored apart again."""
    if scores.overlap is None or scores.overlap.clean is None:
        return scores.overlap
    return scores.overlap.model_copy(update={"clean": CleanScores(n=scores.overlap.clean.n, metrics={})})


def _fitting(task: Task, conditions: Json, *, stored: StoredResults, metrics: Sequence[str]) -> Task:
    """The task, with other metrics if they are asked for, if it asks what the samples were asked."""
    if conditions.get("asked_hash") != question_hash(task):
        raise UsageError(
            f"the task file of {task.name} asks something else than the samples in {stored.folder} were asked (another "
            "prompt, target, data set or generation); only metrics, filters and process_results may differ. Run the "
            "evaluation again."
        )
    return replace(task, metrics=tuple(MetricUse(name=name) for name in metrics)) if metrics else task


def _stored_scorings(record: StoredTask, metrics: Sequence[str]) -> tuple[TaskMetric, ...]:
    """The metrics of the results, or others in their place; under every filter that there was."""
    recipes = dict(record.statistics.recipes)
    if metrics:
        first = next(iter(recipes.values()))
        with reading(f"what the results in {record.name} were computed by"):
            plain: dict[str, object] = {key: first[key] for key in ("task", "takes", "language", "labels")}
        if first.get("function") is not None:
            plain["takes"] = "text"  # which the task's function made its values of
        filters = {_filter_of(recipe): name.partition(",")[2] for name, recipe in recipes.items()}
        recipes = {
            f"{name},{suffix}" if suffix else name: {
                **plain,
                "name": name,
                "options": {},
                **({"filter": filter_name} if filter_name else {}),
            }
            for filter_name, suffix in filters.items()
            for name in metrics
        }
    with reading(f"what the metrics of {record.name} were computed by"):
        return tuple(
            TaskMetric(name=name, filter_name=_filter_of(recipe), metric=remake_metric(recipe), recipe=recipe)
            for name, recipe in recipes.items()
        )


def _filter_of(recipe: Json) -> str:
    return str(recipe.get("filter", ""))


def _finished(stored: StoredResults, record: StoredTask, task: Task | None, *, trained: bool) -> Iterator[Finished]:
    thought = _thought(record.scores.conditions)
    for sample in read_samples(stored.folder, record.name):
        if not is_unchanged(sample):
            raise UsageError(
                f"sample {sample.doc_id} of {record.name} in {stored.folder} does not fit its hash: document, "
                "prompt or target was changed. Run the evaluation again."
            )
        example = ScoredExample(doc_id=sample.doc_id, row=sample.doc)
        texts = raw_texts(sample)
        without = bool(thought.token) and any(thought.token not in text for text in texts)
        if thought.token:
            texts = [answer_after(text, token=thought.token, stops=thought.stops) for text in texts]
        scored = as_stored(sample) if task is None else _anew(answered_of(sample), texts, task, example, trained)
        yield Finished(
            example=example,
            answered=scored,
            truncated=False,
            remarks=(missing_token_remark(thought.token),) if without else (),
        )


@dataclass(frozen=True, kw_only=True)
class _Thought:
    """Where answers begin in what was written."""

    token: str
    stops: tuple[str, ...]


def _thought(conditions: Json) -> _Thought:
    decoding = conditions.get("decoding")
    settings = decoding if isinstance(decoding, Mapping) else {}
    return _Thought(token=str(settings.get("think_end_token", "")), stops=tuple(map(str, settings.get("stop", ()))))


def _anew(answered: Answered, texts: Sequence[str], task: Task, example: ScoredExample, trained: bool) -> Answered:
    """With what the task file's filters and own code make of the raw answers."""
    outcome = answered.outcome
    if isinstance(outcome, Text):
        return with_filters(task, answered, example=example, texts=texts, trained=trained)
    return with_custom_values(answered, task, example=example, results={"": lm_eval_result(task, outcome)})


def _check_way(conditions: Json) -> None:
    if conditions.get("prompt_way") not in WAYS:
        raise UsageError("the results do not say how they were answered (conditions.prompt_way); run them again.")
