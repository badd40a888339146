"""Metrics: a row of sufficient statistics for each example, and a value for any sum of such rows.

The idea is sacrebleu's (Post 2018, https://aclanthology.org/W18-6319): a corpus, a bootstrap resample and a shuffled
pair of systems are all sums of rows, so one aggregate serves the score, its interval and every paired test.

Accuracy over three examples, two of them right:

>>> accuracy = mean(lambda outcomes: np.array([1.0, 0.0, 1.0]), signature="match:argmax")
>>> rows = accuracy.statistics([])  # (N, K): value, count
>>> rows.tolist()
[[1.0, 1.0], [0.0, 1.0], [1.0, 1.0]]
>>> float(accuracy.aggregate(rows.sum(axis=0))), accuracy.per_example(rows).tolist()
(0.6666666666666666, [1.0, 0.0, 1.0])
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from lmtasks.errors import UsageError, WorkError
from lmtasks.records import (
    Choice,
    CustomValues,
    Floats,
    LabelSet,
    Likelihood,
    Outcome,
    OutcomeKind,
    Quantity,
    Ranks,
    Text,
)

KINDS: Mapping[OutcomeKind, type[Outcome]] = {
    "choice": Choice,
    "text": Text,
    "likelihood": Likelihood,
    "number": Quantity,
    "labels": LabelSet,
    "ranks": Ranks,
    "made": CustomValues,
}

Scale = Literal["fraction", "points", "raw"]

FormulaKind = Literal["mean", "ratio", "sums", "rows"]

Remarks = Callable[[Sequence[Outcome]], Mapping[str, int]]
"""Outcomes -> what a reader must know of their values, as sentences, and of how many outcomes each is true."""

_O = TypeVar("_O", Choice, Text, Likelihood, Quantity, LabelSet, Ranks, CustomValues)


@dataclass(frozen=True, kw_only=True)
class MetricSettings:
    """All that a builder may look at; `table.make_metric` checks it first."""

    language: str = "en"
    labels: tuple[str, ...] = ()
    """Class names or tags of the task, when it has them; empty: the classes are those seen in the data."""
    options: Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A value as a function of column 0 over column 1, whose standard error then has a closed form."""

    value: Callable[[Floats], Floats]
    """Of the ratio; it only rises or only falls."""
    slope: Callable[[Floats], Floats]
    """Its derivative at a ratio."""


IDENTITY = Rate(value=lambda ratio: ratio, slope=np.ones_like)


@dataclass(frozen=True, kw_only=True)
class Formula:
    """The computation of a metric. Axes: N examples, K columns of statistics, R resamples, U distinct rows.

    The statistics of an example do not depend on the examples beside it, and K is the same for all: they may be
    computed chunk by chunk.
    """

    kind: FormulaKind
    """mean: the mean of a value for each example, column 0 over column 1, which is 1;
    ratio: a function of column 0 over column 1; both have standard errors in closed form.
    sums: anything else that sums of rows suffice for;
    rows: what needs the rows themselves (a median, classes that are only seen in the data, a task's own function).
    The uncertainty of the last two comes from the bootstrap."""
    statistics: Callable[[Sequence[Outcome]], Floats]
    """Outcomes -> (N, K). Where a task's own function takes the values, (N, 1) of dtype object."""
    aggregate: Callable[[Floats], Floats]
    """(..., K) sums of rows -> (...) values. For kind rows there is none: use `value_of` and `resampled`."""
    per_example: Callable[[Floats], Floats]
    """(N, K) -> (N,): a value for each example, for samples files and win/loss counts."""
    signature: str
    """The conditions under which values are comparable: `key:value` pairs joined by `|`."""
    rate: Rate | None = None
    """Of mean and ratio."""
    weighted: Callable[[Floats, Floats], Floats] | None = None
    """Of rows: rows (U, K) and how often each counts (R, U) -> (R,) values."""
    original: str = ""
    """lm-evaluation-harness' name for the aggregation; empty where it has none."""
    skewed: bool = False
    """Resamples lie to one side of the value (a distance from zero grows with noise), so their percentiles do not
    enclose it; the interval is the value and 1.96 of their deviation instead."""
    remarks: Remarks | None = None
    """What makes its values mean nothing, where that can be seen in the outcomes."""


