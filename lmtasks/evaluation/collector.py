"""Statistics of each example, collected while a task's answers stream by; nothing else of them is kept.

Values that a task's own code makes of an answer, and that no metric of the task names: lm-evaluation-harness 0.4.13
takes the mean of each, and is silent about them where they are numbers; of what is no number it has no mean and ends in
an error. Here the mean is scored too, what is no number is left out, and both are said. A metric that the code makes no
value of is left out there as here.

Axes: N examples, K columns of statistics.
"""

import logging
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from sys import intern

import numpy as np

from lmtasks.data.row_hashes import RowHashes
from lmtasks.errors import LmtasksError, UsageError, WorkError
from lmtasks.evaluation.protocols import Finished
from lmtasks.evaluation.samples import Samples, sample_of
from lmtasks.evaluation.scoring import Coding, TaskMetric, count_coding, is_of_text, scoring_of
from lmtasks.metric import Metric
from lmtasks.metric.base import concatenate
from lmtasks.metric.choice import answers
from lmtasks.metric.custom_aggregations import is_number, present
from lmtasks.records import Choice, CustomValues, Floats, Ints, Json, Likelihood, Outcome, Row, Text
from lmtasks.results.base import plain
from lmtasks.results.scores import LabelCount
from lmtasks.task.task import MetricUse, Task

HAS_ANSWER = "with an answer"
NO_ANSWER = "without an answer"
NEVER = LabelCount(true=0, answered=0, right=0)
SYSTEM_DROPPED = "the chat template drops the system turn: the model did not read it"

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, order=True)
class ValueName:
    """The names that identify a value."""

    name: str
    filter_name: str
    maker: str = ""
    """The metric whose own function made it under another name."""


@dataclass(kw_only=True)
class UnlistedValues:
    """The values of one task that no metric names, as they come up."""

    task: Task
    scored: list[ValueName] = field(default_factory=list)
    _seen: set[tuple[str, str]] = field(default_factory=set)

    def new_scorings(self, finished: Sequence[Finished], *, listed: Sequence[TaskMetric]) -> list[TaskMetric]:
        """Scorings of the numbers that come up for the first time."""
        self._seen |= {(each.metric.name, each.filter_name) for each in listed}
        numbers: list[ValueName] = []
        others: list[ValueName] = []
        for place, value in _values(finished):
            if (place.name, place.filter_name) not in self._seen:
                self._seen.add((place.name, place.filter_name))
                (numbers if place.maker or is_number(value) else others).append(place)
        self._warn(
            [place for place in numbers if not place.maker], "; their means are scored too, as in lm-evaluation-harness"
        )
        self._warn(others, " and which are no numbers; they are left out")
        return [self.scoring(place) for place in numbers]

    def scoring(self, place: ValueName) -> TaskMetric:
        """The mean of a value; of one that a metric's own function made, what aggregates that metric."""
        self._seen.add((place.name, place.filter_name))
        self.scored.append(place)
        maker = next((use for use in self.task.metrics if use.name == place.maker), None)
        use = MetricUse(name=place.name, aggregation="mean") if maker is None else replace(maker, name=place.name)
        return scoring_of(self.task, use, place.filter_name)

    def _warn(self, places: Sequence[ValueName], what: str) -> None:
        if places:
            names = ", ".join(dict.fromkeys(place.name for place in places))
            log.warning("task %s: its code makes %s, which no metric of it names%s", self.task.name, names, what)


def without_value(metric: Metric, count: int) -> Floats:
    """(count, K) statistics of examples for which the code made no value."""
    return metric.statistics([CustomValues(values={})] * count)


