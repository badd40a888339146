"""Metrics of numbers: `pearson`, `spearman`, `mae`, `rmse`.

The correlations are SciPy's `pearsonr` and `spearmanr` (ranks, equal numbers share the mean of theirs), the errors
scikit-learn's `mean_absolute_error` and `root_mean_squared_error`. Where all answers or all right numbers are the same
no correlation is defined; SciPy has NaN there, here it is 0: an answer that never changes tells nothing of the order.

A resample counts each example so many times. Its ranks follow from the counts: an example's is the number of those
below it, plus half of those that are equal to it, plus a half; so all resamples are ranked at once.

Answers 1, 2, 4 to the right numbers 1, 3, 2: ranks 1, 2, 3 and 1, 3, 2, Spearman 0.5, mean absolute error 1.
"""

from collections.abc import Sequence

import numpy as np

from lmtasks.errors import WorkError
from lmtasks.metric.base import Formula, MetricSettings, Rate, mean, of_rows, only, ratio
from lmtasks.records import Floats, Outcome, Quantity


def pearson(settings: MetricSettings) -> Formula:
    """`pearson`: the linear correlation of answers and right numbers; 0 where one side is constant."""
    del settings
    return _correlation("correlation:pearson|undefined:0", ranked=False)


def spearman(settings: MetricSettings) -> Formula:
    """`spearman`: the linear correlation of their ranks, equal numbers at the mean of theirs."""
    del settings
    return _correlation("correlation:spearman|ties:mean-rank|undefined:0", ranked=True)


def absolute_error(settings: MetricSettings) -> Formula:
    """`mae`: the mean of the absolute differences."""
    del settings
    return mean(lambda outcomes: _distance(_pairs(outcomes)), signature="error:absolute")


def squared_error(settings: MetricSettings) -> Formula:
    """`rmse`: the root of the mean of the squared differences."""
    del settings

    def statistics(outcomes: Sequence[Outcome]) -> Floats:
        squares = np.square(_distance(_pairs(outcomes)))
        return np.stack([squares, np.ones_like(squares)], axis=1)

    def slope(value: Floats) -> Floats:
        root = np.sqrt(np.maximum(value, 0.0))
        return np.divide(0.5, root, out=np.zeros_like(root), where=root > 0)

    return Formula(
        kind="ratio",
        statistics=statistics,
        aggregate=lambda sums: np.sqrt(ratio(sums)),
        per_example=lambda rows: np.sqrt(rows[:, 0]),
        signature="error:squared|aggregate:root",
        rate=Rate(value=lambda value: np.sqrt(np.maximum(value, 0.0)), slope=slope),
    )


def _correlation(signature: str, *, ranked: bool) -> Formula:
    """Of rows (right number, answer). An example alone has no correlation: its value is how near the answer is, 1 /
    (1 + distance), so that wins and losses can be counted."""

    def weighted(rows: Floats, weights: Floats) -> Floats:
        one, two = (
            _ranks(column, weights) if ranked else np.broadcast_to(column - column.mean(), weights.shape)
            for column in rows.T
        )
        return _weighted_correlation(one, two, weights)

    return of_rows(weighted, statistics=_pairs, per_example=lambda rows: 1 / (1 + _distance(rows)), signature=signature)


def _weighted_correlation(one: Floats, two: Floats, weights: Floats) -> Floats:
    """(R, U) each -> (R,)."""
    total = weights.sum(axis=1, keepdims=True)
    left, right = (side - (weights * side).sum(axis=1, keepdims=True) / total for side in (one, two))
    covariance = (weights * left * right).sum(axis=1)
    # Each by its own root: the product of two small variances would be nothing.
    spread = np.sqrt((weights * left**2).sum(axis=1)) * np.sqrt((weights * right**2).sum(axis=1))
    constant = _is_constant(one, weights) | _is_constant(two, weights)
    found = np.divide(covariance, spread, out=np.zeros_like(spread), where=(spread > 0) & ~constant)
    result: Floats = np.clip(found, -1.0, 1.0)
    return result


def _is_constant(values: Floats, weights: Floats) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Which resamples hold one value alone: what a mean leaves of equal numbers is rounding, and no spread."""
    drawn = weights > 0
    lowest = np.where(drawn, values, np.inf).min(axis=1)
    highest = np.where(drawn, values, -np.inf).max(axis=1)
    return np.asarray(lowest == highest)


def _ranks(column: Floats, weights: Floats) -> Floats:
    """Mean ranks of the values, (U,), in resamples where each counts as often as (R, U) says -> (R, U)."""
    _, codes = np.unique(column, return_inverse=True)
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    counts = np.add.reduceat(weights[:, order], starts, axis=1)
    ranks = np.cumsum(counts, axis=1) - counts / 2 + 0.5
    result: Floats = ranks[:, codes]
    return result


def _pairs(outcomes: Sequence[Outcome]) -> Floats:
    """(N, 2): the right number and the answer."""
    pairs = np.array([(each.gold, each.prediction) for each in only(Quantity, outcomes)], dtype=np.float64)
    wrong = np.flatnonzero(~np.isfinite(pairs).all(axis=1))
    if len(wrong):
        gold, answer = pairs[wrong[0]].tolist()
        raise WorkError(
            f"example {wrong[0]} has the answer {answer} to {gold}; both must be finite numbers. Did the model "
            "overflow in this precision?"
        )
    return pairs


def _distance(pairs: Floats) -> Floats:
    result: Floats = np.abs(pairs[:, 0] - pairs[:, 1])
    return result
