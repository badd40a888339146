"""The largest rate at which a latency holds, requests that a server answers by themselves, and the cost of answers."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from fake_engine import CARD, MODEL, SleepingEngine
from speed_records import LIMITS, MEMORY, UNDER_LOAD, times

from lmtasks.bench.costs import HourPrice, Prices, TokenPrice, parse_hour_price, parse_prices, parse_token_price, priced
from lmtasks.bench.judge import judge, parse_requirements, with_goodput
from lmtasks.bench.load import MOST_AT_ONCE, time_load
from lmtasks.bench.measure import OpenedVariant, measure_times
from lmtasks.bench.pool import Round, max_rate, pooled
from lmtasks.bench.rate_search import CLOSE, LargestRate, RateGoal, TriedRate, largest_rate
from lmtasks.bench.spec import SpeedSpec, spec_from_json
from lmtasks.bench.speed import SpeedSettings
from lmtasks.bench.workload import Load, Workload, WorkRequest
from lmtasks.engine.requests import Generated, GenerateRequest, OnToken
from lmtasks.errors import UsageError, WorkError
from lmtasks.results.cell import Variant
from lmtasks.results.speed import BilledTokens
from lmtasks.workflow.workloads import goals_of, loads_of

REQUESTS = tuple(WorkRequest(ids=(number, number + 1)) for number in range(8))
HEAD = Workload(task="t", kind="head", head="h", requests=REQUESTS)
TEXT = Workload(task="t", kind="generate", new_tokens=3, requests=REQUESTS)
GOAL = RateGoal(percentile=50, limit_ms=60)
RUN = pooled([times()] * 3, memory=MEMORY, limits=LIMITS)


@pytest.mark.parametrize("knee", [0.02, 3.0, 47.0, 900.0])
def test_a_search_ends_within_a_tenth_of_the_knee(knee: float) -> None:
    found = largest_rate(lambda rate: (10.0 if rate <= knee else 99.0, True), GOAL, first=10)
    assert found.rate <= knee < found.rate * CLOSE
    assert len(found.tried) < 20
    assert all(each.held == (each.rate <= knee) for each in found.tried)


def test_where_nothing_holds_the_rate_is_none_and_where_all_does_the_search_ends() -> None:
    assert largest_rate(lambda rate: (99.0, True), GOAL, first=10).rate == 0
    assert largest_rate(lambda rate: (10.0, False), GOAL, first=10).rate == 0
    assert largest_rate(lambda rate: (None, True), GOAL, first=10).rate == 0
    endless = largest_rate(lambda rate: (1.0, True), GOAL, first=1)
    assert endless.rate == 2**12


class Server(SleepingEngine):
    """Answers each request by itself; every seventh is refused."""

    def __init__(self, *, failing: bool = False) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._failing = failing
        self.at_once, self.most_at_once, self.count = 0, 0, 0

    def generate(self, requests: list[GenerateRequest], *, on_token: OnToken | None = None) -> list[Generated]:  # type: ignore[override]
        with self._lock:
            self.count += 1
            number = self.count
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self._failing and number % 7 == 0:
                raise WorkError("http://x answered 429: too many.")
            return list(super().generate(requests, on_token=on_token))
        finally:
            with self._lock:
                self.at_once -= 1


def test_requests_to_a_server_wait_for_none_that_is_on_its_way() -> None:
    """30 ms to the first token and 2 ms for each more, 100 requests a second: three or four are answered at a time."""
    server = Server()
    speed = time_load(server, workload=TEXT, load=Load(rate=100, count=60, arrival="even"), rows=1, apart=True)
    assert (speed.batching, speed.answered, speed.failed) == ("apart", 60, 0)
    assert 2 <= server.most_at_once <= MOST_AT_ONCE
    assert min(speed.latency_ms) >= 33
    assert sorted(speed.latency_ms)[30] < 200  # a machine under work is slow, but does not add them up: 60 * 34 = 2040
    assert len(speed.ttft_ms) == 60
    assert len(speed.itl_ms) == 120
    assert min(speed.ttft_ms) >= 29
    assert speed.note == ""


def test_a_refused_request_is_not_answered_and_said() -> None:
    speed = time_load(
        Server(failing=True), workload=TEXT, load=Load(rate=200, count=28, arrival="even"), rows=1, apart=True
    )
    assert (speed.answered, speed.failed, len(speed.latency_ms)) == (24, 4, 28)
    assert speed.note.startswith("4 of 28 requests failed")
    assert speed.flags == ("http://x answered 429: too many",)


def test_a_process_looks_for_the_largest_rate_behind_its_timings() -> None:
    settings = SpeedSettings(batch_sizes=(1,), least_seconds=0.1, most_warm_up_seconds=0.0, goals=(GOAL,))
    spec = SpeedSpec(
        variant={"name": "fake"}, ref=Path("x"), runtime="onnx", threads=1, workloads=(HEAD,),
        settings=settings,
    )  # fmt: skip
    assert spec_from_json(spec.as_json()).settings == settings
    record = measure_times(
        spec,
        open_engine=lambda spec: OpenedVariant(engine=SleepingEngine(), model=MODEL, card=CARD),
        import_seconds=0.0,
        report=lambda line: None,
    )
    (found,) = Round.model_validate(record).max_rates
    assert found.task == "t"
    assert found.goal == GOAL
    held = [tried.rate for tried in found.tried if tried.held]
    assert found.rate == max(held) < min(tried.rate for tried in found.tried if not tried.held)
    assert found.rate > 4  # 30 ms each; how many of those that wait are answered together is the engine's
    assert len(found.tried) >= 3


def test_a_requirement_at_the_largest_rate() -> None:
    (asked,) = required = parse_requirements("p95_ms<=500@max")
    assert str(asked) == "p95_ms<=500@max"
    assert asked.at_max
    assert loads_of((), arrival="even", requirements=required, rounds=1, seconds=1, seed=1) == ()
    assert goals_of(required) == (RateGoal(percentile=95, limit_ms=500),)
    goal = goals_of(required)[0]

    def held(rate: float) -> tuple[bool, str]:
        tried = (TriedRate(rate=8.0, value_ms=90.0, held=rate > 0), TriedRate(rate=16.0, value_ms=None, held=False))
        part = LargestRate(task="t", goal=goal, rate=rate, tried=tried)
        record = RUN.model_copy(update={"max_rates": (max_rate([part, replace(part, rate=rate * 2)]),)})
        (judged,) = judge(required, records=[record], drops={})
        return judged.verdicts[0].fulfilled, judged.verdicts[0].reason

    assert held(8.0) == (True, "up to 12 requests/s on t")
    assert held(0.0) == (False, "on t it does not hold at 8 requests/s either")
    (judged,) = judge(required, records=[RUN], drops={})
    assert judged.verdicts[0].reason == "not measured on t"
    with pytest.raises(UsageError, match="so drop takes no @max"):
        parse_requirements("drop<=1@max")


def test_goodput_counts_what_is_within_all_limits() -> None:
    load = replace(UNDER_LOAD, latency_ms=(40.0,) * 45 + (90.0,) * 5, ttft_ms=(20.0,) * 40 + (35.0,) * 10)
    record = pooled([times(load=load)], memory=MEMORY, limits=LIMITS)
    for require, good in (("p95_ms<=50@20rps", 45), ("p95_ms<=50, ttft_p95_ms<=30", 40), ("p50_ms<=10", 0)):
        (told,) = with_goodput(record, parse_requirements(require)).loads
        assert told.goodput_per_s == pytest.approx(good / 2.5)
    assert with_goodput(record, parse_requirements("drop<=1")).loads[0].goodput_per_s is None
    cut = pooled([times(load=replace(load, answered=44))], memory=MEMORY, limits=LIMITS)
    assert with_goodput(cut, parse_requirements("p95_ms<=1000")).loads[0].goodput_per_s == pytest.approx(44 / 2.5)


def test_the_cost_of_a_thousand_answers_of_a_server() -> None:
    """7 tokens read and 10 written on average, four requests an answer."""
    timings = [timing.model_copy(update={"requests_per_example": 4.0}) for timing in RUN.workloads]
    server = RUN.model_copy(update={"variant": Variant(name="s", runtime="endpoint"), "workloads": tuple(timings)})
    prices = parse_prices(tokens="0.5,2 EUR", hour="3")
    assert priced(server, prices).costs == ()  # what it was sent is text, and nobody knows its tokens
    server = server.model_copy(update={"runtime": replace(CARD, options={"asked": "token ids"})})
    (cost,) = priced(server, prices).costs
    assert cost.per_1000 == pytest.approx(1000 * 4 * (7 * 0.5 + 10 * 2) / 1e6)
    assert (cost.task, cost.currency) == ("t", "EUR")
    assert cost.how == "28 tokens read and 40 written an answer, as they were sent"
    billed = [each.model_copy(update={"billed": BilledTokens(read=100.0, written=8.0)}) for each in timings]
    (cost,) = priced(server.model_copy(update={"workloads": tuple(billed)}), prices).costs
    assert cost.per_1000 == pytest.approx(1000 * 4 * (100 * 0.5 + 8 * 2) / 1e6)
    assert cost.how.endswith("as the server bills them")
    assert priced(server, Prices(hour=HourPrice(price=1))).costs == ()


def test_the_cost_of_a_thousand_answers_of_this_machine() -> None:
    """At batch 16 a call takes 48 ms: 3 ms an answer, on one of four cores."""
    here = RUN.model_copy(update={"machine": {"cores_usable": 4}, "variant": Variant(name="a", device="cpu")})
    (cost,) = priced(here, Prices(hour=HourPrice(price=3.6))).costs
    assert cost.per_1000 == pytest.approx(1000 * 0.003 / 4 * 3.6 / 3600, rel=1e-5)
    assert cost.how == "0.003 core-seconds an answer on 4 cores, at batch 16"
    gpu = here.model_copy(update={"variant": Variant(name="a", device="cuda")})
    (cost,) = priced(gpu, Prices(hour=HourPrice(price=3.6))).costs
    assert cost.per_1000 == pytest.approx(1000 * 0.003 * 3.6 / 3600, rel=1e-5)
    assert priced(here, Prices(tokens=TokenPrice(read=1, written=1))).costs == ()


@pytest.mark.parametrize("text", ["", "1", "1;2", "a,b", "-1,2", "1,2,3"])
def test_prices_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--price is IN,OUT"):
        parse_token_price(text)
    with pytest.raises(UsageError, match="--price-hour is what an hour"):
        parse_hour_price(text if text != "1" else "x")


def test_a_memory_limit_of_a_server_is_not_known() -> None:
    server = RUN.model_copy(update={"variant": Variant(name="s", runtime="endpoint")})
    (judged,) = judge(parse_requirements("peak_mb<=100000"), records=[server], drops={})
    assert not judged.fulfils
    assert judged.verdicts[0].reason == "not known of a server, which is elsewhere"


def test_threads_that_wait_for_a_server_do_not_hold_up_the_schedule() -> None:
    class Slow(SleepingEngine):
        def predict(self, head: str, rows: object) -> list[object]:  # type: ignore[override]
            time.sleep(0.3)
            return [None]

    speed = time_load(Slow(), workload=HEAD, load=Load(rate=50, count=20, arrival="even"), rows=1, apart=True)
    assert speed.answered == 20
    assert speed.seconds < 2  # one after the other they would take six
