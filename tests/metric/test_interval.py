"""Standard errors and intervals: closed forms by hand, coverage by simulation."""

import numpy as np
import pytest
from scipy.stats import binomtest

from lmtasks.metric import Metric, estimate, make_metric, resample
from lmtasks.records import Choice, Floats, Outcome

from .examples import likelihoods, texts


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


def test_the_bootstrap_agrees_with_the_closed_form() -> None:
    """A perplexity per document is the exponential of a mean: by the delta method its stderr is value * s / sqrt(n)."""
    metric = make_metric("token_perplexity")
    draw = np.random.default_rng(3)
    rows = np.stack([draw.normal(-3.0, 0.5, size=400), np.ones(400)], axis=1)
    result = estimate(metric, rows, resamples=2000)
    assert result.stderr == pytest.approx(result.value * rows[:, 0].std(ddof=1) / 20, rel=0.06)


def test_coverage_of_a_proportion() -> None:
    """Of 95 % intervals over 200 Bernoulli(0.7) examples, about 95 % hold 0.7 (normal approximation: 94-95 %)."""
    metric = make_metric("acc")
    draw = np.random.default_rng(0)
    held = sum(covers(metric, rows_of((draw.random(200) < 0.7).astype(float)), 0.7) for _ in range(1000))
    assert 925 <= held <= 970


def test_coverage_of_a_bootstrap() -> None:
    """The same for a ratio: tokens 1-9, nats per token around 2; perplexity exp(2)."""
    metric = make_metric("token_perplexity")
    draw = np.random.default_rng(0)
    held = 0
    for _ in range(300):
        tokens = draw.integers(1, 10, size=100).astype(float)
        rows = np.stack([-tokens * draw.normal(2.0, 0.4, size=100), tokens], axis=1)
        held += covers(metric, rows, np.exp(2.0), resamples=200)
    assert 0.90 <= held / 300 <= 0.98


def covers(metric: Metric, rows: Floats, truth: float, resamples: int = 1000) -> bool:
    interval = estimate(metric, rows, resamples=resamples).ci95
    assert interval is not None
    return interval[0] <= truth <= interval[1]


@pytest.mark.parametrize("name", ["token_perplexity", "bleu"])
def test_a_seed_repeats_and_another_differs(name: str) -> None:
    metric = make_metric(name)
    rows = metric.statistics(likelihoods(30) if metric.takes == "likelihood" else texts(30))
    assert estimate(metric, rows) == estimate(metric, rows)
    assert estimate(metric, rows, seed=1).ci95 != estimate(metric, rows, seed=2).ci95
    assert estimate(metric, rows, seed=1).value == estimate(metric, rows, seed=2).value


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(0).integers(10, size=(50, 3)).astype(float)
    whole = [sums(rows, resamples=33, seed=7) for sums in (resample.bootstrap_sums, resample.swapped_sums)]
    monkeypatch.setattr(resample, "CELLS_AT_ONCE", 104)  # two resamples at once
    parts = [sums(rows, resamples=33, seed=7) for sums in (resample.bootstrap_sums, resample.swapped_sums)]
    assert all(np.array_equal(a, b) for a, b in zip(whole, parts, strict=True))


def test_a_resample_draws_as_many_examples_as_there_are() -> None:
    sums = resample.bootstrap_sums(np.ones((17, 1)), resamples=9, seed=0)
    assert np.array_equal(sums, np.full((9, 1), 17.0))
