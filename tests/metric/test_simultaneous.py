"""All variants against all: equal to SciPy's tests where it has them, coverage by simulation, letters, ranks."""

import numpy as np
import pytest
from scipy import stats

from lmtasks.metric import make_metric
from lmtasks.metric.base import Metric
from lmtasks.metric.simultaneous import (
    AllPairs,
    all_pairs,
    largest_differences,
    letters,
    mean_ranks,
    rank_intervals,
)
from lmtasks.records import Bools, Floats

GENERATOR = np.random.default_rng


def rows(values: Floats) -> Floats:
    """Statistics of a mean: value and count."""
    return np.stack([values, np.ones_like(values)], axis=1)


@pytest.fixture(scope="module")
def accuracy() -> Metric:
    return make_metric("acc")


def of(metric: Metric, columns: Floats, **options: object) -> AllPairs:
    """(N, S) values of examples, compared all with all."""
    (found,) = all_pairs(metric, [[rows(column)] for column in columns.T], **options)  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize("size", [2, 3, 6])
def test_the_largest_difference_of_independent_values_is_tukeys(size: int) -> None:
    found = np.quantile(largest_differences(np.eye(size), draws=60_000), 0.95)
    assert found == pytest.approx(stats.studentized_range.ppf(0.95, size, np.inf) / np.sqrt(2), rel=0.01)


def test_the_largest_difference_from_one_is_dunnetts() -> None:
    generator = GENERATOR(3)
    control, *others = (generator.normal(0, 1, 4000) for _ in range(4))
    interval = stats.dunnett(*others, control=control).confidence_interval(0.95)
    pooled = np.sqrt(np.mean([np.var(each, ddof=1) for each in (control, *others)]) * 2 / 4000)
    theirs = np.mean(interval.high - interval.low) / 2 / pooled
    found = np.quantile(largest_differences(np.eye(4), draws=60_000, base=0), 0.95)
    assert found == pytest.approx(theirs, rel=0.01)


def test_intervals_of_independent_variants_are_those_of_tukeys_test(accuracy: Metric) -> None:
    columns = GENERATOR(5).normal([0.2, 0.5, 0.9, 1.0], 1.0, (1000, 4))
    theirs = stats.tukey_hsd(*columns.T).confidence_interval(0.95)
    halves = of(accuracy, columns).halves
    other = ~np.eye(4, dtype=bool)
    assert halves[other] == pytest.approx(((theirs.high - theirs.low) / 2)[other], rel=0.06)


def test_of_two_variants_it_is_students_paired_interval(accuracy: Metric) -> None:
    generator = GENERATOR(7)
    columns = generator.normal(0, 1, (12, 2)) + generator.normal(0, 3, (12, 1))
    theirs = stats.ttest_rel(*columns.T).confidence_interval(0.95)
    assert of(accuracy, columns).halves[0, 1] == pytest.approx((theirs.high - theirs.low) / 2, rel=0.03)


@pytest.mark.parametrize(("n", "spread"), [(15, 0.0), (40, 0.0), (40, 1.5)])
def test_all_differences_are_covered_together(accuracy: Metric, n: int, spread: float) -> None:
    """Five variants that are right with 60 to 95 %, on examples that are hard for all of them or for none."""
    generator, chances = GENERATOR(11), np.array([0.6, 0.7, 0.8, 0.9, 0.95])
    logits = np.log(chances / (1 - chances))
    many = 1 / (1 + np.exp(-(logits + spread * generator.standard_normal((200_000, 1)))))
    true = many.mean(axis=0)
    held = 0
    for number in range(300):
        shares = 1 / (1 + np.exp(-(logits + spread * generator.standard_normal((n, 1)))))
        found = of(accuracy, (generator.random((n, 5)) < shares).astype(float), draws=2000, seed=number)
        errors = np.abs((found.values[:, None] - found.values[None, :]) - (true[:, None] - true[None, :]))
        held += bool((errors <= found.halves + 1e-12).all())
    assert held / 300 >= 0.93  # 0.95 less two standard errors of 300 simulations


