"""Stored results side by side, paired by example, all held to the first.

All comparisons that are made together are one family: their p-values are adjusted by Holm's procedure, so that 5 % is
the chance of a single false alarm among all of them. What is not asked for does not count: choose tasks and metrics
before, not after.

Only results that were got under the same conditions are compared: the scored rows, what was asked about them, and how
each metric computes must be the same. How a model answers (its weights, runtime, decoding, its own chat template) is
what is compared, and may differ. A model that answers by a head reads no prompt, so that prompts matter only where both
sides were prompted.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np

from lmtasks.errors import UsageError, unknown
from lmtasks.evaluation.outcome import remake_metric
from lmtasks.evaluation.write import StoredResults, StoredTask, read_samples
from lmtasks.metric import Metric, PairedResult, Verdict, compare, holm, verdict
from lmtasks.metric.paired import MCNEMAR, resamples_for
from lmtasks.results.sample import SampleRecord

OF_THE_PROMPT: Mapping[str, str] = {
    "num_fewshot": "number of worked examples",
    "shots_fingerprint": "pool of worked examples",
    "fewshot_stream": "draw of worked examples",
    "chat": "use of a chat template",
    "chat.fewshot_as_multiturn": "form of worked examples in the chat",
    "chat.system_instruction": "system instruction",
}
"""Conditions of prompted results to their names."""


@dataclass(frozen=True, kw_only=True)
class MetricComparison:
    """One metric of one task: `other` against the base."""

    other: StoredResults
    task: str
    metric: Metric
    name: str
    """As results know the metric: with its filter, where a task has several."""
    result: PairedResult
    p_adjusted: float
    """For all comparisons of the family."""
    verdict: Verdict

    @property
    def note(self) -> str:
        """Remark on the test; empty where all is as usual."""
        if self.result.test == MCNEMAR and self.result.wins + self.result.losses == 0:
            return f"{self.name} of {self.task}: no example is right in one and wrong in the other, so p is 1"
        return ""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A family of comparisons."""

    base: StoredResults
    others: tuple[StoredResults, ...]
    comparisons: tuple[MetricComparison, ...]
    """In the order of the others, then of the base's tasks and their metrics."""
    left_out: tuple[str, ...]
    """What could not be compared, and why."""


@dataclass(frozen=True, kw_only=True)
class DifferingExample:
    """An example on which two results differ."""

    doc_id: int
    base: SampleRecord
    """The sample of the base."""
    other: SampleRecord
    gain: float
    """How much better the other is; below zero: worse."""


@dataclass(frozen=True, kw_only=True)
class _Pair:
    other: StoredResults
    task: str
    name: str
    metric: Metric


def compare_results(
    base: StoredResults, others: Sequence[StoredResults], *, only: Sequence[str] = (), seed: int = 1234
) -> Compared:
    """Compare every metric that the base shares with another, or those that `only` names.

    Args:
        only: `TASK` or `TASK/METRIC`, with `*` for any text.

    Raises:
        UsageError: nothing is shared, a name in `only` fits nothing, or results were got under unlike conditions.
    """
    left_out: list[str] = []
    pairs = [pair for other in others for pair in _pairs(base, other, left_out)]
    chosen = [pair for pair in pairs if not only or any(_fits(pair, pattern) for pattern in only)]
    for pattern in only:
        if not any(_fits(pair, pattern) for pair in pairs):
            names = {f"{pair.task}/{pair.name}" for pair in pairs}
            raise unknown("task/metric", pattern, names, hint="Write TASK or TASK/METRIC; * stands for any text.")
    resamples = resamples_for(len(chosen))
    results = [
        compare(
            pair.metric,
            base.tasks[pair.task].statistics.tables[pair.name],
            pair.other.tasks[pair.task].statistics.tables[pair.name],
            resamples=resamples,
            seed=seed,
            clusters=base.tasks[pair.task].statistics.clusters,
        )
        for pair in chosen
    ]
    adjusted = holm([result.p_value for result in results])
    return Compared(
        base=base,
        others=tuple(others),
        comparisons=tuple(
            MetricComparison(
                other=pair.other,
                task=pair.task,
                metric=pair.metric,
                name=pair.name,
                result=result,
                p_adjusted=p_value,
                verdict=verdict(result.difference, p_value=p_value, higher_is_better=pair.metric.higher_is_better),
            )
            for pair, result, p_value in zip(chosen, results, adjusted, strict=True)
        ),
        left_out=tuple(left_out),
    )


