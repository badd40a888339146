"""Ratios of what was measured in the same rounds, and of what was measured apart."""

import math

import numpy as np
import pytest
from scipy import stats

from lmtasks.metric.ratio import ratio_apart, ratio_of, unpaired_ratio


def test_an_interval_that_holds_one_is_no_difference() -> None:
    ratio = ratio_of([1.1, 0.9, 1.05], [1.0, 1.0, 1.0])
    assert ratio.ci95 is not None
    assert ratio.ci95[0] < 1 < ratio.ci95[1]
    assert ratio_of([2.0], [1.0]).ci95 is None


def test_the_interval_is_students() -> None:
    ratios = [1.1, 0.9, 1.05, 1.2]
    found = ratio_of(ratios, [1.0] * 4)
    logs = [math.log(ratio) for ratio in ratios]
    expected = stats.t.interval(0.95, df=3, loc=np.mean(logs), scale=stats.sem(logs))
    assert found.ci95 == pytest.approx([math.exp(end) for end in expected], rel=1e-12)


def test_ratios_of_measurements_apart_join_the_widths_of_both() -> None:
    """On a log scale, divided by the number of tasks; one unknown interval leaves all unknown."""
    wide = math.exp(0.1)
    found = ratio_apart(
        [2.0, 8.0], [1.0, 1.0], intervals=[(2 / wide, 2 * wide), (8.0, 8.0)], base_intervals=[(1.0, 1.0)] * 2
    )
    assert found.value == pytest.approx(4.0)
    assert found.ci95 == pytest.approx((4 * math.exp(-0.05), 4 * math.exp(0.05)))
    assert found.rounds == ()
    assert ratio_apart([2.0], [1.0], intervals=[None], base_intervals=[(0.9, 1.1)]).ci95 is None


def test_rounds_that_did_not_alternate_have_welchs_interval() -> None:
    mine, theirs = [2.0, 2.2, 1.9, 2.1], [1.0, 1.3, 0.9]
    found = unpaired_ratio(mine, theirs)
    low, high = stats.ttest_ind(np.log(mine), np.log(theirs), equal_var=False).confidence_interval()
    assert found.ci95 == pytest.approx((math.exp(low), math.exp(high)))
    assert unpaired_ratio([2.0], theirs).ci95 is None