def with_values(
    scorings: Sequence[TaskMetric], statistics: Mapping[str, Floats], *, unlisted: Sequence[ValueName]
) -> tuple[list[TaskMetric], dict[str, str]]:
    """The scorings of which some example has a value; and the other ones' names, each with the reason as a sentence.

    Raises:
        WorkError: the task's own code made no value of any.
    """
    counted, uncounted = [], {}
    for scoring in scorings:
        rows = statistics[scoring.name]
        if scoring.metric.kind == "ratio" and len(rows) and not rows[:, 1].any():
            uncounted[scoring.name] = f"no scored row is one that {scoring.name} counts, so there is no value of it."
        else:
            counted.append(scoring)
    if uncounted and not counted:
        raise WorkError(next(iter(uncounted.values())))
    kept, valueless = _with_made_values(counted, statistics, unlisted=unlisted)
    return kept, {**uncounted, **valueless}


def _with_made_values(
    scorings: Sequence[TaskMetric], statistics: Mapping[str, Floats], *, unlisted: Sequence[ValueName]
) -> tuple[list[TaskMetric], dict[str, str]]:
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
    without = [name for name in missing if name not in renamed]
    return kept, dict.fromkeys(without, f"the task's own code makes no value of {', '.join(without)}; it is left out.")


def _values(finished: Sequence[Finished]) -> Iterator[tuple[ValueName, object]]:
    for each in finished:
        for filter_name, made in each.answered.made.items():
            for name, value in made.values.items():
                yield ValueName(name=name, filter_name=filter_name, maker=made.makers.get(name, "")), value


@dataclass(kw_only=True)
class PartsCounter:
    """Counts what a mean over all rows hides: questions with and without an answer, and labels that nobody is given.

    Args:
        labels: of the task; empty: it has none.
    """

    labels: tuple[str, ...]
    parts: list[str] = field(default_factory=list)
    """Of each example that a text answers."""
    pairs: Counter[tuple[int | None, int]] = field(default_factory=Counter)
    """How often one label was right and another one answered."""

    def take(self, outcomes: Sequence[Outcome]) -> None:
        """Count some answers."""
        texts = [each for each in outcomes if isinstance(each, Text)]
        self.parts += [HAS_ANSWER if each.references else NO_ANSWER for each in texts]
        choices = [each for each in outcomes if isinstance(each, Choice) and len(each.scores) == len(self.labels) > 0]
        self.pairs.update(
            (answer if answer in choice.gold else next(iter(choice.gold), None), answer)
            for answer, choice in zip(answers(choices).tolist() if choices else (), choices, strict=True)
        )

    def label_counts(self) -> Mapping[str, LabelCount]:
        """Each label that is right or answered somewhere."""
        true, answered, right = Counter[int](), Counter[int](), Counter[int]()
        for (gold, answer), count in self.pairs.items():
            answered[answer] += count
            if gold is not None:
                true[gold] += count
            right[answer] += count if gold == answer else 0
        return {
            label: LabelCount(true=true[place], answered=answered[place], right=right[place])
            for place, label in enumerate(self.labels)
            if true[place] or answered[place]
        }


@dataclass(frozen=True, kw_only=True)
class CollectedStatistics:
    """A task's answers, reduced; in the order of `doc_ids`."""

    doc_ids: Ints
    """(N,)"""
    statistics: Mapping[str, Floats]
    """Metric to (N, K)."""
    clusters: tuple[str, ...] | None
    """(N,) which examples belong together."""
    truncated: int
    """Examples of which something was cut off to fit the model."""
    coding: Coding = field(default_factory=Coding)
    """Of texts whose probability was asked for."""
    remarks: Mapping[str, int] = field(default_factory=dict)
    """What a reader must know of the values, and of how many examples it is true."""
    unlisted: tuple[ValueName, ...] = ()
    """Values that the task's own code made and no metric names."""
    parts: tuple[str, ...] | None = None
    """(N,) the part of the rows that an example is of; None: nobody asked."""
    labels: Mapping[str, LabelCount] = field(default_factory=dict)
    hashes: RowHashes | None = None
    """(N,) of the rows; None: nobody asked, or a row has no text that it could be told by."""

    @property
    def mixed_parts(self) -> tuple[str, ...] | None:
        """The parts, where examples are of more than one."""
        return self.parts if self.parts is not None and len(set(self.parts)) > 1 else None


