import pytest
from speed_records import ALONE, LIMITS, MEMORY, UNDER_LOAD, times

from lmtasks.bench.pool import Round, load_timing, pooled, timing


def test_samples_of_all_rounds_make_percentiles_that_one_round_cannot() -> None:
    rounds = [times(slower=factor) for factor in (1.0, 1.1, 1.0)]
    record = pooled(rounds, memory=MEMORY, limits=LIMITS)
    alone, together = record.workloads
    single = timing([ALONE], limits=LIMITS, precision="fp32")
    assert single.ttft_ms is not None
    assert single.ttft_ms.p90 is None
    assert load_timing([UNDER_LOAD]).latency_ms.p95 is None
    assert alone.latency_ms.content() == {"p50": 48.0, "p90": None, "p95": None, "p99": None, "n": 24}
    assert alone.itl_ms is not None
    assert alone.itl_ms.n == 216
    assert alone.itl_ms.p95 == pytest.approx(2.2)
    (load,) = record.loads
    assert load.latency_ms.n == 150
    assert load.latency_ms.p95 == pytest.approx(55.0)
    assert load.busy_share == pytest.approx(0.6)
    assert alone.throughput == pytest.approx(1000 * 240 / (384 + 422.4 + 384), rel=1e-4)
    # In examples a second, 10 new tokens each, so that variants that ask otherwise are comparable.
    assert alone.rounds == pytest.approx((1000 * 8 / 384, 1000 * 8 / 384 / 1.1, 1000 * 8 / 384), rel=1e-4)
    assert together.throughput == pytest.approx(3 * 1280 / (3.1 * 0.384), rel=1e-4)
    assert record.rounds == 3
    assert record.peak_memory_bytes == 400_000_000


def test_the_distance_of_a_streamed_text_is_that_of_its_steps() -> None:
    """90 MB at 50 GB/s are 1.8 ms; a step takes 2."""
    alone, together = pooled([times()], memory=MEMORY, limits=LIMITS).workloads
    assert alone.limit is not None
    assert alone.limit.share == pytest.approx(0.9)
    assert alone.limit.of == "a step"
    assert alone.limit.bound == "memory"
    assert together.limit is None  # nobody said what it reads


def test_what_disturbed_a_round_is_said_once_with_how_often() -> None:
    rounds = [
        times(flags=["the hypervisor gave 2.0 % of it"], notes=["not idle"]),
        times(flags=["the hypervisor gave 3.5 % of it"]),
        times(),
    ]
    record = pooled(rounds, memory=MEMORY, limits=LIMITS)
    assert record.workloads[0].flags == ("the hypervisor gave 2.0 % of it (2 times in 3 rounds)",)
    assert record.notes == ("not idle (once in 3 rounds)",)


def test_a_timing_survives_its_record() -> None:
    record = pooled([times()], memory=MEMORY, limits=LIMITS)
    assert record.workloads[0].raw_ms == ALONE.raw_ms
    again = pooled([Round.model_validate(times().content())], memory=MEMORY, limits=LIMITS)
    assert again.content() == record.content()
