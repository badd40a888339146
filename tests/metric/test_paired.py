"""Paired comparisons: McNemar against scipy's binomial test, randomization against full enumeration."""

from itertools import product

import numpy as np
import pytest
from scipy import optimize
from scipy.stats import binomtest

from lmtasks.errors import WorkError
from lmtasks.metric import compare, make_metric
from lmtasks.metric.paired import MCNEMAR, RANDOMIZATION, mcnemar, tango_interval
from lmtasks.records import Floats

from .examples import choices, likelihoods, texts


def rows_of(values: list[float]) -> Floats:
    return np.stack([np.array(values, dtype=float), np.ones(len(values))], axis=1)


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (1, 0), (0, 5), (5, 1), (6, 6), (40, 61), (300, 200), (2, 900)])
def test_mcnemar_equals_the_binomial_test(wins: int, losses: int) -> None:
    theirs = binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert mcnemar(wins, losses) == pytest.approx(theirs, rel=1e-9)


def test_accuracy_is_compared_by_mcnemar() -> None:
    metric = make_metric("acc")
    a = rows_of([1, 1, 1, 0, 0, 0, 0, 0, 0, 0])
    b = rows_of([1, 1, 0, 1, 1, 1, 1, 1, 0, 0])  # one lost, five won
    result = compare(metric, a, b)
    assert result.test == MCNEMAR
    assert result.p_value == pytest.approx(0.21875, abs=1e-12)
    assert (result.n, result.wins, result.ties, result.losses) == (10, 5, 4, 1)
    assert (result.a, result.b, result.difference) == (0.3, 0.7, pytest.approx(40.0))  # points
    assert result.ci95 is not None
    assert result.ci95[0] < 40.0 < result.ci95[1]


def test_turned_round_only_the_signs_change() -> None:
    metric = make_metric("acc")
    a, b = rows_of([1, 0, 0, 0, 1, 0]), rows_of([1, 1, 1, 0, 0, 1])
    there, back = compare(metric, a, b), compare(metric, b, a)
    assert (there.difference, there.p_value, there.wins) == (-back.difference, back.p_value, back.losses)
    assert there.ci95 is not None
    assert back.ci95 == pytest.approx((-there.ci95[1], -there.ci95[0]))


def test_a_fraction_that_is_not_right_or_wrong_is_randomized() -> None:
    metric = make_metric("squad_f1")
    result = compare(metric, rows_of([0.5, 1.0, 0.0]), rows_of([1.0, 1.0, 0.0]))
    assert result.test == RANDOMIZATION


def test_randomization_approaches_full_enumeration() -> None:
    """All 2^10 swaps, counted by hand, against 5,000 random ones."""
    draw = np.random.default_rng(5)
    a = draw.random(10)
    b = np.clip(a + draw.normal(0.25, 0.2, size=10), 0, 1)
    gaps = b - a
    exact = np.mean([abs(np.dot(signs, gaps)) >= abs(gaps.sum()) - 1e-12 for signs in product((-1, 1), repeat=10)])
    found = compare(make_metric("squad_f1"), rows_of(a.tolist()), rows_of(b.tolist()), resamples=5000).p_value
    assert found == pytest.approx(exact, abs=0.02)
    assert 0.01 < exact < 0.5


def test_p_values_are_uniform_when_nothing_differs() -> None:
    metric = make_metric("token_perplexity")
    draw = np.random.default_rng(0)
    small = 0
    for _ in range(200):
        a, b = (np.stack([draw.normal(-20, 3, size=40), np.full(40, 10.0)], axis=1) for _ in range(2))
        small += compare(metric, a, b, resamples=200).p_value <= 0.05
    assert 2 <= small <= 20  # 10 expected


def test_a_clear_difference_is_found() -> None:
    metric = make_metric("bits_per_byte")
    outcomes = likelihoods(60)
    a = metric.statistics(outcomes)
    b = a * np.array([0.8, 1.0])  # every text a fifth cheaper
    result = compare(metric, a, b, resamples=500)
    assert result.p_value == pytest.approx(1 / 501)
    assert (result.wins, result.losses) == (60, 0)  # lower is better
    assert result.difference < 0
    assert result.difference == pytest.approx(-0.2 * result.a)  # raw: in bits, not points
    assert result.ci95 is not None
    assert result.ci95[1] < 0


