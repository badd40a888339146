"""Metrics of classification: `f1`, `macro_f1`, `micro_f1`, `weighted_f1`, `mcc`.

The statistics of an example are two numbers, the true class and the answered one, so they need no list of classes. For
each class that is seen, three sums suffice: how often it was answered rightly (tp), answered, and true. With them

    F1 of a class   2 tp / (answered + true), 0 where tp is 0
    MCC             (c n - sum answered true) / sqrt((n^2 - sum answered^2) (n^2 - sum true^2)),  c = sum of tp
                    (Gorodkin 2004, https://doi.org/10.1016/j.compbiolchem.2004.09.006)

which are scikit-learn's f1_score and matthews_corrcoef, over many resamples at once. scikit-learn's own functions take
labels, not counts: a thousand resamples through them would take minutes where this takes milliseconds.

Answers 0 1 1 to the truth 0 1 0: class 0 has tp 1, answered 1, true 2, F1 2/3; class 1 has F1 2/3; MCC is 1/2.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from lmtasks.errors import UsageError
from lmtasks.metric.base import Formula, MetricSettings, of_rows, only
from lmtasks.metric.choice import NOTHING, answers
from lmtasks.records import Choice, Floats, Outcome

POSITIVE = 1
"""The label that binary F1 is about, as in scikit-learn and lm-evaluation-harness."""

OUTSIDE = -1
"""The class of a truth that is not among the choices: nobody answers it. `NOTHING` is the answer that is none of them:
nothing is ever of that class."""

Average = Callable[[Floats, Floats, Floats], Floats]
"""tp, answered, true, each (R, C) -> (R,) values."""

F1_SIGNATURE = f"average:binary|positive:{POSITIVE}|zero_division:0"
MCC_SIGNATURE = "mcc:gorodkin|undefined:0"


def binary_f1(settings: MetricSettings) -> Formula:
    """`f1`: F1 of label 1 where two are seen.

    With the option `average` (macro, micro, weighted) it is that average over all classes; with `multiclass` F1 of
    label 1 where it is defined, else that average.

    Raises:
        UsageError: an option has another value, or there are more than two labels and no average.
    """
    average, multiclass = (_average_of(settings, option) for option in F1_OPTIONS)
    if average:
        return AVERAGED[average](settings)
    signature = F1_SIGNATURE
    weighted: Callable[[Floats, Floats], Floats] = positive_f1
    if multiclass:
        weighted, signature = _binary_or(_averaged(AVERAGES[multiclass])), f"{F1_SIGNATURE}|multiclass:{multiclass}"
    elif settings.labels:
        _refuse_more_than_two(len(settings.labels))

    def statistics(outcomes: Sequence[Outcome]) -> Floats:
        pairs = _pairs(settings, only(Choice, outcomes))
        labels = _answerable(pairs)
        if not multiclass and OUTSIDE not in labels:
            _refuse_more_than_two(len(labels))  # now, and not once all is answered
        return pairs

    return of_rows(weighted, statistics=statistics, per_example=right, signature=signature, original="f1")


def macro_f1(settings: MetricSettings) -> Formula:
    """`macro_f1`: the mean of the F1 of every class that is true or answered somewhere."""
    return _formula(
        settings, _averaged(_macro, of_classes=True), signature="average:macro|classes:seen|zero_division:0"
    )


def micro_f1(settings: MetricSettings) -> Formula:
    """`micro_f1`: F1 of the sums over all classes. With one answer to each example it equals the accuracy."""
    return _formula(settings, _averaged(_micro), signature="average:micro|zero_division:0")


def weighted_f1(settings: MetricSettings) -> Formula:
    """`weighted_f1`: the mean of the F1 of every class, weighted by how often it is true."""
    return _formula(settings, _averaged(_weighted), signature="average:weighted|zero_division:0")


def matthews(settings: MetricSettings) -> Formula:
    """`mcc`: Matthews' correlation coefficient of answers and truth, -1 to 1; 0 where it is not defined."""
    return _formula(settings, correlation, signature=MCC_SIGNATURE, original="matthews_corrcoef")


def positive_f1(rows: Floats, weights: Floats) -> Floats:
    """F1 of label 1: pairs (U, 2) of truth and answer, how often each counts (R, U) -> (R,).

    Raises:
        UsageError: there are more than two labels, or two of which none is 1.
    """
    _refuse_other_labels(_answerable(rows))
    positive = rows == POSITIVE
    hits, answered, true = (weights @ part for part in (positive.all(axis=1), positive[:, 1], positive[:, 0]))
    return _f1(hits, answered, true)


def correlation(rows: Floats, weights: Floats) -> Floats:
    """Matthews' correlation: pairs (U, 2) of truth and answer, how often each counts (R, U) -> (R,)."""
    return _averaged(_correlation)(rows, weights)


def right(statistics: Floats) -> Floats:
    """Equality of truth and answer, (N, 2) -> (N,)."""
    result: Floats = (statistics[:, 0] == statistics[:, 1]).astype(np.float64)
    return result


def _answerable(pairs: Floats) -> Floats:
    """The different classes of some pairs, but for the answer that is none of them."""
    found = np.unique(pairs)
    answerable: Floats = found[found != NOTHING]
    return answerable


