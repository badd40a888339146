"""Metrics of sets of labels: `micro_f1`, `macro_f1`, `lrap`, `subset_acc`, as scikit-learn has them of two tables of
zeros and ones (`f1_score`, `accuracy_score`) and of a table of scores (`label_ranking_average_precision_score`).

A label is answered where its log-odds are above 0. With C labels the statistics of an example are three rows of C: is
the label answered rightly, answered, true. F1 of a label is 2 tp / (answered + true), and 0 where it is neither
answered nor true; the macro average is over all labels of the task, seen or not.

lrap of an example: for each true label, of the labels that score as high or higher the share that is true; the mean of
these. It is 1 where no label is true, or all are.

Scores 2, 1, -1 with the labels 0 and 2 true: label 0 ranks first (1 of 1), label 2 third (2 of 3), lrap 5/6; labels 0
and 1 are answered, one of them rightly: F1 of the example 1/2.
"""

from collections.abc import Sequence

import numpy as np

from lmtasks.errors import WorkError
from lmtasks.metric.base import Formula, MetricSettings, mean, only
from lmtasks.records import Bools, Floats, LabelSet, Outcome


def micro_f1(settings: MetricSettings) -> Formula:
    """`micro_f1`: F1 of the sums over all labels."""
    del settings
    return _f1_formula("average:micro|zero_division:0", macro=False)


def macro_f1(settings: MetricSettings) -> Formula:
    """`macro_f1`: the mean of the F1 of every label."""
    del settings
    return _f1_formula("average:macro|classes:all|zero_division:0", macro=True)


def ranking_precision(settings: MetricSettings) -> Formula:
    """`lrap`: label-ranking average precision."""
    del settings
    return mean(_precisions, signature="ranking:scores|ties:max-rank")


def subset_accuracy(settings: MetricSettings) -> Formula:
    """`subset_acc`: the share of examples whose answered labels are exactly the true ones."""
    del settings

    def right(outcomes: Sequence[Outcome]) -> Floats:
        true, scores = _tables(outcomes)
        result: Floats = ((scores > 0) == true).all(axis=1).astype(np.float64)
        return result

    return mean(right, signature="match:set")


def _f1_formula(signature: str, *, macro: bool) -> Formula:
    def statistics(outcomes: Sequence[Outcome]) -> Floats:
        true, scores = _tables(outcomes)
        answered = scores > 0
        return np.concatenate([true & answered, answered, true], axis=1).astype(np.float64)

    def aggregate(sums: Floats) -> Floats:
        hits, answered, true = np.split(sums, 3, axis=-1)  # (..., C)
        if macro:
            result: Floats = _f1(hits, answered, true).mean(axis=-1)
            return result
        return _f1(hits.sum(axis=-1), answered.sum(axis=-1), true.sum(axis=-1))

    def per_example(rows: Floats) -> Floats:
        hits, answered, true = (part.sum(axis=1) for part in np.split(rows, 3, axis=1))
        return np.where(answered + true > 0, _f1(hits, answered, true), 1.0)

    return Formula(
        kind="sums",
        statistics=statistics,
        aggregate=aggregate,
        per_example=per_example,
        signature=f"{signature}|threshold:0",
    )


def _f1(hits: Floats, answered: Floats, true: Floats) -> Floats:
    seen = answered + true
    return np.divide(2 * hits, seen, out=np.zeros_like(seen), where=seen > 0)


def _precisions(outcomes: Sequence[Outcome]) -> Floats:
    true, scores = _tables(outcomes)
    found = np.ones(len(true))
    for row, (right, values) in enumerate(zip(true, scores, strict=True)):
        if right.any() and not right.all():
            mine = values[right]
            among_all = (values >= mine[:, None]).sum(axis=1)
            among_right = (mine >= mine[:, None]).sum(axis=1)
            found[row] = (among_right / among_all).mean()
    return found


def _tables(outcomes: Sequence[Outcome]) -> tuple[Bools, Floats]:
    """Which labels are true, and the log-odds of all: (N, C) each."""
    sets = only(LabelSet, outcomes)
    counts = {len(each.scores) for each in sets}
    if len(counts) != 1:
        raise WorkError(f"examples of one task have as many labels each, these have {sorted(counts)}.")
    scores = np.array([each.scores for each in sets], dtype=np.float64)
    wrong = np.flatnonzero(np.isnan(scores).any(axis=1))
    if len(wrong):
        raise WorkError(
            f"example {wrong[0]} has the scores {sets[int(wrong[0])].scores}; each label must have one that is a "
            "number. Did the model overflow in this precision?"
        )
    true = np.zeros(scores.shape, dtype=np.bool_)
    for row, each in enumerate(sets):
        true[row, list(each.gold)] = True
    return true, scores
