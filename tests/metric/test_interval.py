"""Standard errors and intervals: closed forms by hand, coverage by simulation."""

import numpy as np
import pytest
from scipy.stats import binomtest

from lmtasks.errors import WorkError
from lmtasks.metric import Metric, estimate, make_metric
from lmtasks.metric.interval import wilson_interval
from lmtasks.records import Choice, Floats, Outcome

from .examples import choices, likelihoods, of_kind, texts


def answers(right: int, wrong: int) -> list[Outcome]:
    return [Choice(gold=(0,), scores=(-1.0, -2.0), chars=(1, 1), bytes=(1, 1))] * right + [
        Choice(gold=(1,), scores=(-1.0, -2.0), chars=(1, 1), bytes=(1, 1))
    ] * wrong


def wilson(right: int, n: int) -> tuple[float, float]:
    """SciPy's Wilson interval, whose quantile is 1.959964 where ours is 1.96."""
    interval = binomtest(right, n).proportion_ci(method="wilson")
    return interval.low, interval.high


def rows_of(values: Floats) -> Floats:
    return np.stack([values, np.ones_like(values)], axis=1)


def test_accuracy_by_hand() -> None:
    # 75 of 100: stderr = sqrt(p (1 - p) / (n - 1)) = sqrt(0.1875 / 99)
    metric = make_metric("acc")
    result = estimate(metric, metric.statistics(answers(75, 25)))
    assert result.value == 0.75
    assert result.stderr == pytest.approx(np.sqrt(0.1875 / 99))
    assert result.ci95 == pytest.approx(wilson(75, 100), abs=1e-4)
    assert (result.scale, result.higher_is_better, result.signature) == ("fraction", True, metric.signature)


@pytest.mark.parametrize(("right", "wrong"), [(3, 1), (1, 3), (8, 0), (0, 8)])
def test_shares_near_the_ends_keep_an_interval(right: int, wrong: int) -> None:
    metric = make_metric("acc")
    result = estimate(metric, metric.statistics(answers(right, wrong)))
    assert result.ci95 == pytest.approx(wilson(right, right + wrong), abs=1e-4)
    assert result.ci95 is not None
    assert 0.0 <= result.ci95[0] < result.ci95[1] <= 1.0


def test_means_stay_on_the_scale() -> None:
    metric = make_metric("squad_f1")
    rows = rows_of(np.array([1.0, 1.0, 0.9]))
    result = estimate(metric, rows)
    assert result.ci95 == (pytest.approx(0.9667 - 1.96 * 0.0333, abs=1e-3), 1.0)


def test_a_perplexity_by_hand() -> None:
    """A perplexity per document is the exponential of a mean: by the delta method its stderr is value * s / sqrt(n)."""
    metric = make_metric("perplexity")
    rows = np.stack([np.random.default_rng(3).normal(-3.0, 0.5, size=400), np.ones(400)], axis=1)
    result = estimate(metric, rows)
    nats = rows[:, 0].std(ddof=1) / 20
    assert result.stderr == pytest.approx(result.value * nats)
    assert result.ci95 == pytest.approx([np.exp(-rows[:, 0].mean() + sign * 1.96 * nats) for sign in (-1, 1)])


@pytest.mark.parametrize("name", ["token_perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte"])
def test_ratios_agree_with_a_bootstrap(name: str) -> None:
    metric = make_metric(name)
    rows = metric.statistics(likelihoods(400))
    result = estimate(metric, rows)
    places = np.random.default_rng(0).integers(400, size=(2000, 400))
    replicates = metric.aggregate(rows[places].sum(axis=1))
    assert result.stderr == pytest.approx(replicates.std(ddof=1), rel=0.06)
    assert result.ci95 == pytest.approx(np.percentile(replicates, [2.5, 97.5]), rel=0.01)


@pytest.mark.parametrize("name", ["acc", "brier_score", "word_perplexity", "macro_f1", "bleu"])
def test_clusters_of_one_example_change_nothing(name: str) -> None:
    metric = make_metric(name)
    rows = metric.statistics(of_kind(metric.takes, 40))
    alone, together = estimate(metric, rows), estimate(metric, rows, clusters=range(40))
    assert together.value == alone.value
    assert together.stderr == pytest.approx(alone.stderr, rel=1e-12 if metric.rate is not None else 0.1)
    if metric.rate is not None:
        assert together.ci95 == pytest.approx(alone.ci95, rel=1e-12)


