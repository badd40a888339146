"""The open loop, on a clock that only moves when the engine of known latency works: every number is exact."""

from itertools import pairwise
from statistics import fmean

import pytest
from fake_engine import PREFILL_MS, TOKEN_MS, Clock, SleepingEngine

from lmtasks.bench.load import LoadSpeed, time_load
from lmtasks.bench.percentile import percentile
from lmtasks.bench.workload import Arrival, Load, Workload, WorkRequest, schedule
from lmtasks.errors import UsageError

REQUESTS = tuple(WorkRequest(ids=(number, number + 1)) for number in range(8))
HEAD = Workload(task="t", kind="head", head="h", requests=REQUESTS)
NEW_TOKENS = 10
TEXT = Workload(task="t", kind="generate", new_tokens=NEW_TOKENS, requests=REQUESTS)


def under(
    engine_clock: Clock, engine: SleepingEngine, work: Workload, *, rate: float, count: int, rows: int,
    arrival: Arrival = "even",
) -> LoadSpeed:  # fmt: skip
    load = Load(rate=rate, count=count, arrival=arrival)
    return time_load(engine, workload=work, load=load, rows=rows, now=engine_clock.now, sleep=engine_clock.sleep)


def test_without_a_queue_a_latency_is_the_service_time() -> None:
    clock = Clock()
    speed = under(clock, SleepingEngine(sleep=clock.sleep), HEAD, rate=20, count=100, rows=1)
    assert speed.latency_ms == pytest.approx([PREFILL_MS] * 100)
    assert speed.busy_share == pytest.approx(30 / 50, abs=0.01)
    assert speed.note == ""
    assert speed.batching == "queued"


def test_a_stall_shows_in_every_request_that_waited_behind_it() -> None:
    """500 ms more in request 20; one comes every 50 ms and takes 30: the wait shrinks by 20 ms a request."""
    clock = Clock()
    engine = SleepingEngine(sleep=clock.sleep, stalls={20: 500})
    speed = under(clock, engine, HEAD, rate=20, count=100, rows=1)
    waits = [max(0, 500 - 20 * behind) for behind in range(80)]
    assert speed.latency_ms == pytest.approx([PREFILL_MS] * 20 + [PREFILL_MS + wait for wait in waits])
    # A closed loop would have seen one slow request of a hundred, and a 95th percentile of 30 ms.
    assert percentile(speed.latency_ms, 95) == pytest.approx(430, abs=10)


def test_who_waits_is_answered_together() -> None:
    clock = Clock()
    engine = SleepingEngine(sleep=clock.sleep, stalls={0: 970})
    speed = under(clock, engine, HEAD, rate=10, count=14, rows=4)
    assert engine.rows[:4] == [1, 4, 4, 2]  # ten came in the first second
    assert speed.answered == 14


def test_texts_join_those_that_are_being_written() -> None:
    """Each is read (30 ms) while others wait, then all get a token every 2 ms."""
    clock = Clock()
    speed = under(clock, SleepingEngine(sleep=clock.sleep), TEXT, rate=10, count=40, rows=8)
    assert speed.batching == "joined"
    assert speed.ttft_ms == pytest.approx([PREFILL_MS] * 40)
    assert speed.itl_ms == pytest.approx([TOKEN_MS] * 40 * (NEW_TOKENS - 1))
    assert speed.latency_ms == pytest.approx([PREFILL_MS + TOKEN_MS * (NEW_TOKENS - 1)] * 40)


def test_a_prompt_that_is_read_holds_up_the_texts_beside_it() -> None:
    clock = Clock()
    speed = under(clock, SleepingEngine(sleep=clock.sleep), TEXT, rate=25, count=2, rows=8)
    # The second comes at 40 ms, while the first one's sixth token is made (30, 32, 34, 36, 38, 40).
    assert max(speed.itl_ms) == pytest.approx(PREFILL_MS + TOKEN_MS)
    assert speed.latency_ms[0] == pytest.approx(30 + 9 * TOKEN_MS + PREFILL_MS)


def test_texts_wait_for_the_next_batch_where_none_can_join() -> None:
    clock = Clock()
    engine = SleepingEngine(sleep=clock.sleep, joining=False)
    speed = under(clock, engine, TEXT, rate=25, count=3, rows=8)
    assert speed.batching == "queued"
    # 48 ms each: the second waits 8 ms of it, the third 16.
    assert speed.latency_ms == pytest.approx([48, 56, 64])
    assert speed.ttft_ms == pytest.approx([30, 38, 46])
    assert speed.itl_ms == pytest.approx([TOKEN_MS] * 27)


def test_an_engine_that_cannot_keep_up_is_cut_and_those_who_waited_count() -> None:
    clock = Clock()
    speed = under(clock, SleepingEngine(sleep=clock.sleep), HEAD, rate=200, count=1000, rows=1)
    assert speed.answered < 1000
    assert len(speed.latency_ms) == 1000
    assert speed.note.startswith(
        f"could not keep up with 200 requests a second: {speed.answered} of 1000 were answered"
    )
    assert max(speed.latency_ms) > 5000
    assert speed.busy_share == pytest.approx(1)


def test_an_engine_at_its_limit_is_told() -> None:
    clock = Clock()
    speed = under(clock, SleepingEngine(sleep=clock.sleep), HEAD, rate=1000 / 30.5, count=100, rows=1)
    assert speed.answered == 100
    assert "hardly kept up" in speed.note


def test_arrivals_are_drawn_by_the_seed_and_keep_their_rate() -> None:
    load = Load(rate=50, count=4000)
    due = schedule(load, name="t")
    assert due == schedule(load, name="t")
    assert due != schedule(Load(rate=50, count=4000, seed=2), name="t")
    assert due != schedule(load, name="u")
    assert due[0] == 0
    gaps = [after - before for before, after in pairwise(due)]
    assert fmean(gaps) == pytest.approx(1 / 50, rel=0.05)
    # Exponential gaps: the share above the mean is 1/e.
    assert fmean(gap > 1 / 50 for gap in gaps) == pytest.approx(0.368, abs=0.03)


def test_impossible_loads_are_refused() -> None:
    with pytest.raises(UsageError, match="a rate above 0 and at least 1 request, was 0 and 5"):
        Load(rate=0, count=5)
    with pytest.raises(UsageError, match="unknown arrival 'poison'; did you mean 'poisson'"):
        Load(rate=1, count=5, arrival="poison")  # type: ignore[arg-type]
