"""Comparisons made together: Holm's procedure against its definition, false alarms by simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmtasks.metric import compare, holm, make_metric, verdict
from lmtasks.metric.paired import resamples_for

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def test_known_values() -> None:
    # R 4.3: p.adjust(c(0.01, 0.04, 0.03, 0.005), method = "holm") -> 0.03 0.06 0.06 0.02
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm([0.2]) == (0.2,)
    assert holm([]) == ()


@given(P_VALUES)
def test_holm_rejects_step_by_step(p_values: list[float]) -> None:
    """The procedure as Holm wrote it: smallest first, each against 0.05 / what is left, until one fails."""
    rejected = set()
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    for rank, place in enumerate(order):
        if (len(p_values) - rank) * p_values[place] >= 0.05:
            break
        rejected.add(place)
    assert {place for place, p in enumerate(holm(p_values)) if p < 0.05} == rejected


@given(P_VALUES)
def test_adjusted_values_are_in_order_and_no_smaller(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(p <= q <= 1 for p, q in zip(p_values, adjusted, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()


def test_a_randomization_test_can_reach_what_the_family_asks_for() -> None:
    for size in (1, 4, 60, 300):
        assert holm([1 / (1 + resamples_for(size))] * size)[0] < 0.05 / 3


def test_false_alarms_among_equal_systems() -> None:
    """Ten comparisons of equal systems, 100 times: about 5 families with an alarm, and about 40 without correction."""
    metric = make_metric("acc")
    draw = np.random.default_rng(0)
    alarms = naive = 0
    for _ in range(100):
        p_values = []
        for _ in range(10):
            a, b = (np.stack([(draw.random(60) < 0.5).astype(float), np.ones(60)], axis=1) for _ in range(2))
            p_values.append(compare(metric, a, b, resamples=2).p_value)
        alarms += min(holm(p_values)) < 0.05
        naive += min(p_values) < 0.05
    assert alarms <= 10
    assert naive >= 15


def test_verdicts() -> None:
    up = np.stack([np.ones(20), np.ones(20)], axis=1)
    down = np.stack([np.zeros(20), np.ones(20)], axis=1)
    gain = compare(make_metric("acc"), down, up)
    assert verdict(gain.difference, p_value=0.01, higher_is_better=True) == "better"
    assert verdict(gain.difference, p_value=0.01, higher_is_better=False) == "worse"
    assert verdict(gain.difference, p_value=0.05, higher_is_better=True) == "open"
    assert verdict(0.0, p_value=0.0, higher_is_better=True) == "open"
