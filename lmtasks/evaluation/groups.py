"""Groups of tasks: what each scores over its tasks, those of inner groups too.

Values have lm-evaluation-harness 0.4.13's formulas (`api/metrics.py`).

Weighted by size (micro), with m_i the value, e_i the standard error and n_i the number of examples of task i of k:

    value  sum m_i n_i / sum n_i        stderr  sqrt( sum (n_i - 1) n_i e_i^2 / (sum n_i - k) / sum n_i )

Unweighted (macro), the tasks being independent:

    value  sum m_i / k                  stderr  sqrt( sum e_i^2 ) / k

The metric `main` is ours: of each task its first one, as a share of 1, so that tasks of several kinds have one mean. A
task whose first metric has no best value (perplexity, bits), or for which less is better, takes no part.

>>> total = aggregate([0.5, 0.8], stderrs=[0.05, 0.02], sizes=[100, 300], weight_by_size=True)
>>> round(total.value, 4), round(total.stderr or 0, 6)
(0.725, 0.019515)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

from lmtasks.errors import WorkError
from lmtasks.evaluation.evaluate import TaskResult
from lmtasks.evaluation.scoring import DEFAULT_FILTER
from lmtasks.results.scores import GroupEstimate, GroupScores
from lmtasks.task.groups import Group, GroupMetric

NORMAL_95 = 1.96
MAIN = "main"
SCALES: Mapping[str, float] = {"fraction": 1.0, "points": 100.0}
"""The best value of each scale that has one."""


@dataclass(frozen=True, kw_only=True)
class GroupValue:
    """The score of a group."""

    value: float
    stderr: float | None
    """None where a task has none."""

    @property
    def ci95(self) -> tuple[float, float] | None:
        """1.96 standard errors around the value."""
        if self.stderr is None:
            return None
        return self.value - NORMAL_95 * self.stderr, self.value + NORMAL_95 * self.stderr


def aggregate(
    values: Sequence[float], *, stderrs: Sequence[float | None], sizes: Sequence[int], weight_by_size: bool
) -> GroupValue:
    """The group's value and standard error.

    Args:
        values, stderrs, sizes: of each task.
        weight_by_size: micro; else macro.

    Raises:
        WorkError: there are no tasks.
    """
    if not values:
        raise WorkError("a group of no tasks has no value.")
    weights = list(sizes) if weight_by_size else [1] * len(values)
    value = sum(value * weight for value, weight in zip(values, weights, strict=True)) / sum(weights)
    known = [stderr for stderr in stderrs if stderr is not None]
    if len(known) < len(values):
        return GroupValue(value=value, stderr=None)
    if not weight_by_size:
        return GroupValue(value=value, stderr=sqrt(sum(stderr**2 for stderr in known)) / len(known))
    spread = sum((size - 1) * stderr**2 * size for size, stderr in zip(sizes, known, strict=True))
    free = sum(sizes) - len(sizes)
    return GroupValue(value=value, stderr=sqrt(spread / free / sum(sizes)) if free else None)


def group_results(groups: Sequence[Group], results: Sequence[TaskResult]) -> Mapping[str, GroupScores]:
    """Each group, and each group inside of it, to its scores.

    A task without the metric, or without results, takes no part; `tasks` of the metric says which did.
    """
    found: dict[str, GroupScores] = {}
    by_task = {result.task: result for result in results}
    for group in _all(groups):
        mine = [by_task[task] for task in group.tasks if task in by_task]
        found[group.name] = GroupScores(
            alias=group.alias,
            n=sum(result.n for result in mine),
            tasks=group.tasks,
            metrics={name: total for wanted in group.aggregations for name, total in _values(wanted, mine)},
        )
    return found


def stored_groups(stored: Mapping[str, GroupScores]) -> tuple[Group, ...]:
    """The groups that results were written with: what rescored tasks are put together by again."""
    return tuple(
        Group(
            name=name,
            alias=scores.alias,
            members=scores.tasks,
            aggregations=tuple(
                GroupMetric(
                    metric=metric.partition(",")[0],
                    filters=(metric.partition(",")[2] or DEFAULT_FILTER,),
                    weight_by_size=total.weight_by_size,
                )
                for metric, total in scores.metrics.items()
            ),
        )
        for name, scores in stored.items()
    )


def _all(groups: Sequence[Group]) -> list[Group]:
    """The groups with those inside of them, outer ones first, each once."""
    found: dict[str, Group] = {}
    for group in groups:
        inner = [member for member in group.members if isinstance(member, Group)]
        for each in (group, *_all(inner)):
            found.setdefault(each.name, each)
    return list(found.values())


def _main(results: Sequence[TaskResult], *, weight_by_size: bool) -> list[tuple[str, GroupEstimate]]:
    """The mean of the tasks' first metrics, 0-1; nothing where no task has one with a best value."""
    first = [(result, next(iter(result.metrics.values()), None)) for result in results]
    having = [
        (result, estimate, SCALES[estimate.scale])
        for result, estimate in first
        if estimate is not None and estimate.scale in SCALES and estimate.higher_is_better
    ]
    if not having:
        return []
    total = aggregate(
        [estimate.value / best for _, estimate, best in having],
        stderrs=[None if estimate.stderr is None else estimate.stderr / best for _, estimate, best in having],
        sizes=[result.n for result, _, _ in having],
        weight_by_size=weight_by_size,
    )
    return [
        (
            MAIN,
            GroupEstimate(
                value=total.value,
                stderr=total.stderr,
                ci95=total.ci95,
                weight_by_size=weight_by_size,
                higher_is_better=True,
                scale="fraction",
                tasks=tuple(result.task for result, _, _ in having),
            ),
        )
    ]


def _values(wanted: GroupMetric, results: Sequence[TaskResult]) -> list[tuple[str, GroupEstimate]]:
    if wanted.metric == MAIN:
        return _main(results, weight_by_size=wanted.weight_by_size)
    found: list[tuple[str, GroupEstimate]] = []
    for name in _names(wanted, results):
        having = [result for result in results if name in result.metrics]
        estimates = [result.metrics[name] for result in having]
        if not having:
            continue
        total = aggregate(
            [estimate.value for estimate in estimates],
            stderrs=[estimate.stderr for estimate in estimates],
            sizes=[result.n for result in having],
            weight_by_size=wanted.weight_by_size,
        )
        estimate = GroupEstimate(
            value=total.value,
            stderr=total.stderr,
            ci95=total.ci95,
            weight_by_size=wanted.weight_by_size,
            higher_is_better=estimates[0].higher_is_better,
            scale=estimates[0].scale,
            tasks=tuple(result.task for result in having),
        )
        found.append((name, estimate))
    return found


def _names(wanted: GroupMetric, results: Sequence[TaskResult]) -> list[str]:
    """The metric under the names of the filters that are wanted; of all that there are where none is named."""
    if wanted.filters is not None:
        return [wanted.metric if name == DEFAULT_FILTER else f"{wanted.metric},{name}" for name in wanted.filters]
    names = {name for result in results for name in result.metrics}
    return sorted(name for name in names if name.partition(",")[0] == wanted.metric)