def _formula(
    settings: MetricSettings, weighted: Callable[[Floats, Floats], Floats], *, signature: str, original: str = ""
) -> Formula:
    def statistics(outcomes: Sequence[Outcome]) -> Floats:
        return _pairs(settings, only(Choice, outcomes))

    return of_rows(weighted, statistics=statistics, per_example=right, signature=signature, original=original)


def _pairs(settings: MetricSettings, choices: Sequence[Choice]) -> Floats:
    """(N, 2): the true class and the answered one.

    Where several classes are right, the truth is the answer if it is among them, else the first.
    """
    most = max(len(choice.scores) for choice in choices)
    if settings.labels and most > len(settings.labels):
        raise UsageError(f"an example has {most} choices, but the task has {len(settings.labels)} labels.")
    answered = answers(choices).tolist()
    table = np.empty((len(choices), 2))
    for row, (answer, choice) in enumerate(zip(answered, choices, strict=True)):
        gold = answer if answer in choice.gold else next(iter(choice.gold), OUTSIDE)
        table[row] = gold if 0 <= gold < len(settings.labels or choice.scores) else OUTSIDE, answer
    return table


def _averaged(average: Average, *, of_classes: bool = False) -> Callable[[Floats, Floats], Floats]:
    """An average over classes as a function of weighted pairs.

    Args:
        of_classes: does it count classes, so that the answer that is none of them must be none?
    """

    def weighted(rows: Floats, weights: Floats) -> Floats:
        labels, codes = np.unique(rows, return_inverse=True)
        true, answered = codes.reshape(rows.shape).T
        table = np.zeros((len(rows), 3, len(labels)))
        places = np.arange(len(rows))
        table[places, 0, answered] = answered == true
        table[places, 1, answered] = labels[answered] != NOTHING if of_classes else 1.0
        table[places, 2, true] = 1.0
        sums = (weights @ table.reshape(len(rows), -1)).reshape(len(weights), 3, -1)
        return average(sums[:, 0], sums[:, 1], sums[:, 2])

    return weighted


def _f1(hits: Floats, answered: Floats, true: Floats) -> Floats:
    seen = answered + true
    return np.divide(2 * hits, seen, out=np.zeros_like(seen), where=seen > 0)


def _macro(hits: Floats, answered: Floats, true: Floats) -> Floats:
    result: Floats = _f1(hits, answered, true).sum(axis=-1) / np.maximum((answered + true > 0).sum(axis=-1), 1)
    return result


def _micro(hits: Floats, answered: Floats, true: Floats) -> Floats:
    return _f1(hits.sum(axis=-1), answered.sum(axis=-1), true.sum(axis=-1))


def _weighted(hits: Floats, answered: Floats, true: Floats) -> Floats:
    result: Floats = (_f1(hits, answered, true) * true).sum(axis=-1) / true.sum(axis=-1)
    return result


def _correlation(hits: Floats, answered: Floats, true: Floats) -> Floats:
    n = true.sum(axis=-1)
    covariance = hits.sum(axis=-1) * n - (answered * true).sum(axis=-1)
    spread = (n**2 - (answered**2).sum(axis=-1)) * (n**2 - (true**2).sum(axis=-1))
    result: Floats = np.divide(covariance, np.sqrt(spread), out=np.zeros_like(n), where=spread > 0)
    return result


def _binary_or(average: Callable[[Floats, Floats], Floats]) -> Callable[[Floats, Floats], Floats]:
    """F1 of label 1 where scikit-learn has one, else an average."""

    def weighted(rows: Floats, weights: Floats) -> Floats:
        labels = _answerable(rows)
        binary = len(labels) < 2 or (len(labels) == 2 and POSITIVE in labels)
        return (positive_f1 if binary else average)(rows, weights)

    return weighted


def _average_of(settings: MetricSettings, option: str) -> str:
    given = settings.options.get(option)
    if given is None:
        return ""
    if given not in AVERAGES:
        raise UsageError(f"f1: {option} must be {', '.join(AVERAGES)}, was: {given!r}.")
    return str(given)


def _refuse_other_labels(labels: Floats) -> None:
    if OUTSIDE not in labels:
        _refuse_more_than_two(len(labels))
    if len(labels) == 2 and POSITIVE not in labels:
        raise UsageError(
            f"f1 is about label {POSITIVE}, and neither of the two labels that are seen is that; use macro_f1 (or mcc, "
            "or acc)."
        )


def _refuse_more_than_two(classes: int) -> None:
    if classes > 2:
        raise UsageError(
            f"f1 is about two labels, this task has {classes}, an error in lm-evaluation-harness 0.4.13 too; "
            "give it average: macro (or micro, weighted), or use macro_f1 (or mcc, or acc)."
        )


AVERAGES: Mapping[str, Average] = {"macro": _macro, "micro": _micro, "weighted": _weighted}
"""Averages of `f1`, by scikit-learn's names."""
AVERAGED: Mapping[str, Callable[[MetricSettings], Formula]] = {
    "macro": macro_f1,
    "micro": micro_f1,
    "weighted": weighted_f1,
}
F1_OPTIONS = ("average", "multiclass")
