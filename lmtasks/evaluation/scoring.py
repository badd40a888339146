"""Which metrics score a task, under which names, and what each is made from.

A task with several filters has each metric once for each of them: `exact_match,strict`, `exact_match,flexible`. The
only filter, and lm-evaluation-harness' default one (`none`), add nothing to the name.
"""

from dataclasses import dataclass

from lmtasks.evaluation.outcome import Answered, metric_for, recipe
from lmtasks.metric import Metric
from lmtasks.records import Json, Outcome
from lmtasks.task.task import MetricUse, Task

DEFAULT_FILTER = "none"


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """One metric of a task."""

    name: str
    """As results know it."""
    filter_name: str
    """Whose answers it scores; nothing where there is one kind of answer only."""
    metric: Metric
    recipe: Json
    """All that the metric is made from, ready for JSON."""

    def outcome_of(self, answered: Answered) -> Outcome:
        """What the metric looks at."""
        scored = answered.made if self.metric.takes == "made" else answered.scored
        return scored.get(self.filter_name, answered.outcome)


def scorings_for(task: Task) -> tuple[Scoring, ...]:
    """Every metric that a task asks for, for every filter.

    Raises:
        UsageError: a metric is unknown, does not fit the outcomes, or an option is wrong.
    """
    return tuple(scoring_of(task, use, name) for name in filter_names(task) for use in task.metrics)


def scoring_of(task: Task, use: MetricUse, filter_name: str) -> Scoring:
    """One metric of the answers that one filter leaves.

    Raises:
        UsageError: as `scorings_for`.
    """
    return Scoring(
        name=f"{use.name},{filter_name}" if filter_name not in ("", DEFAULT_FILTER) else use.name,
        filter_name=filter_name,
        metric=metric_for(task, use),
        recipe={**recipe(task, use), **({"filter": filter_name} if filter_name else {})},
    )


def filter_names(task: Task) -> tuple[str, ...]:
    """The filters that a task's metrics are told apart by; one without a name where there is nothing to tell apart."""
    return tuple(pipeline.name for pipeline in task.filters) if len(task.filters) > 1 else ("",)
