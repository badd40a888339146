"""What a metric is: a row of sufficient statistics for each example, and a value for any sum of such rows.

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
from lmtasks.records import Choice, Floats, Likelihood, Made, Outcome, OutcomeKind, Text

KINDS: Mapping[OutcomeKind, type[Outcome]] = {"choice": Choice, "text": Text, "likelihood": Likelihood, "made": Made}

Scale = Literal["fraction", "points", "raw"]

_O = TypeVar("_O", Choice, Text, Likelihood, Made)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a builder may look at; `table.make_metric` checks it first."""

    language: str = "en"
    labels: tuple[str, ...] = ()
    """Class names of the task, when it has them; empty: the classes are those seen in the data."""
    options: Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class Formula:
    """How a metric computes. Axes: N examples, K columns of statistics."""

    kind: Literal["mean", "ratio-or-corpus"]
    """mean: the mean of a value for each example (column 0 over column 1), so its standard error has a closed form;
    ratio-or-corpus: anything else, whose uncertainty comes from the bootstrap."""
    statistics: Callable[[Sequence[Outcome]], Floats]
    """Outcomes -> (N, K). Sums of rows suffice for the value."""
    aggregate: Callable[[Floats], Floats]
    """(..., K) sums of rows -> (...) values."""
    per_example: Callable[[Floats], Floats]
    """(N, K) -> (N,): a value for each example, for samples files and win/loss counts."""
    signature: str
    """The conditions under which values are comparable: `key:value` pairs joined by `|`."""


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

    return Formula(kind="mean", statistics=statistics, aggregate=_ratio, per_example=_first_column, signature=signature)


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


def _ratio(sums: Floats) -> Floats:
    result: Floats = sums[..., 0] / sums[..., 1]
    return result


def _first_column(statistics: Floats) -> Floats:
    return statistics[:, 0]