def test_corpus_scores_and_class_scores_have_paired_tests() -> None:
    bleu, f1 = make_metric("bleu"), make_metric("macro_f1")
    pairs = [
        (bleu, bleu.statistics(texts(30, seed=1)), bleu.statistics(texts(30, seed=2))),
        (f1, f1.statistics(choices(30, classes=3, seed=1)), f1.statistics(choices(30, classes=3, seed=2))),
    ]
    for metric, a, b in pairs:
        result = compare(metric, a, b, resamples=200)
        assert 0 < result.p_value <= 1
        assert result.test == RANDOMIZATION
        unit = 100 if metric.scale == "fraction" else 1
        assert result.difference == pytest.approx(unit * (result.b - result.a))
        assert result.wins + result.ties + result.losses == 30
        assert result == compare(metric, a, b, resamples=200)


def test_effect_sizes() -> None:
    """Cohen 1988: h of 0.75 against 0.5 is 0.5236; d_z of differences 1, 2, 3 is 2."""
    shares = compare(make_metric("acc"), rows_of([1, 1, 0, 0]), rows_of([1, 1, 1, 0]))
    assert (shares.effect_name, shares.effect) == ("h", pytest.approx(np.pi / 6))
    means = compare(make_metric("brier_score"), rows_of([0.0, 0.0, 0.0]), rows_of([0.1, 0.2, 0.3]))
    assert (means.effect_name, means.effect) == ("d_z", pytest.approx(2.0))
    same = compare(make_metric("brier_score"), rows_of([0.5, 0.2]), rows_of([0.7, 0.4]))
    assert same.effect is None  # every example differs by the same: no deviation to measure by
    bleu = make_metric("bleu")
    corpus = compare(bleu, bleu.statistics(texts(5)), bleu.statistics(texts(5, seed=1)), resamples=20)
    assert (corpus.effect_name, corpus.effect) == ("", None)


def test_without_discordant_examples_nothing_is_shown() -> None:
    result = compare(make_metric("acc"), rows_of([1, 1, 0, 0] * 5), rows_of([1, 1, 0, 0] * 5))
    assert (result.p_value, result.test, result.wins + result.losses) == (1.0, MCNEMAR, 0)
    assert result.effect == 0.0
    assert result.detectable == pytest.approx(100 * 6 / 20)  # six discordant examples of 20
    assert compare(make_metric("acc"), rows_of([1, 0]), rows_of([1, 0])).detectable is None


def test_the_detectable_difference_is_found_four_times_in_five() -> None:
    """Simulated: b gains as much as one pair of samples says could be shown."""
    draw = np.random.default_rng(2)
    metric = make_metric("squad_f1")

    def pair(gain: float) -> tuple[Floats, Floats]:
        a = draw.uniform(0.2, 0.5, size=120)
        return rows_of(a.tolist()), rows_of((a + gain + draw.normal(0, 0.1, size=120)).tolist())

    said = compare(metric, *pair(0.0), resamples=2000).detectable
    assert said is not None
    assert said == pytest.approx(100 * 2.8 * 0.1 / np.sqrt(120), rel=0.2)
    exact = 2.8016 * 0.1 / np.sqrt(120)
    found = sum(compare(metric, *pair(exact), resamples=199).p_value <= 0.05 for _ in range(200))
    assert 140 <= found <= 180


def test_clusters_are_swapped_and_drawn_together() -> None:
    """Every example three times over, each with its copies as a cluster: as sure as the examples alone, no surer."""
    metric = make_metric("brier_score")
    draw = np.random.default_rng(4)
    a = draw.random(30)
    b = np.clip(a + draw.normal(0.04, 0.15, size=30), 0, 2)
    once = compare(metric, rows_of(a.tolist()), rows_of(b.tolist()), resamples=4000)
    thrice = [rows_of(np.repeat(values, 3).tolist()) for values in (a, b)]
    clustered = compare(metric, *thrice, resamples=4000, clusters=np.repeat(np.arange(30), 3).tolist())
    naive = compare(metric, *thrice, resamples=4000)
    assert clustered.p_value == pytest.approx(once.p_value, abs=0.04)
    assert naive.p_value < once.p_value / 2
    assert once.detectable is not None
    assert clustered.detectable == pytest.approx(once.detectable, rel=0.06)


