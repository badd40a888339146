"""Correlations and errors equal SciPy's and scikit-learn's, over the whole set and over resamples of it."""

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import mean_absolute_error, root_mean_squared_error

from lmtasks.errors import UsageError, WorkError
from lmtasks.metric import compare, estimate, make_metric, value_of
from lmtasks.metric.base import resampled
from lmtasks.records import Quantity

from .examples import choices, quantities, value

THEIRS = {
    "pearson": lambda gold, found: pearsonr(gold, found).statistic,
    "spearman": lambda gold, found: spearmanr(gold, found).statistic,
    "mae": mean_absolute_error,
    "rmse": root_mean_squared_error,
}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", THEIRS)
def test_equals_scipy_and_scikit_learn(name: str, seed: int) -> None:
    outcomes = quantities(40, seed=seed)
    pairs = np.array([(each.gold, each.prediction) for each in outcomes if isinstance(each, Quantity)])
    assert len(np.unique(pairs[:, 0])) < 40, "some are equal"
    metric = make_metric(name)
    rows = metric.statistics(outcomes)
    drawn = [np.arange(40), *np.random.default_rng(seed).integers(40, size=(6, 12))]
    counts = np.stack([np.bincount(places, minlength=40) for places in drawn]).astype(float)
    wanted = [THEIRS[name](*pairs[places].T) for places in drawn]
    assert [value_of(metric, rows[places]) for places in drawn] == pytest.approx(wanted, abs=1e-12)
    assert resampled(metric, rows, counts).tolist() == pytest.approx(wanted, abs=1e-12)


def test_numbers_far_from_zero_lose_nothing() -> None:
    """Sums of squares of such numbers would have no digits left for what differs."""
    gold = 1e9 + np.random.default_rng(0).normal(size=50)
    found = gold + np.random.default_rng(1).normal(size=50)
    outcomes = [Quantity(gold=a, prediction=b) for a, b in zip(gold.tolist(), found.tolist(), strict=True)]
    assert value(make_metric("pearson"), outcomes) == pytest.approx(pearsonr(gold, found).statistic, abs=1e-9)


@pytest.mark.parametrize("name", ["pearson", "spearman"])
def test_a_constant_answer_correlates_with_nothing(name: str) -> None:
    """Also where rounding makes the mean of equal numbers another number."""
    outcomes = [Quantity(gold=float(number), prediction=0.1) for number in range(7)]
    metric = make_metric(name)
    assert value(metric, outcomes) == 0.0
    assert estimate(metric, metric.statistics(outcomes)).ci95 == (0.0, 0.0)


def test_a_nearer_answer_wins() -> None:
    near = [Quantity(gold=float(number), prediction=number + 0.1) for number in range(20)]
    far = [Quantity(gold=float(number), prediction=number + (-2.0) ** (number % 3)) for number in range(20)]
    for name in THEIRS:
        metric = make_metric(name)
        result = compare(metric, metric.statistics(far), metric.statistics(near))
        assert result.wins == 20
        assert (result.difference > 0) == metric.higher_is_better


@pytest.mark.parametrize("answer", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", THEIRS)
def test_what_is_no_number_is_named(name: str, answer: float) -> None:
    with pytest.raises(WorkError, match="example 1 has the answer"):
        value(make_metric(name), [Quantity(gold=1.0, prediction=1.0), Quantity(gold=1.0, prediction=answer)])


def test_other_outcomes_are_refused() -> None:
    with pytest.raises(UsageError, match="scores Quantity outcomes, was given Choice"):
        value(make_metric("mae"), choices(2))
    with pytest.raises(UsageError, match="acc scores choice or likelihood, not number; for number use mae, pearson"):
        make_metric("acc", takes="number")