def examples_that_differ(base: StoredResults, comparison: MetricComparison, *, count: int) -> list[DifferingExample]:
    """The examples that differ most in the comparison's metric, the largest difference first.

    Raises:
        UsageError: samples were not kept, or they are of other rows.
    """
    name, task = comparison.name, comparison.task
    mine, theirs = (
        comparison.metric.per_example(results.tasks[task].statistics.tables[name])
        for results in (base, comparison.other)
    )
    gains = np.nan_to_num(theirs - mine) * (1 if comparison.metric.higher_is_better else -1)
    places = [place for place in np.argsort(-abs(gains), kind="stable").tolist() if gains[place] != 0][:count]
    of_base, of_other = (_samples(results, task, places) for results in (base, comparison.other))
    for place in places:
        if of_base[place].doc != of_other[place].doc:
            raise UsageError(f"sample {place} of {task} is of another row in {comparison.other.folder}.")
    return [
        DifferingExample(
            doc_id=of_base[place].doc_id,
            base=of_base[place],
            other=of_other[place],
            gain=float(gains[place]),
        )
        for place in places
    ]


def differences(a: StoredTask, b: StoredTask) -> list[str]:
    """Differences that keep two results of one task from being compared, a part of a sentence each."""
    return [*_conditions(a, b), *_signatures(a, b)]


def _pairs(base: StoredResults, other: StoredResults, left_out: list[str]) -> Iterator[_Pair]:
    """Every metric of every task that both have; what cannot be computed again goes to `left_out`."""
    shared = [task for task in base.tasks if task in other.tasks]
    if not shared:
        mine, theirs = ", ".join(base.tasks), ", ".join(other.tasks)
        raise UsageError(f"{base.folder} ({mine}) and {other.folder} ({theirs}) have no task in common.")
    unlike = [difference for task in shared for difference in differences(base.tasks[task], other.tasks[task])]
    if unlike:
        raise UsageError(
            f"{base.folder} and {other.folder} cannot be compared: {'; '.join(unlike)}. Score both again with the "
            "same task files, data, prompts and --limit."
        )
    for task in shared:
        for name, metric in _metrics(base.tasks[task], left_out):
            if name in other.tasks[task].statistics.tables:
                yield _Pair(other=other, task=task, name=name, metric=metric)


def _metrics(task: StoredTask, left_out: list[str]) -> Iterator[tuple[str, Metric]]:
    for name in task.metrics:
        try:
            metric = remake_metric(task.statistics.recipes[name])
        except UsageError as error:
            left_out += [str(error)] if str(error) not in left_out else []
            continue
        if name in task.statistics.tables:
            yield name, metric


def _fits(pair: _Pair, pattern: str) -> bool:
    task, _, metric = pattern.partition("/")
    return fnmatchcase(pair.task, task) and fnmatchcase(pair.name, metric or "*")


def _samples(results: StoredResults, task: str, places: Sequence[int]) -> dict[int, SampleRecord]:
    wanted = set(places)
    found: dict[int, SampleRecord] = {}
    for place, sample in enumerate(read_samples(results.folder, task)):
        if place in wanted:
            found[place] = sample
    missing = sorted(wanted - set(found))
    if missing:
        raise UsageError(f"{results.folder} holds no sample {missing[0]} of {task}; run the evaluation again.")
    return found


def _conditions(a: StoredTask, b: StoredTask) -> Iterator[str]:
    # Task files may differ in what is made of the answers; the metrics' signatures tell whether that matters.
    task = "asked_hash" if _has(a, "asked_hash") and _has(b, "asked_hash") else "task_hash"
    fields = {task: "task file", "data_fingerprint": "data"}
    if _condition(a, "prompt_way") == _condition(b, "prompt_way") == "prompt":
        fields |= OF_THE_PROMPT
        if _condition(a, "num_fewshot"):
            fields["seed"] = "seed of the worked examples"
    for field, name in fields.items():
        mine, theirs = _condition(a, field), _condition(b, field)
        if mine != theirs:
            where = _differing(a, b) if field == task else ""
            yield f"{a.name} has another {name} ({_formatted(mine)} and {_formatted(theirs)}; condition {field}){where}"


def _differing(a: StoredTask, b: StoredTask) -> str:
    """Which fields of the task file differ, where both results kept a hash of each; else nothing."""
    mine, theirs = _fields(a), _fields(b)
    named = [key for key in sorted({*mine, *theirs}) if mine.get(key) != theirs.get(key)]
    return f" in {', '.join(named)}" if mine and theirs and named else ""


def _fields(task: StoredTask) -> Mapping[str, object]:
    found = task.scores.conditions.get("asked_fields")
    return found if isinstance(found, Mapping) else {}


def _signatures(a: StoredTask, b: StoredTask) -> Iterator[str]:
    for metric in a.metrics:
        if metric in b.metrics and a.metrics[metric].signature != b.metrics[metric].signature:
            yield (
                f"{metric} of {a.name} has another signature ({a.metrics[metric].signature} and "
                f"{b.metrics[metric].signature})"
            )


def _has(task: StoredTask, field: str) -> bool:
    return _condition(task, field) is not None


def _condition(task: StoredTask, field: str) -> object:
    """A condition by its path; of a group of them, whether it is there."""
    found: object = task.scores.conditions
    for part in field.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return "set" if isinstance(found, Mapping) else found


def _formatted(value: object) -> str:
    return "none" if value is None else str(value)
