"""The closed loop measures an engine of known latency: 30 ms until the first token, 2 ms for each further one."""

import pytest
from fake_engine import PREFILL_MS, TOKEN_MS, SleepingEngine

from lmtasks.bench.speed import SpeedSettings, measure
from lmtasks.bench.workload import Workload, WorkRequest, at_length
from lmtasks.errors import UsageError, WorkError

QUICK = SpeedSettings(batch_sizes=(1, 4), least_seconds=0.1, most_warm_up_seconds=0.35)
REQUESTS = tuple(WorkRequest(ids=(number, number + 1), types=(0, 0), target_ids=(3,)) for number in range(8))
NEW_TOKENS = 10


def near(known_ms: float) -> tuple[float, float]:
    """A sleep is never shorter, and on a busy machine a little longer."""
    return known_ms, known_ms * 1.25 + 3


def test_a_fake_engines_latency_is_found() -> None:
    work = Workload(task="t", kind="generate", new_tokens=NEW_TOKENS, requests=REQUESTS)
    alone, together = measure(SleepingEngine(), workload=work, batch_sizes=(1, 4), settings=QUICK)
    low, high = near(PREFILL_MS + TOKEN_MS * (NEW_TOKENS - 1))
    record = alone.as_json()
    latency, first, between = (record[name] for name in ("latency_ms", "ttft_ms", "itl_ms"))
    assert isinstance(latency, dict)
    assert low <= latency["p50"] <= high
    assert latency["p90"] is None  # fewer than 44 calls
    assert isinstance(first, dict)
    assert near(PREFILL_MS)[0] <= first["p50"] <= near(PREFILL_MS)[1]
    assert first["n"] == latency["n"]  # of each call its own, none of the warm-up
    assert isinstance(between, dict)
    assert near(TOKEN_MS)[0] <= between["p50"] <= near(TOKEN_MS)[1]
    assert between["n"] == first["n"] * (NEW_TOKENS - 1)
    assert alone.batch_size == 1
    assert together.batch_size == 4
    assert set(together.units) == {4 * NEW_TOKENS}
    assert together.as_json()["ttft_ms"] is None
    assert 1000 * 4 * NEW_TOKENS / high <= together.throughput <= 1000 * 4 * NEW_TOKENS / low
    assert record["unit"] == "tokens/s"
    assert alone.note == ""
    assert alone.settled


@pytest.mark.parametrize("kind", ["head", "score"])
def test_heads_and_scores_count_requests(kind: str) -> None:
    work = Workload(task="t", kind="head" if kind == "head" else "score", head="h", requests=REQUESTS)
    (speed,) = measure(SleepingEngine(), workload=work, batch_sizes=(4,), settings=QUICK)
    low, high = near(PREFILL_MS)
    assert speed.unit == "requests/s"
    assert 4000 / high <= speed.throughput <= 4000 / low
    assert speed.read_tokens == (3,) * 8


def test_a_stall_is_seen_in_the_ninetieth_percentile_and_not_in_the_median() -> None:
    work = Workload(task="t", kind="head", head="h", requests=REQUESTS)
    settings = SpeedSettings(least_seconds=1.7, most_warm_up_seconds=0.05)
    stalling = SleepingEngine(stall_every=5, stall_ms=30)
    (speed,) = measure(stalling, workload=work, batch_sizes=(1,), settings=settings)
    latency = speed.as_json()["latency_ms"]
    assert isinstance(latency, dict)
    assert latency["n"] >= 44
    assert latency["p50"] < PREFILL_MS + 15
    assert latency["p90"] > PREFILL_MS + 25


def test_whole_passes_are_timed() -> None:
    work = Workload(task="t", kind="score", requests=REQUESTS)
    (speed,) = measure(SleepingEngine(), workload=work, batch_sizes=(1,), settings=QUICK)
    assert len(speed.raw_ms) % len(REQUESTS) == 0


def test_a_slow_engine_is_cut_and_the_record_says_so() -> None:
    work = Workload(task="t", kind="generate", new_tokens=20, requests=REQUESTS)
    settings = SpeedSettings(least_seconds=0.1, most_seconds=0.12, most_warm_up_seconds=0.01)
    (speed,) = measure(SleepingEngine(), workload=work, batch_sizes=(1,), settings=settings)
    assert len(speed.raw_ms) < len(REQUESTS)
    cut = f"cut after 0.12 s, {len(speed.raw_ms)} calls; a whole pass has 8"
    assert speed.note == f"{cut}; the times had not settled after 1 calls of warming up"
    assert not speed.settled


def test_a_small_workload_is_measured_under_its_true_batch_size() -> None:
    work = Workload(task="t", kind="score", requests=REQUESTS)
    (speed,) = measure(SleepingEngine(), workload=work, batch_sizes=(16,), settings=QUICK)
    assert speed.batch_size == 8
    assert set(speed.units) == {8}


def test_fixed_lengths_are_made_of_the_tasks_own_tokens() -> None:
    work = Workload(task="t", kind="score", requests=REQUESTS)
    fixed = at_length(work, 20)
    assert fixed.read_tokens == (20,) * 8
    assert fixed.requests[0].target_ids == (3,)
    assert {token for request in fixed.requests for token in request.ids} == set(range(9))
    with pytest.raises(UsageError, match="leaves no room before the 1 tokens that t scores"):
        at_length(work, 1)


def test_impossible_settings_and_workloads_are_refused() -> None:
    with pytest.raises(UsageError, match="batch sizes are 1 or more, were given 0"):
        SpeedSettings(batch_sizes=(0,))
    with pytest.raises(WorkError, match="the workload of t has no requests"):
        Workload(task="t", kind="score", requests=())
    with pytest.raises(UsageError, match="new_tokens of at least 1"):
        Workload(task="t", kind="generate", requests=REQUESTS)