def test_each_interval_alone_would_not_cover_them(accuracy: Metric) -> None:
    """Eight equal variants: uncorrected, some pair of them is "different" in far more than 5 % of all tables."""
    generator, alone, together = GENERATOR(13), 0, 0
    for number in range(100):
        columns = (generator.random((200, 8)) < 0.8).astype(float)
        found = of(accuracy, columns, draws=2000, seed=number)
        errors = np.std(columns[:, :, None] - columns[:, None, :], axis=0, ddof=1) / np.sqrt(200)
        differences = np.abs(found.values[:, None] - found.values[None, :])
        alone += bool((differences > 1.96 * errors).any())
        together += bool(found.apart.any())
    assert together <= 10
    assert alone >= 25


def test_equal_answers_to_a_few_examples_prove_nothing(accuracy: Metric) -> None:
    found = of(accuracy, np.ones((20, 2)))
    assert 0.05 < found.halves[0, 1] < 0.3


def test_metrics_of_corpora_are_resampled_together() -> None:
    """Micro F1 of one answer each is the accuracy; the same examples are drawn for everybody."""
    generator = GENERATOR(17)
    truth = generator.integers(0, 3, 500)
    answers = [np.where(generator.random(500) < chance, truth, (truth + 1) % 3) for chance in (0.7, 0.72, 0.9)]
    micro = make_metric("micro_f1")
    tables = [[np.stack([truth, each], axis=1).astype(float)] for each in answers]
    (found,) = all_pairs(micro, tables, resamples=2000)
    right = np.stack([(truth == each).astype(float) for each in answers], axis=1)
    assert found.halves[~np.eye(3, dtype=bool)] == pytest.approx(
        of(make_metric("acc"), right).halves[~np.eye(3, dtype=bool)], rel=0.07
    )


def test_a_cluster_counts_once(accuracy: Metric) -> None:
    """Every example twice tells no more than once."""
    columns = GENERATOR(19).normal(0, 1, (60, 3))
    twice = np.repeat(columns, 2, axis=0)
    once = of(accuracy, columns)
    found = of(accuracy, twice, clusters=[str(number // 2) for number in range(120)])
    assert found.halves == pytest.approx(once.halves, rel=1e-6)
    assert of(accuracy, twice).halves[0, 1] < 0.8 * once.halves[0, 1]


def test_seeds_that_differ_widen_the_intervals(accuracy: Metric) -> None:
    generator = GENERATOR(23)
    base = generator.normal(0, 1, 300)

    def seeds(spread: float) -> list[list[Floats]]:
        return [[rows(base + generator.normal(0, 1, 300) + spread * shift) for shift in (-1, 0.2, 0.8)] for _ in "ab"]

    (calm,) = all_pairs(accuracy, seeds(0.0))
    variants = seeds(0.0)
    variants[1] = seeds(1.0)[1]
    (restless,) = all_pairs(accuracy, variants)
    assert restless.halves[0, 1] > 5 * calm.halves[0, 1]


def test_several_levels_come_from_the_same_draws(accuracy: Metric) -> None:
    columns = GENERATOR(29).normal(0, 1, (100, 4))
    usual, strict = all_pairs(accuracy, [[rows(column)] for column in columns.T], levels=(0.95, 0.99))
    assert (strict.halves >= usual.halves).all()
    assert strict.halves[0, 1] > 1.1 * usual.halves[0, 1]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 12])
def test_letters_are_shared_by_those_that_are_not_told_apart_and_by_no_others(size: int) -> None:
    generator = GENERATOR(size)
    for _ in range(30):
        upper = np.triu(generator.random((size, size)) < generator.random(), 1)
        apart = upper | upper.T
        found = letters(apart)
        for one in range(size):
            assert found[one]
            for other in range(one + 1, size):
                assert bool(set(found[one]) & set(found[other])) == (not apart[one, other])


def test_a_table_of_40_has_few_letters() -> None:
    values = np.sort(GENERATOR(31).normal(0, 3, 40))[::-1]
    apart: Bools = np.abs(values[:, None] - values[None, :]) > 1.5
    found = letters(apart)
    assert found[0][0] == "a"
    assert max(map(len, found)) <= 12


def test_ranks_are_scipys_and_their_intervals_hold_who_is_told_apart() -> None:
    tasks = [np.array([0.9, 0.8, 0.8]), np.array([0.1, 0.3, 0.2])]
    assert mean_ranks(tasks).tolist() == [2.0, 1.75, 2.25]
    nobody = np.zeros((3, 3), dtype=bool)
    assert rank_intervals(tasks[0], nobody) == ((1, 3),) * 3
    assert rank_intervals(tasks[0], ~np.eye(3, dtype=bool)) == ((1, 1), (2, 3), (2, 3))
