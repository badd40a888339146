"""The closed loop measures an engine of known latency: 30 ms until the first token, 2 ms for each further one.

The clock moves when the engine works, and by nothing else, so that every number is exact. `test_isolate.py` measures
the same engine on the real clock.
"""

import pytest
from fake_engine import PREFILL_MS, TOKEN_MS, Clock, SleepingEngine
from speed_records import LIMITS

from lmtasks.bench.pool import timing
from lmtasks.bench.speed import SpeedSettings, WorkloadSpeed, time_workload
from lmtasks.bench.workload import Workload, WorkRequest, answer_to, at_length
from lmtasks.errors import UsageError, WorkError
from lmtasks.results.speed import Percentiles

QUICK = SpeedSettings(least_seconds=0.1)
REQUESTS = tuple(WorkRequest(ids=(number, number + 1), types=(0, 0), target_ids=(3,)) for number in range(8))
NEW_TOKENS = 10


def timed(
    work: Workload, *, batch_size: int = 1, settings: SpeedSettings = QUICK, stall_every: int = 0, stall_ms: float = 0
) -> WorkloadSpeed:
    clock = Clock()
    engine = SleepingEngine(sleep=clock.sleep, stall_every=stall_every, stall_ms=stall_ms)
    answer = answer_to(engine, workload=work)
    return time_workload(answer, workload=work, batch_size=batch_size, settings=settings, now=clock.now_ns)


def test_a_texts_latency_its_first_token_and_the_time_between_tokens_are_found() -> None:
    speed = timed(Workload(task="t", kind="generate", new_tokens=NEW_TOKENS, requests=REQUESTS))
    whole = PREFILL_MS + TOKEN_MS * (NEW_TOKENS - 1)
    record = timing([speed], limits=LIMITS, precision="fp32")
    assert record.ttft_ms is not None
    assert record.itl_ms is not None
    assert speed.raw_ms == pytest.approx([whole] * len(speed.raw_ms))
    assert record.latency_ms == Percentiles(p50=whole, p90=None, p95=None, p99=None, n=len(speed.raw_ms))
    assert record.ttft_ms.p50 == PREFILL_MS
    assert record.ttft_ms.n == len(speed.raw_ms)  # of each call its own, none of warming up
    assert record.itl_ms.p50 == record.itl_ms.p90 == TOKEN_MS
    assert record.itl_ms.n == len(speed.raw_ms) * (NEW_TOKENS - 1)
    assert speed.throughput == pytest.approx(1000 * NEW_TOKENS / whole)
    assert record.unit == "tokens/s"
    assert speed.note == ""
    assert speed.settled
    assert speed.warm_up_ms == pytest.approx([whole] * 10)  # two windows of five


def test_several_texts_at_once_count_all_their_tokens() -> None:
    speed = timed(Workload(task="t", kind="generate", new_tokens=NEW_TOKENS, requests=REQUESTS), batch_size=4)
    assert set(speed.units) == {4 * NEW_TOKENS}
    assert speed.ttft_ms == ()
    assert timing([speed], limits=LIMITS, precision="fp32").ttft_ms is None
    assert speed.throughput == pytest.approx(1000 * 4 * NEW_TOKENS / (PREFILL_MS + TOKEN_MS * (NEW_TOKENS - 1)))


@pytest.mark.parametrize("kind", ["head", "score"])
def test_heads_and_scores_count_requests(kind: str) -> None:
    work = Workload(task="t", kind="head" if kind == "head" else "score", head="h", requests=REQUESTS)
    speed = timed(work, batch_size=4)
    assert speed.unit == "requests/s"
    assert speed.throughput == pytest.approx(4000 / PREFILL_MS)
    assert speed.read_tokens == (3,) * 8


def test_a_stall_is_seen_in_the_ninetieth_percentile_and_not_in_the_median() -> None:
    work = Workload(task="t", kind="head", head="h", requests=REQUESTS)
    speed = timed(work, settings=SpeedSettings(least_seconds=2), stall_every=5, stall_ms=500)
    latency = timing([speed], limits=LIMITS, precision="fp32").latency_ms
    assert (latency.p50, latency.p90) == (PREFILL_MS, None)
    speed = timed(work, settings=SpeedSettings(least_seconds=8), stall_every=5, stall_ms=500)
    latency = timing([speed], limits=LIMITS, precision="fp32").latency_ms
    assert (latency.p50, latency.p90) == (PREFILL_MS, PREFILL_MS + 500)


def test_whole_passes_are_timed() -> None:
    work = Workload(task="t", kind="score", requests=REQUESTS)
    speed = timed(work)
    assert len(speed.raw_ms) % len(REQUESTS) == 0


def test_a_slow_engine_is_cut_and_the_record_says_so() -> None:
    work = Workload(task="t", kind="generate", new_tokens=20, requests=REQUESTS)
    settings = SpeedSettings(least_seconds=0.1, most_seconds=0.12, most_warm_up_seconds=0.01)
    speed = timed(work, settings=settings)
    assert len(speed.raw_ms) < len(REQUESTS)
    cut = f"cut after 0.12 s, {len(speed.raw_ms)} calls; a whole pass has 8"
    assert speed.note == f"{cut}; the times had not settled after 1 calls of warming up"
    assert not speed.settled


def test_a_small_workload_is_measured_under_its_true_batch_size() -> None:
    work = Workload(task="t", kind="score", requests=REQUESTS)
    speed = timed(work, batch_size=16)
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