@dataclass(kw_only=True)
class StatisticsCollector:
    """Collects the answers of one task.

    Args:
        cluster: the column whose equal values belong together.
        samples: gets each example with its values.
        parts: counts what is asked about parts of the rows and about labels; None: nobody asks.
        unlisted: values that no metric names are scored too, and their scorings added; None: they are not.
        identify: (the row, its target) as numbers, see `data.row_hashes`; None: rows need not be told apart.
    """

    task: str
    scorings: list[TaskMetric]
    cluster: str | None
    samples: Samples
    identify: Callable[[Row], tuple[int, int]] | None = None
    unlisted: UnlistedValues | None = None
    parts: PartsCounter | None = None
    _doc_ids: list[Ints] = field(default_factory=list)
    _statistics: dict[str, list[Floats]] = field(default_factory=dict)
    _clusters: list[str] = field(default_factory=list)
    _truncated: int = 0
    _coding: Coding = field(default_factory=Coding)
    _remarks: Counter[str] = field(default_factory=Counter)
    _row_hashes: "array[int]" = field(default_factory=lambda: array("Q"))
    _target_hashes: "array[int]" = field(default_factory=lambda: array("Q"))

    def take(self, finished: Sequence[Finished]) -> None:
        """Count some answers.

        Raises:
            UsageError: a metric does not fit the outcomes, or a row lacks the cluster's column.
            WorkError: a metric has no value for an outcome.
        """
        for scoring in self.unlisted.new_scorings(finished, listed=self.scorings) if self.unlisted else ():
            self._add(scoring)
        outcomes = {scoring.name: [scoring.outcome_of(each.answered) for each in finished] for scoring in self.scorings}
        found = {scoring.name: scoring.metric.statistics(outcomes[scoring.name]) for scoring in self.scorings}
        self._doc_ids.append(np.array([each.example.doc_id for each in finished], dtype=np.int64))
        for name, table in found.items():
            self._statistics.setdefault(name, []).append(table)
        if self.cluster is not None:
            self._clusters += [_cluster(each.example.row, self.cluster, task=self.task) for each in finished]
        self._truncated += sum(each.truncated for each in finished)
        self._coding += count_coding(finished)
        self._remarks.update(remark for each in finished for remark in each.remarks)
        remarks: Counter[str] = Counter()
        for scoring in self.scorings:  # several may say the same
            remarks |= Counter(scoring.metric.remarks(outcomes[scoring.name]) if scoring.metric.remarks else {})
        self._remarks += remarks
        self._identify(finished)
        if self.parts is not None:
            self.parts.take([each.answered.outcome for each in finished])
        values = {scoring.name: scoring.metric.per_example(found[scoring.name]).tolist() for scoring in self.scorings}
        self.samples.add(
            self.task,
            [
                sample_of(each, {name: values[name][place] for name in self._valued(each)})
                for place, each in enumerate(finished)
            ],
        )

    def _identify(self, finished: Sequence[Finished]) -> None:
        if self.identify is None:
            return
        try:
            for each in finished:
                row, target = self.identify(each.example.row)
                self._row_hashes.append(row)
                self._target_hashes.append(target)
        except LmtasksError:
            self.identify = None  # a row that can be scored need not say what is right

    def add_unlisted(self, places: Sequence[ValueName]) -> None:
        """Score values that another process came upon."""
        for place in places:
            if self.unlisted is not None and place not in self.unlisted.scored:
                self._add(self.unlisted.scoring(place))

    def _add(self, scoring: TaskMetric) -> None:
        """Examples before have no value of it."""
        self.scorings.append(scoring)
        before = sum(map(len, self._doc_ids))
        self._statistics[scoring.name] = [without_value(scoring.metric, before)] if before else []

    def _valued(self, finished: Finished) -> list[str]:
        """The metrics that this example has a value of."""
        outcome = finished.answered.outcome
        whole = not isinstance(outcome, Likelihood) or outcome.is_coded
        return [scoring.name for scoring in self.scorings if whole or not is_of_text(scoring)]

    def result(self) -> CollectedStatistics:
        """Everything so far.

        Raises:
            WorkError: a metric's statistics changed their width on the way.
        """
        return CollectedStatistics(
            doc_ids=np.concatenate([np.zeros(0, dtype=np.int64), *self._doc_ids]),
            statistics={
                scoring.name: _joined(scoring.metric, self._statistics.get(scoring.name, []))
                for scoring in self.scorings
            },
            clusters=tuple(self._clusters) if self.cluster is not None else None,
            truncated=self._truncated,
            coding=self._coding,
            remarks=dict(self._remarks),
            unlisted=() if self.unlisted is None else tuple(self.unlisted.scored),
            parts=tuple(self.parts.parts) if self.parts is not None and self.parts.parts else None,
            labels={} if self.parts is None else self.parts.label_counts(),
            hashes=None
            if self.identify is None
            else RowHashes(
                rows=np.array(self._row_hashes, dtype=np.uint64), targets=np.array(self._target_hashes, dtype=np.uint64)
            ),
        )


