import numpy as np
import pytest

from lmtasks.bench.percentile import least_samples, percentile, throughput_interval, upper_bound


@pytest.mark.parametrize(("p", "least"), [(50, 7), (90, 44), (95, 90), (99, 459), (99.9, 4603)])
def test_thresholds_are_those_of_mlperf(p: float, least: int) -> None:
    """MLPerf loadgen early_stopping.cc, confidence 0.99, no sample above."""
    assert least_samples(p) == least


@pytest.mark.parametrize("p", [50, 90, 95, 99])
def test_percentile_is_numpys_and_needs_its_samples(p: float) -> None:
    samples = np.random.default_rng(3).gamma(2.0, size=least_samples(p)).tolist()
    assert percentile(samples, p) == pytest.approx(np.percentile(samples, p))
    assert percentile(samples[1:], p) is None


def test_throughput_interval_holds_the_rate_and_narrows_with_calls() -> None:
    draws = np.random.default_rng(5)
    seconds = draws.normal(0.1, 0.01, size=400)
    units = np.full(400, 16)
    few = throughput_interval(units=units[:20].tolist(), seconds=seconds[:20].tolist())
    many = throughput_interval(units=units.tolist(), seconds=seconds.tolist())
    assert few is not None
    assert many is not None
    assert many[0] < 160 < many[1]
    assert many[1] - many[0] < few[1] - few[0]
    assert throughput_interval(units=[16], seconds=[0.1]) is None


@pytest.mark.parametrize("p", [50, 90, 95, 99])
def test_the_bound_of_a_percentile_holds_99_times_in_100(p: float) -> None:
    """With the least number of samples it is the largest of them; with more, it covers the true percentile so often."""
    samples = np.random.default_rng(3).gamma(2.0, size=least_samples(p)).tolist()
    assert upper_bound(samples, p) == max(samples)
    assert upper_bound(samples[1:], p) is None
    draws = np.random.default_rng(4).uniform(size=(2000, 2 * least_samples(p)))
    held = np.mean([(upper_bound(row.tolist(), p) or 0.0) >= p / 100 for row in draws])
    assert held >= 0.985


def test_the_bound_is_scipys_binomial_quantile() -> None:
    stats = pytest.importorskip("scipy.stats")
    for n, p in ((100, 90), (500, 95), (1000, 99), (60, 50)):
        k = int(stats.binom.ppf(0.99, n, p / 100)) + 1
        assert upper_bound(range(n), p) == min(k, n) - 1
