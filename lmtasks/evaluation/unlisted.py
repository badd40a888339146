"""Values that a task's own code makes of an answer and no metric of the task names.

lm-evaluation-harness 0.4.13 takes the mean of each, and is silent about them where they are numbers; of what is no
number it has no mean and ends in an error. Here the mean is scored too, what is no number is left out, and both are
said. A metric that the code makes no value of is left out there as here.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from lmtasks.errors import WorkError
from lmtasks.evaluation.pending import Finished
from lmtasks.evaluation.scoring import Scoring, scoring_of
from lmtasks.metric import Metric
from lmtasks.metric.custom_aggregations import is_number, present
from lmtasks.records import CustomValues, Floats
from lmtasks.task.task import MetricUse, Task

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, order=True)
class ValueName:
    """What a value is known by."""

    name: str
    filter_name: str
    maker: str = ""
    """The metric whose own function made it under another name."""


@dataclass(kw_only=True)
class Unlisted:
    """The values of one task that no metric names, as they come up."""

    task: Task
    scored: list[ValueName] = field(default_factory=list)
    _seen: set[tuple[str, str]] = field(default_factory=set)

    def new_scorings(self, finished: Sequence[Finished], *, listed: Sequence[Scoring]) -> list[Scoring]:
        """Of the numbers among the values that come up for the first time."""
        self._seen |= {(each.metric.name, each.filter_name) for each in listed}
        numbers: list[ValueName] = []
        others: list[ValueName] = []
        for place, value in _values(finished):
            if (place.name, place.filter_name) not in self._seen:
                self._seen.add((place.name, place.filter_name))
                (numbers if place.maker or is_number(value) else others).append(place)
        self._tell(
            [place for place in numbers if not place.maker], "; their means are scored too, as in lm-evaluation-harness"
        )
        self._tell(others, " and which are no numbers; they are left out")
        return [self.scoring(place) for place in numbers]

    def scoring(self, place: ValueName) -> Scoring:
        """The mean of a value; of one that a metric's own function made, what aggregates that metric."""
        self._seen.add((place.name, place.filter_name))
        self.scored.append(place)
        maker = next((use for use in self.task.metrics if use.name == place.maker), None)
        use = MetricUse(name=place.name, aggregation="mean") if maker is None else replace(maker, name=place.name)
        return scoring_of(self.task, use, place.filter_name)

    def _tell(self, places: Sequence[ValueName], what: str) -> None:
        if places:
            names = ", ".join(dict.fromkeys(place.name for place in places))
            log.warning("task %s: its code makes %s, which no metric of it names%s", self.task.name, names, what)


def without_value(metric: Metric, count: int) -> Floats:
    """(count, K) statistics of examples for which the code made no value."""
    return metric.statistics([CustomValues(values={})] * count)


def with_values(
    scorings: Sequence[Scoring], statistics: Mapping[str, Floats], *, unlisted: Sequence[ValueName]
) -> tuple[list[Scoring], dict[str, str]]:
    """The scorings of which some example has a value; and the other ones' names, each with the reason as a sentence.

    Raises:
        WorkError: the task's own code made no value of any.
    """
    made = [scoring for scoring in scorings if scoring.metric.takes == "made" and len(statistics[scoring.name])]
    missing = [scoring.name for scoring in made if not present(statistics[scoring.name]).any()]
    if not missing:
        return list(scorings), {}
    makers = {(place.maker, place.filter_name) for place in unlisted}
    renamed = [each.name for each in scorings if (each.metric.name, each.filter_name) in makers]
    sentence = f"the task's own code makes no value of {', '.join(missing)}"
    if len(missing) == len(scorings):
        raise WorkError(f"{sentence}, so there is nothing to score.")
    kept = [scoring for scoring in scorings if scoring.name not in missing]
    said = [name for name in missing if name not in renamed]
    return kept, dict.fromkeys(said, f"the task's own code makes no value of {', '.join(said)}; it is left out.")


def _values(finished: Sequence[Finished]) -> Iterator[tuple[ValueName, object]]:
    for each in finished:
        for filter_name, made in each.answered.made.items():
            for name, value in made.values.items():
                yield ValueName(name=name, filter_name=filter_name, maker=made.makers.get(name, "")), value
