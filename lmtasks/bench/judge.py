"""Requirements (`--require`), the variants that fulfil them, and the one that does so most cheaply.

>>> [str(each) for each in parse_requirements("p95_ms<=50@20rps, drop <= 1")]
['p95_ms<=50@20rps', 'drop<=1']

Cheapest means: the fewest core-seconds an answer (threads x seconds of work), at the largest batch that was measured;
with several tasks their geometric mean. That is what a machine for this work costs, and it lets one thread compete with
two. Memory and size are for requirements of their own; of equals the one with the smaller peak memory is named.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log
from statistics import fmean

from lmtasks.bench.percentile import PERCENTILES, least_samples, percentile, rounded, upper_bound
from lmtasks.errors import UsageError, unknown
from lmtasks.results.speed import JudgedRecord, LoadTiming, SpeedRecord, Timing, VerdictRecord

PART = re.compile(r"^([a-z]\w*)\s*(<=|>=)\s*(\d+(?:\.\d+)?)(?:\s*@\s*(?:(\d+(?:\.\d+)?)\s*rps|(max)))?$")
FORM = (
    "write NAME<=NUMBER, for a latency under load NAME<=NUMBER@RATErps, for the largest rate at which it holds "
    "NAME<=NUMBER@max, with commas between"
)
QUANTITIES: Mapping[str, str] = {
    **{f"p{p}_ms": "latency of an answer" for p in PERCENTILES},
    **{f"ttft_p{p}_ms": "time to the first token" for p in PERCENTILES},
    **{f"itl_p{p}_ms": "time from token to token" for p in PERCENTILES},
    "examples_per_s": "throughput at the best batch size",
    "tokens_per_s": "new tokens at the best batch size, of tasks that write",
    "drop": "points of the main metric lost against the first variant",
    "peak_mb": "peak memory of the process, imported libraries among it",
    "disk_mb": "size of what was loaded",
    "load_s": "loading, to the first answers",
    "cold_s": "imports, opening and the first answer",
}
"""Quantities that can be required."""
AT_LEAST: Mapping[str, tuple[str, str]] = {
    "examples_per_s": ("examples/s", "examples_per_s"),
    "tokens_per_s": ("tokens/s", "throughput"),
}
"""Of these a variant must have so much, in which unit, and the field of a timing that tells; of everything else at most
so much."""
LATENCY = re.compile(r"^(ttft_|itl_|)p(\d+)_ms$")


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """One part of --require."""

    name: str
    at_most: bool
    limit: float
    rate: float | None = None
    """Requests a second under which a latency is meant; None: one request after the other."""
    at_max: bool = False
    """Is the largest rate asked for at which the latency holds?"""

    @property
    def latency(self) -> tuple[str, int] | None:
        """Which latency (empty: of the answer; `ttft_`, `itl_`), and its percentile; None for anything else."""
        found = LATENCY.match(self.name)
        return (found[1], int(found[2])) if found else None

    def __str__(self) -> str:
        rate = "@max" if self.at_max else "" if self.rate is None else f"@{self.rate:g}rps"
        return f"{self.name}{'<=' if self.at_most else '>='}{self.limit:g}{rate}"


@dataclass(frozen=True, kw_only=True)
class QualityDrop:
    """How much worse a variant's main metric is than that of the first one, on one task."""

    value: float
    """Points (0-100); percent of the first one's value where the metric has no such scale."""
    ci95: tuple[float, float] | None
    unit: str


@dataclass(frozen=True, kw_only=True)
class HeldRequirement:
    """One requirement held against one variant."""

    requirement: Requirement
    fulfilled: bool
    reason: str
    """The measured value, in words; where it was worst, and how sure it is."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A variant against all requirements."""

    variant: str
    verdicts: tuple[HeldRequirement, ...]
    core_seconds: float | None
    """An answer's cost; None where nothing was timed."""
    peak_bytes: int

    @property
    def fulfils(self) -> bool:
        """All of them?"""
        return all(verdict.fulfilled for verdict in self.verdicts)


