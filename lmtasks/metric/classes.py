"""Metrics of classification from counts of each class: `f1`, `macro_f1`, `mcc`.

For each class, three sums suffice: how often it was answered rightly (tp), answered, and true. With them

    F1 of a class   2 tp / (answered + true), 0 where tp is 0
    MCC             (c n - sum answered true) / sqrt((n^2 - sum answered^2) (n^2 - sum true^2)),  c = sum of tp
                    (Gorodkin 2004, https://doi.org/10.1016/j.compbiolchem.2004.09.006)

which are scikit-learn's f1_score and matthews_corrcoef, over many resamples at once. scikit-learn's own functions take
labels, not counts: a thousand resamples through them would take minutes where this takes milliseconds.
"""

from collections.abc import Callable, Sequence

import numpy as np

from lmtasks.errors import UsageError
from lmtasks.metric.base import Formula, Settings, only
from lmtasks.metric.choice import answers
from lmtasks.records import Choice, Floats, Outcome

POSITIVE = 1
"""The label that binary F1 is about, as in scikit-learn and lm-evaluation-harness."""


def binary_f1(settings: Settings) -> Formula:
    """`f1`: F1 of label 1 where there are two."""
    if settings.labels:
        _refuse_more_than_two(len(settings.labels))
    signature = f"average:binary|positive:{POSITIVE}|zero_division:0"
    return _formula(settings, _positive_f1, signature=signature, binary=True)


def macro_f1(settings: Settings) -> Formula:
    """`macro_f1`: the mean of the F1 of every class that is true or answered somewhere."""
    return _formula(settings, _mean_f1, signature="average:macro|classes:seen|zero_division:0")


def matthews(settings: Settings) -> Formula:
    """`mcc`: Matthews' correlation coefficient of answers and truth, -1 to 1; 0 where it is not defined."""
    return _formula(settings, _correlation, signature="mcc:gorodkin|undefined:0")


def _formula(
    settings: Settings, aggregate: Callable[[Floats], Floats], *, signature: str, binary: bool = False
) -> Formula:
    def statistics(outcomes: Sequence[Outcome]) -> Floats:
        choices = only(Choice, outcomes)
        seen = max(len(choice.scores) for choice in choices)
        if binary:
            _refuse_more_than_two(seen)
        if settings.labels and seen > len(settings.labels):
            raise UsageError(f"an example has {seen} choices, but the task has {len(settings.labels)} labels.")
        return _counts(choices, classes=2 if binary else len(settings.labels) or seen)

    return Formula(
        kind="ratio-or-corpus", statistics=statistics, aggregate=aggregate, per_example=_right, signature=signature
    )


def _counts(choices: Sequence[Choice], *, classes: int) -> Floats:
    """(N, 3 * (C + 1)): tp, answered, true, each over the classes and one more for a truth outside them.

    Where several classes are right, the truth is the answer if it is among them, else the first.
    """
    answered = answers(choices)
    true = np.full(len(choices), classes)
    for row, (answer, choice) in enumerate(zip(answered.tolist(), choices, strict=True)):
        gold = answer if answer in choice.gold else next(iter(choice.gold), classes)
        if 0 <= gold < classes:
            true[row] = gold
    table = np.zeros((len(choices), 3, classes + 1))
    rows = np.arange(len(choices))
    table[rows, 0, answered] = answered == true
    table[rows, 1, answered] = 1.0
    table[rows, 2, true] = 1.0
    return table.reshape(len(choices), -1)


def _split(sums: Floats) -> tuple[Floats, Floats, Floats]:
    """(..., 3 * (C + 1)) -> tp, answered, true, each (..., C + 1)."""
    table = sums.reshape(*sums.shape[:-1], 3, -1)
    return table[..., 0, :], table[..., 1, :], table[..., 2, :]


def _f1(sums: Floats) -> tuple[Floats, Floats]:
    """F1 of each class, and how often it was seen: (..., C + 1) both."""
    hits, answered, true = _split(sums)
    seen = answered + true
    return np.divide(2 * hits, seen, out=np.zeros_like(seen), where=seen > 0), seen


def _positive_f1(sums: Floats) -> Floats:
    scores, _ = _f1(sums)
    return scores[..., POSITIVE]


def _mean_f1(sums: Floats) -> Floats:
    scores, seen = _f1(sums)
    result: Floats = scores.sum(axis=-1) / np.maximum((seen > 0).sum(axis=-1), 1)
    return result


def _correlation(sums: Floats) -> Floats:
    hits, answered, true = _split(sums)
    n = true.sum(axis=-1)
    covariance = hits.sum(axis=-1) * n - (answered * true).sum(axis=-1)
    spread = (n**2 - (answered**2).sum(axis=-1)) * (n**2 - (true**2).sum(axis=-1))
    result: Floats = np.divide(covariance, np.sqrt(spread), out=np.zeros_like(n), where=spread > 0)
    return result


def _right(statistics: Floats) -> Floats:
    hits, _, _ = _split(statistics)
    result: Floats = hits.sum(axis=-1)
    return result


def _refuse_more_than_two(classes: int) -> None:
    if classes > 2:
        raise UsageError(f"f1 is about two labels, this task has {classes}; use macro_f1 (or mcc, or acc).")