def merge(parts: Sequence[CollectedStatistics], *, scorings: Sequence[TaskMetric]) -> CollectedStatistics:
    """The tallies of several processes as that of one would be: in the order of the examples."""
    doc_ids = np.concatenate([part.doc_ids for part in parts])
    order = np.argsort(doc_ids, kind="stable")
    clusters = list(chain.from_iterable(part.clusters or () for part in parts))
    filled = [part for part in parts if len(part.doc_ids)]
    hashes = [part.hashes for part in parts if part.hashes is not None]
    of_rows = list(chain.from_iterable(part.parts or () for part in parts))
    labels: dict[str, LabelCount] = {}
    for name, count in chain.from_iterable(part.labels.items() for part in parts):
        labels[name] = _added(labels.get(name, NEVER), count)
    return CollectedStatistics(
        doc_ids=doc_ids[order],
        statistics={
            scoring.name: _joined(scoring.metric, [_of_part(part, scoring) for part in filled])[order]
            for scoring in scorings
        },
        clusters=None if parts[0].clusters is None else tuple(clusters[place] for place in order.tolist()),
        truncated=sum(part.truncated for part in parts),
        coding=sum((part.coding for part in parts), Coding()),
        remarks=dict(sum((Counter(part.remarks) for part in parts), Counter())),
        parts=tuple(of_rows[place] for place in order.tolist()) if len(of_rows) == len(order) else None,
        labels=labels,
        hashes=RowHashes(
            rows=np.concatenate([part.rows for part in hashes])[order],
            targets=np.concatenate([part.targets for part in hashes])[order],
        )
        if len(hashes) == len(parts)
        else None,
    )


def notes_of(collected: CollectedStatistics, conditions: Json) -> tuple[str, ...]:
    """The remarks as sentences, with the number of examples where it is not all of them; those of the chat first."""
    n = len(collected.doc_ids)
    chat = conditions.get("chat")
    dropped = chat.get("system_dropped") if isinstance(chat, Mapping) else None
    remarks = {**({SYSTEM_DROPPED: int(str(dropped))} if dropped else {}), **collected.remarks}
    return tuple(
        f"{remark}." if count == n else f"{remark} (true of {count} of {n} examples)."
        for remark, count in remarks.items()
    )


def _added(one: LabelCount, other: LabelCount) -> LabelCount:
    return LabelCount(true=one.true + other.true, answered=one.answered + other.answered, right=one.right + other.right)


def _of_part(part: CollectedStatistics, scoring: TaskMetric) -> Floats:
    found = part.statistics.get(scoring.name)
    return without_value(scoring.metric, len(part.doc_ids)) if found is None else found


def _joined(metric: Metric, tables: Sequence[Floats]) -> Floats:
    return concatenate(metric, tables) if tables else np.zeros((0, 0))


def _cluster(row: Row, column: str, *, task: str) -> str:
    if column not in row:
        raise UsageError(f"task {task}: its cluster column {column!r} is not in the data. Columns: {', '.join(row)}.")
    return intern(str(plain(row[column])))  # many rows have the same one