@pytest.mark.parametrize("name", ["acc", "brier_score", "bits_per_byte", "macro_f1", "chrf"])
def test_copies_of_an_example_tell_nothing_new(name: str) -> None:
    """Every example three times over, each with its copies as a cluster: the uncertainty is that of the examples."""
    metric = make_metric(name)
    rows = metric.statistics(of_kind(metric.takes, 60))
    once = estimate(metric, rows)
    thrice = estimate(metric, np.repeat(rows, 3, axis=0), clusters=np.repeat(np.arange(60), 3).tolist())
    naive = estimate(metric, np.repeat(rows, 3, axis=0))
    assert once.stderr is not None
    assert thrice.stderr == pytest.approx(once.stderr, rel=1e-9 if metric.rate is not None else 0.1)
    assert naive.stderr == pytest.approx(once.stderr / np.sqrt(3), rel=0.1)


def test_clustered_error_by_hand() -> None:
    # Miller 2024, eq. 4 with G / (G - 1): residuals from the mean 1/2 are +-1/2, cluster sums 1, -1, 0.
    rows = rows_of(np.array([1.0, 1.0, 0.0, 0.0, 1.0, 0.0]))
    result = estimate(make_metric("acc"), rows, clusters=["a", "a", "b", "b", "c", "c"])
    assert result.stderr is not None
    assert result.stderr == pytest.approx(np.sqrt(3 / 2 * 2) / 6)
    assert result.ci95 == pytest.approx(wilson_interval(0.5, 1 + 0.25 / result.stderr**2))


def test_one_cluster_tells_no_uncertainty() -> None:
    for name in ("acc", "macro_f1", "bleu"):
        metric = make_metric(name)
        result = estimate(metric, metric.statistics(of_kind(metric.takes, 10)), clusters=["x"] * 10)
        assert (result.stderr, result.ci95) == (None, None)


def test_every_example_needs_a_cluster() -> None:
    with pytest.raises(WorkError, match="3 clusters for 2 examples"):
        estimate(make_metric("acc"), rows_of(np.array([1.0, 0.0])), clusters="abc")


def test_coverage_with_clusters() -> None:
    """60 passages of 1-5 questions, each passage with its own difficulty: naive intervals are too narrow."""
    metric = make_metric("acc")
    draw = np.random.default_rng(1)
    held = {True: 0, False: 0}
    for _ in range(400):
        clusters = np.repeat(np.arange(60), draw.integers(1, 6, size=60))
        share = draw.beta(0.7, 0.3, size=60)[clusters]
        rows = rows_of((draw.random(len(clusters)) < share).astype(float))
        for clustered in held:
            interval = estimate(metric, rows, clusters=clusters.tolist() if clustered else None).ci95
            assert interval is not None
            held[clustered] += interval[0] <= 0.7 <= interval[1]
    assert 0.92 <= held[True] / 400 <= 0.98
    assert held[False] / 400 < 0.88


def test_coverage_of_a_proportion() -> None:
    """Of 95 % intervals over 200 Bernoulli(0.7) examples, about 95 % hold 0.7 (normal approximation: 94-95 %)."""
    metric = make_metric("acc")
    draw = np.random.default_rng(0)
    held = sum(covers(metric, rows_of((draw.random(200) < 0.7).astype(float)), 0.7) for _ in range(1000))
    assert 925 <= held <= 970


def test_coverage_of_a_ratio() -> None:
    """The same for a ratio: tokens 1-9, nats per token around 2; perplexity exp(2)."""
    metric = make_metric("token_perplexity")
    draw = np.random.default_rng(0)
    held = 0
    for _ in range(300):
        tokens = draw.integers(1, 10, size=100).astype(float)
        rows = np.stack([-tokens * draw.normal(2.0, 0.4, size=100), tokens], axis=1)
        held += covers(metric, rows, np.exp(2.0), resamples=200)
    assert 0.90 <= held / 300 <= 0.98


def test_coverage_of_a_bootstrap() -> None:
    """The same for Matthews' correlation of two balanced classes, of which 80 % are right: 0.6."""
    metric = make_metric("mcc")
    draw = np.random.default_rng(0)
    held = 0
    for _ in range(300):
        true = draw.integers(2, size=150)
        rows = np.stack([true, np.where(draw.random(150) < 0.8, true, 1 - true)], axis=1).astype(float)
        held += covers(metric, rows, 0.6, resamples=300)
    assert 0.91 <= held / 300 <= 0.98


def covers(metric: Metric, rows: Floats, truth: float, resamples: int = 1000) -> bool:
    interval = estimate(metric, rows, resamples=resamples).ci95
    assert interval is not None
    return interval[0] <= truth <= interval[1]


@pytest.mark.parametrize("name", ["mcc", "bleu"])
def test_a_seed_repeats_and_another_differs(name: str) -> None:
    metric = make_metric(name)
    rows = metric.statistics(choices(30) if metric.takes == "choice" else texts(30))
    assert estimate(metric, rows) == estimate(metric, rows)
    assert estimate(metric, rows, seed=1).ci95 != estimate(metric, rows, seed=2).ci95
    assert estimate(metric, rows, seed=1).value == estimate(metric, rows, seed=2).value
