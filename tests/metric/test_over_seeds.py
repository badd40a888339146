"""Two systems that were made several times, on the same examples."""

import numpy as np
import pytest
from scipy import stats

from lmtasks.errors import WorkError
from lmtasks.metric import make_metric
from lmtasks.metric.paired import STUDENT, compare, compare_over_seeds
from lmtasks.records import Floats

ACCURACY = make_metric("acc")


def _table(values: Floats) -> Floats:
    return np.stack([values, np.ones_like(values)], axis=1)


def _made(seed: int, *, share: float, spread: float, n: int = 400, seeds: int = 5) -> list[Floats]:
    """Right answers of systems whose share varies from seed to seed."""
    generator = np.random.default_rng(seed)
    shares = np.clip(generator.normal(share, spread, size=seeds), 0, 1)
    return [_table((generator.random(n) < each).astype(np.float64)) for each in shares]


def test_one_seed_is_the_plain_comparison() -> None:
    (a,), (b,) = _made(1, share=0.5, spread=0, seeds=1), _made(2, share=0.6, spread=0, seeds=1)
    assert compare_over_seeds(ACCURACY, [(a, b)]) == compare(ACCURACY, a, b)


def test_the_difference_is_the_mean_and_its_error_that_of_examples_and_seeds() -> None:
    a, b = _made(1, share=0.5, spread=0.05), _made(2, share=0.6, spread=0.05)
    found = compare_over_seeds(ACCURACY, list(zip(a, b, strict=True)), resamples=20000)
    by_seed = np.array([other[:, 0].mean() - one[:, 0].mean() for one, other in zip(a, b, strict=True)])
    assert (found.test, found.n) == (STUDENT, 400)
    assert found.difference == pytest.approx(100 * by_seed.mean())
    changes = np.mean([other[:, 0] - one[:, 0] for one, other in zip(a, b, strict=True)], axis=0)
    examples, between = changes.var(ddof=1) / 400, by_seed.var(ddof=1) / 5
    freedom = (examples + between) ** 2 / (examples**2 / 399 + between**2 / 4)
    half = 100 * stats.t.ppf(0.975, freedom) * np.sqrt(examples + between)
    assert found.ci95 is not None
    assert found.ci95 == pytest.approx((found.difference - half, found.difference + half), rel=0.03)
    p_value = 2 * stats.t.sf(by_seed.mean() / np.sqrt(examples + between), freedom)
    assert found.p_value == pytest.approx(p_value, rel=0.1)
    assert found.wins + found.ties + found.losses == 400


def test_a_false_alarm_is_as_rare_as_said_where_seeds_differ() -> None:
    """The first seed alone, with McNemar's test, gives one in three such pairs for different."""
    alarms = plain = 0
    for number in range(200):
        a = _made(number, share=0.6, spread=0.05, n=200)
        b = _made(1000 + number, share=0.6, spread=0.05, n=200)
        alarms += compare_over_seeds(ACCURACY, list(zip(a, b, strict=True)), resamples=200).p_value < 0.05
        plain += compare(ACCURACY, a[0], b[0], resamples=200).p_value < 0.05
    assert alarms <= 16
    assert plain > 25


def test_systems_that_never_differ_and_those_that_always_do() -> None:
    ones, zeros = [_table(np.ones(20))] * 3, [_table(np.zeros(20))] * 3
    same = compare_over_seeds(ACCURACY, list(zip(ones, ones, strict=True)), resamples=100)
    assert (same.difference, same.p_value, same.ties) == (0.0, 1.0, 20)
    apart = compare_over_seeds(ACCURACY, list(zip(zeros, ones, strict=True)), resamples=100)
    assert (apart.difference, apart.wins) == (100.0, 20)
    assert apart.p_value == pytest.approx(1 / 101)


def test_other_examples_are_refused() -> None:
    with pytest.raises(WorkError, match=r"for every seed, was given statistics of shape \(3, 2\), \(4, 2\)"):
        compare_over_seeds(
            ACCURACY, [(_table(np.ones(4)), _table(np.ones(4))), (_table(np.ones(3)), _table(np.ones(3)))]
        )