@dataclass(frozen=True, kw_only=True)
class Metric(Formula):
    """A formula with its name and direction. `table.make_metric` builds the known ones; any other is passed as such."""

    name: str
    takes: OutcomeKind
    higher_is_better: bool
    scale: Scale


def mean(values: Callable[[Sequence[Outcome]], Floats], *, signature: str) -> Formula:
    """The formula of a metric that is the mean of `values`, (N,), one for each example."""

    def statistics(outcomes: Sequence[Outcome]) -> Floats:
        column = values(outcomes)
        return np.stack([column, np.ones_like(column)], axis=1)

    return Formula(
        kind="mean",
        statistics=statistics,
        aggregate=ratio,
        per_example=first_column,
        signature=signature,
        rate=IDENTITY,
        original="mean",
    )


def mean_over_texts(value: Callable[[Text], float], *, signature: str) -> Formula:
    """The formula of a metric that is the mean of a value of each written text."""
    return mean(lambda outcomes: np.array([value(text) for text in only(Text, outcomes)]), signature=signature)


def of_rows(
    weighted: Callable[[Floats, Floats], Floats],
    *,
    statistics: Callable[[Sequence[Outcome]], Floats],
    per_example: Callable[[Floats], Floats],
    signature: str,
    original: str = "",
    skewed: bool = False,
) -> Formula:
    """The formula of a metric that sums of rows do not suffice for."""
    return Formula(
        kind="rows",
        statistics=statistics,
        aggregate=_not_of_sums,
        per_example=per_example,
        signature=signature,
        weighted=weighted,
        original=original,
        skewed=skewed,
    )


def value_of(formula: Formula, statistics: Floats) -> float:
    """The value over all examples, (N, K)."""
    if formula.weighted is None:
        return float(formula.aggregate(statistics.sum(axis=0)))
    return float(formula.weighted(statistics, np.ones((1, len(statistics))))[0])


def resampled(formula: Formula, rows: Floats, weights: Floats) -> Floats:
    """Values of R resamples in which each of the rows, (U, K), counts as often as `weights`, (R, U), says."""
    if formula.weighted is None:
        return formula.aggregate(weights @ rows)
    return formula.weighted(rows, weights)


def concatenate(metric: Formula, parts: Sequence[Floats]) -> Floats:
    """Statistics of chunks, in order -> statistics of them all.

    Raises:
        WorkError: there are no chunks, or they are not of one metric.
    """
    widths = {part.shape[1] for part in parts}
    if len(widths) != 1:
        raise WorkError(f"statistics of {sorted(widths)} columns do not belong to one metric ({metric.signature}).")
    return np.concatenate(parts)


def only(kind: type[_O], outcomes: Sequence[Outcome]) -> list[_O]:
    """The outcomes, all of which must be of one kind. This is the one check at the border of every metric.

    Raises:
        UsageError: an outcome is of another kind.
        WorkError: there are none.
    """
    if not outcomes:
        raise WorkError("there are no examples to score; check the split's name and --limit.")
    found = [outcome for outcome in outcomes if isinstance(outcome, kind)]
    if len(found) != len(outcomes):
        others = sorted({type(outcome).__name__ for outcome in outcomes} - {kind.__name__})
        raise UsageError(f"this metric scores {kind.__name__} outcomes, was given {', '.join(others)}.")
    return found


def references(text: Text) -> tuple[str, ...]:
    """The right answers; a question without an answer is answered rightly by the empty text."""
    return text.references or ("",)


def ratio(sums: Floats) -> Floats:
    """Column 0 over column 1; not a number where nothing was counted."""
    with np.errstate(invalid="ignore"):
        result: Floats = sums[..., 0] / sums[..., 1]
    return result


def first_column(statistics: Floats) -> Floats:
    """(N, K) -> (N,)."""
    return statistics[:, 0]


def _not_of_sums(sums: Floats) -> Floats:
    raise WorkError("this metric is no function of sums; call value_of or resampled.")