def parse_requirements(text: str) -> tuple[Requirement, ...]:
    """The parts of --require, checked.

    Raises:
        UsageError: a part is malformed, names nothing that is measured, or points the wrong way.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise UsageError(f"--require was empty; {FORM}. Known: {', '.join(QUANTITIES)}.")
    return tuple(_parse(part) for part in parts)


def judge(
    requirements: Sequence[Requirement],
    *,
    records: Sequence[SpeedRecord],
    drops: Mapping[str, Mapping[str, QualityDrop]],
) -> tuple[Judged, ...]:
    """Every variant against every requirement; a requirement holds on each task, so the worst task decides.

    Args:
        records: speed records, as `pool.pooled` makes them.
        drops: by variant, then task.
    """
    tasks = {timing.task for record in records for timing in record.workloads}
    return tuple(
        Judged(
            variant=record.variant.name,
            verdicts=tuple(
                _held(requirement, record, drops=drops.get(record.variant.name, {}), tasks=tasks)
                for requirement in requirements
            ),
            core_seconds=core_seconds(record),
            peak_bytes=record.total_memory_bytes,
        )
        for record in records
    )


def cheapest(judged: Sequence[Judged]) -> Judged | None:
    """The variant that fulfils all with the fewest core-seconds an answer; None: no variant does."""
    fulfilling = [each for each in judged if each.fulfils]
    return min(
        fulfilling,
        key=lambda each: (each.core_seconds if each.core_seconds is not None else float("inf"), each.peak_bytes),
        default=None,
    )


def judged_records(judged: Sequence[Judged]) -> tuple[JudgedRecord, ...]:
    """As files hold them."""
    return tuple(
        JudgedRecord(
            variant=each.variant,
            fulfils=each.fulfils,
            core_seconds=each.core_seconds,
            verdicts=tuple(
                VerdictRecord(requirement=str(verdict.requirement), fulfilled=verdict.fulfilled, said=verdict.reason)
                for verdict in each.verdicts
            ),
        )
        for each in judged
    )


def why_none(judged: Sequence[Judged]) -> str:
    """The sentence for when no variant fulfils all: which requirement each one misses, and by what."""
    missed = [
        f"{each.variant} misses "
        + " and ".join(f"{v.requirement} ({v.reason})" for v in each.verdicts if not v.fulfilled)
        for each in judged
    ]
    return f"no variant fulfils --require: {'; '.join(missed)}."


def core_seconds(record: SpeedRecord) -> float | None:
    """Threads x seconds of an answer at the largest batch, over tasks of the rows' own lengths; None of a server."""
    if record.is_server:
        return None  # its cores are elsewhere
    costs = []
    for task in dict.fromkeys(timing.task for timing in record.timings):
        timings = [timing for timing in record.timings if timing.task == task]
        largest = max(timings, key=lambda timing: timing.batch_size)
        costs.append((record.threads or 1) / _examples_per_s(largest))
    return exp(fmean(map(log, costs))) if costs else None


def _parse(part: str) -> Requirement:
    found = PART.match(part)
    if found is None:
        raise UsageError(f"--require: {part!r} is no requirement; {FORM}.")
    name, sign, limit, rate, at_max = found.groups()
    latency = LATENCY.match(name)
    if name not in QUANTITIES and latency is None:
        raise unknown("requirement", name, QUANTITIES)
    if latency is not None and int(latency[2]) not in PERCENTILES:
        raise UsageError(
            f"--require: {name} is not measured; percentiles are {', '.join(f'p{each}' for each in PERCENTILES)}."
        )
    at_most = name not in AT_LEAST
    if (sign == "<=") != at_most:
        way = "at most" if at_most else "at least"
        raise UsageError(
            f"--require: {name} is wanted {way} so large, write {name}{'<=' if at_most else '>='}{limit}, not {part!r}."
        )
    if (rate is not None or at_max) and latency is None:
        under = "max" if at_max else f"{rate}rps"
        raise UsageError(f"--require: only a latency is measured under a load, so {name} takes no @{under}.")
    if rate is not None and float(rate) == 0:
        raise UsageError(f"--require: {part!r} asks for 0 requests a second; use a rate above 0.")
    return Requirement(
        name=name,
        at_most=at_most,
        limit=float(limit),
        rate=None if rate is None else float(rate),
        at_max=at_max is not None,
    )


