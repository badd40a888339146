import numpy as np
import pytest

from lmtasks.bench.percentile import least_samples, percentile, throughput_interval


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