@pytest.mark.parametrize("name", ["acc", "macro_f1", "ece"])
def test_with_clusters_mcnemar_is_not_used(name: str) -> None:
    metric = make_metric(name)
    a, b = metric.statistics(choices(40, classes=3, seed=1)), metric.statistics(choices(40, classes=3, seed=2))
    result = compare(metric, a, b, clusters=[number // 4 for number in range(40)], resamples=300)
    assert result.test == RANDOMIZATION
    assert 0 < result.p_value <= 1
    assert result.n == 40


def test_rows_and_sums_agree_on_the_same_metric() -> None:
    """micro F1 counts classes, accuracy averages: on single answers they are one number, and one test."""
    outcomes = choices(60, classes=3, seed=1), choices(60, classes=3, seed=2)
    f1, acc = make_metric("micro_f1"), make_metric("acc")
    by_rows = compare(f1, *map(f1.statistics, outcomes), resamples=4000)
    by_sums = compare(acc, *map(acc.statistics, outcomes), resamples=4000)
    assert by_rows.difference == pytest.approx(by_sums.difference)
    assert by_rows.p_value == pytest.approx(by_sums.p_value, abs=0.05)
    assert by_rows.ci95 == pytest.approx(by_sums.ci95, abs=3)


def test_different_examples_cannot_be_paired() -> None:
    with pytest.raises(WorkError, match=r"same examples on both sides.*\(2, 2\) and \(1, 2\)"):
        compare(make_metric("acc"), rows_of([1, 0]), rows_of([1]))


@pytest.mark.parametrize(("more", "less", "n"), [(9, 3, 32), (1, 0, 44), (5, 1, 10), (100, 120, 2000), (7, 7, 40)])
def test_the_interval_of_shares_is_what_a_score_test_does_not_reject(more: int, less: int, n: int) -> None:
    """At both ends the constrained likelihood, maximised numerically, gives a score of 1.96 (Tango 1998)."""
    for end in tango_interval(more, less, n):

        def against(share: float, end: float = end) -> float:
            """Negative log-likelihood of (more, less, alike) where the shares differ by `end`."""
            parts = np.array([share + end, share, 1 - 2 * share - end])
            return -float(np.log(np.maximum(parts, 1e-300)) @ [more, less, n - more - less])

        least = max(0.0, -end)
        share = optimize.minimize_scalar(against, bounds=(least, (1 - end) / 2), method="bounded").x
        variance = (2 * share + end - end**2) / n
        assert abs((more - less) / n - end) / np.sqrt(variance) == pytest.approx(1.96, abs=0.02)


@pytest.mark.parametrize(("n", "chance"), [(15, 0.9), (30, 0.98), (100, 0.7)])
def test_the_interval_of_few_shares_holds_the_difference(n: int, chance: float) -> None:
    """Percentiles of the bootstrap hold it in some 60 % of such sets where hardly an example differs."""
    generator, held, percentiles = np.random.default_rng(1), 0, 0
    for _ in range(400):
        a, b = (generator.random(n) < chance), (generator.random(n) < chance - 0.02)
        low, high = tango_interval(int((b & ~a).sum()), int((a & ~b).sum()), n)
        held += low <= -0.02 <= high
        drawn = (b.astype(float) - a)[generator.integers(n, size=(200, n))].mean(axis=1)
        percentiles += np.percentile(drawn, 2.5) <= -0.02 <= np.percentile(drawn, 97.5)
    assert held >= 400 * 0.93
    assert percentiles < held


def test_equal_answers_to_a_few_examples_exclude_no_large_loss() -> None:
    same = np.tile([[1.0, 1.0]], (20, 1))
    result = compare(make_metric("acc"), same, same)
    assert result.ci95 == pytest.approx((-16.1, 16.1), abs=0.1)
    assert tango_interval(20, 0, 20) == pytest.approx((0.6777, 1.0), abs=1e-3)
    assert tango_interval(0, 20, 20) == pytest.approx((-1.0, -0.6777), abs=1e-3)