def _held(
    requirement: Requirement, record: SpeedRecord, *, drops: Mapping[str, QualityDrop], tasks: set[str]
) -> HeldRequirement:
    if requirement.at_max:
        return _max_rate(requirement, record, tasks=tasks)
    if record.is_server and requirement.name in FIGURES:
        return HeldRequirement(
            requirement=requirement, fulfilled=False, reason="not known of a server, which is elsewhere"
        )
    if requirement.latency is not None:
        return _latency(requirement, *requirement.latency, record=record, tasks=tasks)
    if requirement.name == "drop":
        return _drop(requirement, drops, tasks)
    if requirement.name in AT_LEAST:
        return _throughput(requirement, record)
    value, unit = FIGURES[requirement.name](record)
    return HeldRequirement(requirement=requirement, fulfilled=value <= requirement.limit, reason=f"{value:.4g} {unit}")


def _latency(requirement: Requirement, which: str, p: int, *, record: SpeedRecord, tasks: set[str]) -> HeldRequirement:
    rate = requirement.rate
    mine = [(task, samples) for task, samples in _samples(record, which, rate=rate) if samples]
    lacking = sorted(tasks - {task for task, _ in mine})
    if lacking and not which:
        return HeldRequirement(requirement=requirement, fulfilled=False, reason=f"not measured on {lacking[0]}")
    if not mine:
        return HeldRequirement(requirement=requirement, fulfilled=False, reason="no task writes text")
    values = {task: percentile(samples, p) for task, samples in mine}
    few = next(((task, samples) for task, samples in mine if values[task] is None), None)
    if few is not None:
        reason = f"{few[0]} has {len(few[1])} samples, p{p} needs {least_samples(p)}: more --seconds or --rounds"
        return HeldRequirement(requirement=requirement, fulfilled=False, reason=reason)
    late = next((load for load in _loads(record, rate) if load.answered < load.requests), None)
    if late is not None:
        return HeldRequirement(requirement=requirement, fulfilled=False, reason=f"on {late.task} it {late.note}")
    task, samples = max(mine, key=lambda each: values[each[0]] or 0.0)
    value, bound = values[task] or 0.0, upper_bound(samples, p) or 0.0
    reason = f"{value:.4g} ms on {task}"
    if value <= requirement.limit < bound:
        reason += f"; {len(samples)} samples do not exclude up to {bound:.4g} ms (99 % confidence)"
    return HeldRequirement(requirement=requirement, fulfilled=value <= requirement.limit, reason=reason)


def _max_rate(requirement: Requirement, record: SpeedRecord, *, tasks: set[str]) -> HeldRequirement:
    """It is fulfilled where some rate held; how large that is says the reason."""
    mine = {
        each.task: each
        for each in record.max_rates
        if each.name == requirement.name and each.limit_ms == requirement.limit
    }
    lacking = sorted(tasks - set(mine))
    if lacking and not LATENCY.match(requirement.name)[1]:  # type: ignore[index]  # it is one
        return HeldRequirement(requirement=requirement, fulfilled=False, reason=f"not measured on {lacking[0]}")
    if not mine:
        return HeldRequirement(requirement=requirement, fulfilled=False, reason="no task writes text")
    worst = min(mine.values(), key=lambda each: each.rate)
    if not worst.rate:
        least = min(each.rate for each in worst.tried)
        reason = f"on {worst.task} it does not hold at {_requests(least)} requests/s either"
        return HeldRequirement(requirement=requirement, fulfilled=False, reason=reason)
    reason = f"up to {_requests(worst.rate)} requests/s on {worst.task}"
    return HeldRequirement(requirement=requirement, fulfilled=True, reason=reason)


