from collections.abc import Mapping
from dataclasses import replace

import pytest
from speed_records import LIMITS, MEMORY, UNDER_LOAD, times

from lmtasks.bench.judge import QualityDrop, cheapest, core_seconds, judge, parse_requirements, why_none
from lmtasks.bench.pool import pooled
from lmtasks.errors import UsageError
from lmtasks.results.speed import SpeedRecord

FAST = pooled(
    [times("fast", slower=0.5)] * 3, memory=MEMORY.model_copy(update={"peak_memory_bytes": 900_000_000}), limits=LIMITS
)
SLOW = pooled([times("slow")] * 3, memory=MEMORY, limits=LIMITS)
NONE: Mapping[str, Mapping[str, QualityDrop]] = {}


def said(
    text: str, record: SpeedRecord, drops: Mapping[str, Mapping[str, QualityDrop]] = NONE
) -> list[tuple[bool, str]]:
    (judged,) = judge(parse_requirements(text), records=[record], drops=drops)
    return [(verdict.fulfilled, verdict.reason) for verdict in judged.verdicts]


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ("", r"--require was empty; write NAME<=NUMBER.*Known: p50_ms"),
        ("p95_ms<50", r"--require: 'p95_ms<50' is no requirement; write NAME<=NUMBER, for a latency under load"),
        ("p95_ms<=fast", r"'p95_ms<=fast' is no requirement"),
        ("p95_ms<=50@20", r"'p95_ms<=50@20' is no requirement"),
        ("dorp<=1", r"unknown requirement 'dorp'; did you mean 'drop'"),
        ("p97_ms<=50", r"p97_ms is not measured; percentiles are p50, p90, p95, p99"),
        ("p95_ms>=50", r"p95_ms is wanted at most so large, write p95_ms<=50, not 'p95_ms>=50'"),
        ("tokens_per_s<=9", r"tokens_per_s is wanted at least so large, write tokens_per_s>=9"),
        ("peak_mb<=9@20rps", r"only a latency is measured under a load, so peak_mb takes no @20rps"),
        ("p95_ms<=9@0rps", r"asks for 0 requests a second"),
    ],
)
def test_what_cannot_be_required_is_refused(given: str, error: str) -> None:
    with pytest.raises(UsageError, match=error):
        parse_requirements(given)


def test_latencies_are_held_to_the_loop_that_was_meant() -> None:
    assert said("p50_ms<=50", SLOW) == [(True, "48 ms on t")]
    assert said("p95_ms<=50@20rps", SLOW) == [(True, "50 ms on t")]
    assert said("ttft_p50_ms<=25, itl_p99_ms<=2", SLOW) == [
        (False, "30 ms on t"),
        (False, "t has 216 samples, p99 needs 459: more --seconds or --rounds"),
    ]
    assert said("p95_ms<=50@30rps", SLOW) == [(False, "not measured on t")]


def test_a_pass_that_the_samples_leave_open_says_so() -> None:
    spread = replace(UNDER_LOAD, latency_ms=(*[50.0] * 48, 80.0, 90.0))
    record = pooled([times(load=spread)] * 2, memory=MEMORY, limits=LIMITS)
    ((fulfilled, why),) = said("p95_ms<=60@20rps", record)
    assert fulfilled
    assert why == "50 ms on t; 100 samples do not exclude up to 90 ms (99 % confidence)"


def test_who_does_not_keep_up_fails_whatever_the_numbers_say() -> None:
    cut = replace(UNDER_LOAD, answered=10)
    record = pooled([times(load=cut)] * 3, memory=MEMORY, limits=LIMITS)
    ((fulfilled, why),) = said("p95_ms<=500@20rps", record)
    assert not fulfilled
    assert why.startswith("on t it could not keep up with 20 requests a second: 30 of 150 were answered")


def test_figures_and_throughput() -> None:
    assert said("peak_mb<=500, disk_mb<=49, cold_s<=0.8, load_s<=0.3", SLOW) == [
        (True, "400 MB"),
        (False, "50 MB"),
        (True, "0.8 s"),
        (False, "0.4 s"),
    ]
    assert said("tokens_per_s>=3000", SLOW) == [(True, "3333 tokens/s on t")]
    assert said("examples_per_s>=300", SLOW) == [(True, "333.3 examples/s on t")]


def test_a_drop_is_the_worst_one() -> None:
    drops = {"slow": {"t": QualityDrop(value=0.4, ci95=(-0.2, 1.3), unit="points")}}
    assert said("drop<=1", SLOW, drops) == [
        (True, "0.40 points on t; the 95 % interval does not exclude 1.30"),
    ]
    worse = {
        "slow": {"t": QualityDrop(value=0.4, ci95=None, unit="points"), "u": QualityDrop(value=2, ci95=None, unit="%")}
    }
    assert said("drop<=1", SLOW, worse) == [(False, "2.00 % on u")]
    assert said("drop<=1", SLOW) == [(False, "not scored on t")]


def test_the_cheapest_needs_the_fewest_core_seconds_and_not_the_least_memory() -> None:
    requirements = parse_requirements("p50_ms<=60")
    assert core_seconds(SLOW) == pytest.approx(0.048 / 16, rel=1e-5)
    two_threads = pooled([times("two", slower=0.6, threads=2)] * 3, memory=MEMORY, limits=LIMITS)
    judged = judge(requirements, records=[SLOW, two_threads, FAST], drops={})
    best = cheapest(judged)
    assert best is not None
    assert best.variant == "fast"
    best = cheapest(judge(requirements, records=[two_threads, SLOW], drops={}))
    assert best is not None
    assert best.variant == "slow"  # 1 thread for 3 ms an answer against 2 for 1.8
    equal = pooled([times("equal")] * 3, memory=MEMORY.model_copy(update={"peak_memory_bytes": 1000}), limits=LIMITS)
    best = cheapest(judge(requirements, records=[SLOW, equal], drops={}))
    assert best is not None
    assert best.variant == "equal"


def test_where_none_fulfils_all_each_is_told_with_what_it_misses() -> None:
    judged = judge(parse_requirements("p50_ms<=30, peak_mb<=500"), records=[FAST, SLOW], drops={})
    assert cheapest(judged) is None
    assert why_none(judged) == (
        "no variant fulfils --require: fast misses peak_mb<=500 (900 MB); slow misses p50_ms<=30 (48 ms on t)."
    )
