"""The rounds of a variant as one speed record: samples of all rounds together, so that percentiles have enough of them.

The record is what `runs/<plan>/speed/<variant>.json` holds and a report reads.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import chain
from statistics import fmean, median

from lmtasks.bench.load import LoadSpeed
from lmtasks.bench.percentile import percentile, rounded, throughput_interval
from lmtasks.bench.rate_search import LargestRate
from lmtasks.bench.roofline import distance
from lmtasks.bench.speed import WorkloadSpeed
from lmtasks.records import Json, RuntimeCard
from lmtasks.results.base import StoredModel
from lmtasks.results.cell import Variant
from lmtasks.results.speed import (
    Artefact,
    BilledTokens,
    LimitShare,
    LoadTiming,
    MachineLimits,
    MaxRate,
    PassRecord,
    Percentiles,
    SpeedRecord,
    Timing,
    TriedRateRecord,
)


class Round(StoredModel):
    """One round of a variant, as the process says that timed it (`measure.measure_times`)."""

    variant: Variant
    artefact: Artefact
    runtime: RuntimeCard
    machine: Json
    versions: Json
    threads: int
    import_seconds: float
    open_seconds: float
    first_seconds: float
    load_seconds: float
    disk_bytes_read: int | None
    workloads: tuple[WorkloadSpeed, ...]
    loads: tuple[LoadSpeed, ...]
    max_rates: tuple[LargestRate, ...] = ()
    kernel_gflop_per_s: float
    notes: tuple[str, ...]


class Memory(StoredModel):
    """Bytes that a variant needs, as the process says that measured nothing else (`measure.measure_memory`)."""

    peak_memory_bytes: int
    """Beyond the imports."""
    loading_memory_bytes: int
    import_memory_bytes: int


def pooled(rounds: Sequence[Round], *, memory: Memory, limits: MachineLimits) -> SpeedRecord:
    """One record of all rounds.

    Args:
        limits: measured with as many threads.
    """
    first = rounds[0]
    timings = list(zip(*(each.workloads for each in rounds), strict=True))
    loads = list(zip(*(each.loads for each in rounds), strict=True))
    return SpeedRecord(
        schema=SpeedRecord.current,
        variant=first.variant,
        artefact=first.artefact,
        runtime=first.runtime,
        machine=first.machine,
        versions=first.versions,
        threads=first.threads,
        import_seconds=_median([each.import_seconds for each in rounds]),
        open_seconds=_median([each.open_seconds for each in rounds]),
        first_seconds=_median([each.first_seconds for each in rounds]),
        load_seconds=_median([each.load_seconds for each in rounds]),
        disk_bytes_read=first.disk_bytes_read,
        workloads=tuple(timing(parts, limits=limits, precision=first.runtime.precision) for parts in timings),
        loads=tuple(load_timing(parts) for parts in loads),
        max_rates=tuple(max_rate(parts) for parts in zip(*(each.max_rates for each in rounds), strict=True)),
        kernel_gflop_per_s=tuple(each.kernel_gflop_per_s for each in rounds),
        notes=tuple(_once([note for each in rounds for note in each.notes], len(rounds))),
        peak_memory_bytes=memory.peak_memory_bytes,
        loading_memory_bytes=memory.loading_memory_bytes,
        import_memory_bytes=memory.import_memory_bytes,
        rounds=len(rounds),
        limits=limits,
    )


def timing(parts: Sequence[WorkloadSpeed], *, limits: MachineLimits, precision: str) -> Timing:
    """The rounds of a workload at a batch size as one. Percentiles without enough samples are None, as is the interval
    of one call."""
    pool = _pooled_speed(parts)
    interval = throughput_interval(units=pool.units, seconds=[ms / 1000 for ms in pool.raw_ms])
    return Timing(
        task=pool.task,
        kind=pool.kind,
        batch_size=pool.batch_size,
        length=pool.length,
        unit=pool.unit,
        new_tokens=pool.new_tokens,
        read_tokens=pool.read_tokens,
        requests_per_example=pool.requests_per_example,
        latency_ms=_percentiles(pool.raw_ms),
        ttft_ms=_percentiles(pool.ttft_ms) if pool.ttft_ms else None,
        itl_ms=_percentiles(pool.itl_ms) if pool.itl_ms else None,
        throughput=rounded(pool.throughput),
        examples_per_s=rounded(pool.examples_per_s),
        throughput_ci95=None if interval is None else (rounded(interval[0]), rounded(interval[1])),
        warm_up_calls=len(pool.warm_up_ms),
        settled=pool.settled,
        warm_up_ms=pool.warm_up_ms,
        raw_ms=pool.raw_ms,
        raw_units=pool.units,
        raw_ttft_ms=pool.ttft_ms,
        raw_itl_ms=pool.itl_ms,
        note=pool.note,
        flags=pool.flags,
        passes=None if pool.passes is None else tuple(PassRecord(**asdict(each)) for each in pool.passes),
        rounds=tuple(rounded(part.examples_per_s) for part in parts),
        limit=_limit_share(pool, limits=limits, precision=precision),
        rows_together=pool.rows_together,
        billed=None if pool.billed is None else BilledTokens(read=pool.billed[0], written=pool.billed[1]),
    )


def load_timing(parts: Sequence[LoadSpeed]) -> LoadTiming:
    """The rounds of a workload under a load as one. Percentiles without enough samples are None."""
    pool = _pooled_load(parts)
    return LoadTiming(
        task=pool.task,
        kind=pool.kind,
        length=pool.length,
        rate=pool.load.rate,
        arrival=pool.load.arrival,
        seed=pool.load.seed,
        batching=pool.batching,
        rows=pool.rows,
        requests=len(pool.latency_ms),
        answered=pool.answered,
        latency_ms=_percentiles(pool.latency_ms),
        ttft_ms=_percentiles(pool.ttft_ms) if pool.ttft_ms else None,
        itl_ms=_percentiles(pool.itl_ms) if pool.itl_ms else None,
        seconds=rounded(pool.seconds),
        busy_seconds=rounded(pool.busy_seconds),
        busy_share=rounded(pool.busy_share),
        raw_latency_ms=pool.latency_ms,
        raw_ttft_ms=pool.ttft_ms,
        raw_itl_ms=pool.itl_ms,
        note=pool.note,
        flags=pool.flags,
        failed=pool.failed,
    )


def max_rate(parts: Sequence[LargestRate]) -> MaxRate:
    """The rounds of a search as one."""
    return MaxRate(
        task=parts[0].task,
        name=parts[0].goal.name,
        limit_ms=parts[0].goal.limit_ms,
        rate=rounded(median(part.rate for part in parts)),
        rounds=tuple(rounded(part.rate) for part in parts),
        tried=tuple(
            TriedRateRecord(
                rate=rounded(each.rate),
                value_ms=None if each.value_ms is None else rounded(each.value_ms),
                held=each.held,
            )
            for part in parts
            for each in part.tried
        ),
    )


def _limit_share(pool: WorkloadSpeed, *, limits: MachineLimits, precision: str) -> LimitShare | None:
    """Of a streamed generation its steps, else a whole call."""
    passes = pool.passes or ()
    between, middle, of = percentile(pool.itl_ms, 50), percentile(pool.raw_ms, 50), "a call"
    if between is not None and len(passes) == 2:
        passes, middle, of = (replace(passes[1], count=1),), between, "a step"
    if middle is None or not passes:
        return None
    found = distance(passes, seconds=middle / 1000, limits=limits, precision=precision)
    if found is None:
        return None
    return LimitShare(share=round(found.share, 4), bound=found.bound, how=found.how, of=of)


def _pooled_speed(parts: Sequence[WorkloadSpeed]) -> WorkloadSpeed:
    return replace(
        parts[0],
        raw_ms=_joined([part.raw_ms for part in parts]),
        units=tuple(unit for part in parts for unit in part.units),
        ttft_ms=_joined([part.ttft_ms for part in parts]),
        itl_ms=_joined([part.itl_ms for part in parts]),
        warm_up_ms=_joined([part.warm_up_ms for part in parts]),
        settled=all(part.settled for part in parts),
        billed=_mean_billed([part.billed for part in parts]),
        note="; ".join(_once([part.note for part in parts if part.note], len(parts))),
        flags=tuple(_once([flag for part in parts for flag in part.flags], len(parts))),
    )


def _mean_billed(billed: Sequence[tuple[float, float] | None]) -> tuple[float, float] | None:
    known = [each for each in billed if each is not None]
    return (fmean(read for read, _ in known), fmean(written for _, written in known)) if known else None


def _pooled_load(parts: Sequence[LoadSpeed]) -> LoadSpeed:
    return replace(
        parts[0],
        latency_ms=_joined([part.latency_ms for part in parts]),
        answered=sum(part.answered for part in parts),
        ttft_ms=_joined([part.ttft_ms for part in parts]),
        itl_ms=_joined([part.itl_ms for part in parts]),
        seconds=sum(part.seconds for part in parts),
        busy_seconds=sum(part.busy_seconds for part in parts),
        failed=sum(part.failed for part in parts),
        flags=tuple(_once([flag for part in parts for flag in part.flags], len(parts))),
    )


def _once(sentences: Sequence[str], rounds: int) -> list[str]:
    """Each sentence once, but for its numbers; with how many there were where rounds are several.

    >>> _once(["2 % stolen", "3 % stolen", "hot"], 3)
    ['2 % stolen (2 times in 3 rounds)', 'hot (once in 3 rounds)']
    """
    alike: dict[str, list[str]] = {}
    for sentence in sentences:
        alike.setdefault("".join(mark for mark in sentence if not mark.isdigit()), []).append(sentence)
    if rounds == 1:
        return [group[0] for group in alike.values()]
    return [
        f"{group[0]} ({'once' if len(group) == 1 else f'{len(group)} times'} in {rounds} rounds)"
        for group in alike.values()
    ]


def _percentiles(samples: Sequence[float]) -> Percentiles:
    p50, p90, p95, p99 = (percentile(samples, p) for p in (50, 90, 95, 99))
    return Percentiles(
        p50=None if p50 is None else rounded(p50),
        p90=None if p90 is None else rounded(p90),
        p95=None if p95 is None else rounded(p95),
        p99=None if p99 is None else rounded(p99),
        n=len(samples),
    )


def _joined(parts: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    return tuple(chain.from_iterable(parts))


def _median(seconds: Sequence[float]) -> float:
    return round(median(seconds), 3)