def _requests(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def with_goodput(record: SpeedRecord, requirements: Sequence[Requirement]) -> SpeedRecord:
    """The record, each load with the requests a second that were answered within the limits of all required latencies,
    whatever their percentile; as it is, where there are none."""
    limits: dict[str, float] = {}
    for each in requirements:
        if each.latency is not None and each.latency[0] != "itl_":
            limits[each.latency[0]] = min(each.limit, limits.get(each.latency[0], each.limit))
    if not limits or not record.loads:
        return record
    loads = tuple(load.model_copy(update={"goodput_per_s": _goodput(load, limits)}) for load in record.loads)
    return record.model_copy(update={"loads": loads})


def _goodput(load: LoadTiming, limits: Mapping[str, float]) -> float | None:
    """Who was not answered has waited longer than everybody else, and is good in no case."""
    if not load.seconds:
        return None
    answers = [value <= limits.get("", float("inf")) for value in load.raw_latency_ms]
    if "ttft_" in limits and len(load.raw_ttft_ms) == len(answers):
        answers = [good and first <= limits["ttft_"] for good, first in zip(answers, load.raw_ttft_ms, strict=True)]
    unanswered = load.requests - load.answered
    return rounded(max(0, sum(answers) - unanswered) / load.seconds)


def _samples(record: SpeedRecord, which: str, *, rate: float | None) -> Iterator[tuple[str, Sequence[float]]]:
    """Of each task the milliseconds that a latency is read from: alone, or under a load of so many requests a second.

    Args:
        which: `ttft_`, `itl_`, or nothing for the whole answer.
    """
    if rate is None:
        for timing in record.timings:
            if timing.batch_size == 1:
                yield timing.task, {"": timing.raw_ms, "ttft_": timing.raw_ttft_ms, "itl_": timing.raw_itl_ms}[which]
    for load in _loads(record, rate):
        yield load.task, {"": load.raw_latency_ms, "ttft_": load.raw_ttft_ms, "itl_": load.raw_itl_ms}[which]


def _loads(record: SpeedRecord, rate: float | None) -> list[LoadTiming]:
    """Of the rows' own lengths under so many requests a second."""
    return [load for load in record.loads if load.rate == rate and not load.length]


def _drop(requirement: Requirement, drops: Mapping[str, QualityDrop], tasks: set[str]) -> HeldRequirement:
    lacking = sorted(tasks - set(drops))
    if lacking:
        return HeldRequirement(requirement=requirement, fulfilled=False, reason=f"not scored on {lacking[0]}")
    task, worst = max(drops.items(), key=lambda item: item[1].value)
    reason = f"{worst.value:.2f} {worst.unit} on {task}"
    if worst.value <= requirement.limit and worst.ci95 is not None and worst.ci95[1] > requirement.limit:
        reason += f"; the 95 % interval does not exclude {worst.ci95[1]:.2f}"
    return HeldRequirement(requirement=requirement, fulfilled=worst.value <= requirement.limit, reason=reason)


def _throughput(requirement: Requirement, record: SpeedRecord) -> HeldRequirement:
    unit, field = AT_LEAST[requirement.name]
    mine = [timing for timing in record.timings if field != "throughput" or timing.unit == unit]
    if not mine:
        return HeldRequirement(requirement=requirement, fulfilled=False, reason=f"no task is measured in {unit}")
    best = {
        task: max(_rate(timing, field) for timing in mine if timing.task == task)
        for task in dict.fromkeys(timing.task for timing in mine)
    }
    task = min(best, key=lambda each: best[each])
    reason = f"{best[task]:.4g} {unit} on {task}"
    return HeldRequirement(requirement=requirement, fulfilled=best[task] >= requirement.limit, reason=reason)


def _rate(timing: Timing, field: str) -> float:
    return timing.throughput if field == "throughput" else _examples_per_s(timing)


def _examples_per_s(timing: Timing) -> float:
    """A score of before December 2026 has none: a request counts as an example there."""
    return timing.throughput if timing.examples_per_s is None else timing.examples_per_s


def _cold(record: SpeedRecord) -> float:
    return record.import_seconds + (record.open_seconds or 0.0) + (record.first_seconds or 0.0)


FIGURES: Mapping[str, Callable[[SpeedRecord], tuple[float, str]]] = {
    "peak_mb": lambda record: (record.total_memory_bytes / 1e6, "MB"),
    "disk_mb": lambda record: (record.artefact.size_bytes / 1e6, "MB"),
    "load_s": lambda record: (record.load_seconds, "s"),
    "cold_s": lambda record: (_cold(record), "s"),
}
