"""How much worse, and could it be worse than allowed?"""

import numpy as np
import pytest

from lmtasks.errors import WorkError
from lmtasks.metric import make_metric
from lmtasks.metric.drop import measure_drop, share_interval
from lmtasks.records import Choice, Floats, Likelihood


def shares(right: int, wrong: int) -> Floats:
    outcomes = [Choice(gold=(0,), scores=(1.0, 0.0), chars=(1, 1), bytes=(1, 1))] * right
    outcomes += [Choice(gold=(0,), scores=(0.0, 1.0), chars=(1, 1), bytes=(1, 1))] * wrong
    return make_metric("acc").statistics(outcomes)


ACC = make_metric("acc")


def test_a_share_drops_in_points() -> None:
    base, found = shares(1000, 0), shares(996, 4)
    drop = measure_drop(ACC, base, found, most=0.5)
    assert (drop.n, drop.base, drop.found, drop.unit) == (1000, 1.0, 0.996, "points")
    assert drop.drop == pytest.approx(0.4)
    assert (drop.better, drop.equal, drop.worse) == (0, 996, 4)
    assert drop.ok
    assert not drop.excluded
    low, high = share_interval(drop.needed or 0, worse=0.004 * (drop.needed or 0), better=0)
    assert high <= 0.5
    assert share_interval((drop.needed or 0) - 1, worse=0.004 * ((drop.needed or 0) - 1), better=0)[1] > 0.5
    assert low < 0.4


def test_one_answer_of_200_is_half_a_point() -> None:
    assert measure_drop(ACC, shares(200, 0), shares(199, 1), most=0.5).ok
    assert not measure_drop(ACC, shares(200, 0), shares(198, 2), most=0.5).ok


def test_where_nothing_differs_that_many_examples_exclude_little() -> None:
    """The bootstrap's interval would be [0, 0] of 20 examples already."""
    few = measure_drop(ACC, shares(10, 10), shares(10, 10), most=0.5)
    assert few.ok
    assert not few.excluded
    assert few.needed is not None
    assert 500 < few.needed < 600  # 1.96 sqrt(2) / n is half a point at about 554
    assert measure_drop(ACC, shares(600, 0), shares(600, 0), most=0.5).excluded


def test_no_number_of_examples_excludes_what_is_there() -> None:
    drop = measure_drop(ACC, shares(200, 0), shares(199, 1), most=0.5)
    assert (drop.excluded, drop.needed) == (False, None)


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Of 2,000 simulated sets of 300 rows, 3 % lost and 1 % won, at least 94 % of intervals hold the drop of 2."""
    random = np.random.default_rng(0)
    counts = random.multinomial(300, (0.03, 0.01, 0.96), size=2000)
    held = [low <= 2.0 <= high for low, high in (share_interval(300, worse=w, better=b) for w, b, _ in counts)]
    assert np.mean(held) > 0.94


def test_a_metric_without_a_scale_drops_in_percent() -> None:
    metric = make_metric("token_perplexity")
    base, found = (
        metric.statistics([Likelihood(logprob=-per * 10, tokens=10, words=5, bytes=40)] * 30) for per in (2.0, 2.01)
    )
    drop = measure_drop(metric, base, found, most=0.5)
    assert drop.unit == "%"
    assert drop.drop == pytest.approx(100 * (np.exp(0.01) - 1))
    assert not drop.ok


def test_a_value_that_is_no_number_is_no_base() -> None:
    metric = make_metric("token_perplexity")
    broken = metric.statistics([Likelihood(logprob=-np.inf, tokens=1, words=1, bytes=1)] * 3)
    with pytest.raises(WorkError, match="no drop can be measured"):
        measure_drop(metric, broken, broken, most=0.5)
