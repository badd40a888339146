"""Which variants fulfil what is required of them, and which of those does so most cheaply.

Cheapest means: the fewest core-seconds an answer (threads x seconds of work), at the largest batch that was measured;
with several tasks their geometric mean. That is what a machine for this work costs, and it lets one thread compete with
two. Memory and size are for requirements of their own; of equals the one with the smaller peak memory is named.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log
from statistics import fmean
from typing import Any

from lmtasks.bench.percentile import least_samples, percentile, upper_bound
from lmtasks.bench.require import AT_LEAST, Requirement
from lmtasks.records import Json

Timing = Mapping[str, Any]
"""A timing of a speed record: one workload at a batch size, or under a load."""


@dataclass(frozen=True, kw_only=True)
class QualityDrop:
    """How much worse a variant's main metric is than that of the first one, on one task."""

    value: float
    """Points (0-100); percent of the first one's value where the metric has no such scale."""
    ci95: tuple[float, float] | None
    unit: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One requirement held against one variant."""

    requirement: Requirement
    fulfilled: bool
    said: str
    """The measured value, in words; where it was worst, and how sure it is."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A variant against all requirements."""

    variant: str
    verdicts: tuple[Verdict, ...]
    core_seconds: float | None
    """An answer's cost; None where nothing was timed."""
    peak_bytes: int

    @property
    def fulfils(self) -> bool:
        """All of them?"""
        return all(verdict.fulfilled for verdict in self.verdicts)


def judge(
    requirements: Sequence[Requirement], *, records: Sequence[Json], drops: Mapping[str, Mapping[str, QualityDrop]]
) -> tuple[Judged, ...]:
    """Every variant against every requirement; a requirement holds on each task, so the worst task decides.

    Args:
        records: speed records, as `pool.pooled` makes them.
        drops: by variant, then task.
    """
    tasks = {timing["task"] for record in records for timing in _timings(record)}
    return tuple(
        Judged(
            variant=_name(record),
            verdicts=tuple(
                _held(requirement, record, drops=drops.get(_name(record), {}), tasks=tasks)
                for requirement in requirements
            ),
            core_seconds=core_seconds(record),
            peak_bytes=total_memory(record),
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


def judged_json(judged: Sequence[Judged]) -> list[Json]:
    """Ready for a JSON file."""
    return [
        {
            "variant": each.variant,
            "fulfils": each.fulfils,
            "core_seconds": each.core_seconds,
            "verdicts": [
                {"requirement": str(verdict.requirement), "fulfilled": verdict.fulfilled, "said": verdict.said}
                for verdict in each.verdicts
            ],
        }
        for each in judged
    ]


def why_none(judged: Sequence[Judged]) -> str:
    """The sentence for when no variant fulfils all: which requirement each one misses, and by what."""
    missed = [
        f"{each.variant} misses "
        + " and ".join(f"{v.requirement} ({v.said})" for v in each.verdicts if not v.fulfilled)
        for each in judged
    ]
    return f"no variant fulfils --require: {'; '.join(missed)}."


def core_seconds(record: Json) -> float | None:
    """Threads x seconds of an answer at the largest batch, over tasks of the rows' own lengths."""
    costs = []
    for task in dict.fromkeys(timing["task"] for timing in _timings(record)):
        timings = [timing for timing in _timings(record) if timing["task"] == task and not timing["length"]]
        largest = max(timings, key=lambda timing: int(timing["batch_size"]), default=None)
        if largest is not None:
            costs.append(int(str(record["threads"])) / _examples_per_s(largest))
    return exp(fmean(map(log, costs))) if costs else None


def _held(requirement: Requirement, record: Json, *, drops: Mapping[str, QualityDrop], tasks: set[str]) -> Verdict:
    if requirement.latency is not None:
        return _latency(requirement, *requirement.latency, record=record, tasks=tasks)
    if requirement.name == "drop":
        return _drop(requirement, drops, tasks)
    if requirement.name in AT_LEAST:
        return _throughput(requirement, record)
    value, unit = FIGURES[requirement.name](record)
    return Verdict(requirement=requirement, fulfilled=value <= requirement.limit, said=f"{value:.4g} {unit}")


def _latency(requirement: Requirement, which: str, p: int, *, record: Json, tasks: set[str]) -> Verdict:
    rate = requirement.rate
    raw = LATENCIES[which] if rate is None or which else "raw_latency_ms"
    mine = [
        each
        for each in (_timings(record) if rate is None else _loads(record))
        if each[raw] and not each["length"] and (each["batch_size"] == 1 if rate is None else each["rate"] == rate)
    ]
    lacking = sorted(tasks - {each["task"] for each in mine})
    if lacking and not which:
        return Verdict(requirement=requirement, fulfilled=False, said=f"not measured on {lacking[0]}")
    if not mine:
        return Verdict(requirement=requirement, fulfilled=False, said="no task writes text")
    values = {each["task"]: percentile(each[raw], p) for each in mine}
    few = next((each for each in mine if values[each["task"]] is None), None)
    if few is not None:
        said = f"{few['task']} has {len(few[raw])} samples, p{p} needs {least_samples(p)}: more --seconds or --rounds"
        return Verdict(requirement=requirement, fulfilled=False, said=said)
    late = next((each for each in mine if rate is not None and each["answered"] < each["requests"]), None)
    if late is not None:
        return Verdict(requirement=requirement, fulfilled=False, said=f"on {late['task']} it {late['note']}")
    worst = max(mine, key=lambda each: values[each["task"]] or 0.0)
    value, bound = values[worst["task"]] or 0.0, upper_bound(worst[raw], p) or 0.0
    said = f"{value:.4g} ms on {worst['task']}"
    if value <= requirement.limit < bound:
        said += f"; {len(worst[raw])} samples do not exclude up to {bound:.4g} ms (99 % confidence)"
    return Verdict(requirement=requirement, fulfilled=value <= requirement.limit, said=said)


def _drop(requirement: Requirement, drops: Mapping[str, QualityDrop], tasks: set[str]) -> Verdict:
    lacking = sorted(tasks - set(drops))
    if lacking:
        return Verdict(requirement=requirement, fulfilled=False, said=f"not scored on {lacking[0]}")
    task, worst = max(drops.items(), key=lambda item: item[1].value)
    said = f"{worst.value:.2f} {worst.unit} on {task}"
    if worst.value <= requirement.limit and worst.ci95 is not None and worst.ci95[1] > requirement.limit:
        said += f"; the 95 % interval does not exclude {worst.ci95[1]:.2f}"
    return Verdict(requirement=requirement, fulfilled=worst.value <= requirement.limit, said=said)


def _throughput(requirement: Requirement, record: Json) -> Verdict:
    unit, field = AT_LEAST[requirement.name]
    mine = [
        timing
        for timing in _timings(record)
        if not timing["length"] and (field != "throughput" or timing["unit"] == unit)
    ]
    if not mine:
        return Verdict(requirement=requirement, fulfilled=False, said=f"no task is measured in {unit}")
    best = {
        task: max(_rate(timing, field) for timing in mine if timing["task"] == task)
        for task in dict.fromkeys(timing["task"] for timing in mine)
    }
    task = min(best, key=lambda each: best[each])
    said = f"{best[task]:.4g} {unit} on {task}"
    return Verdict(requirement=requirement, fulfilled=best[task] >= requirement.limit, said=said)


def _rate(timing: Timing, field: str) -> float:
    return float(timing["throughput"]) if field == "throughput" else _examples_per_s(timing)


def _examples_per_s(timing: Timing) -> float:
    """A record of before December 2026 has none: a request counts as an example there."""
    found = timing.get("examples_per_s")
    return float(timing["throughput"]) / max(1, int(timing["new_tokens"])) if found is None else float(found)


def total_memory(record: Json) -> int:
    """Bytes at the peak, the libraries that were imported among them: what a machine must have."""
    return sum(int(str(record.get(name, 0))) for name in ("peak_memory_bytes", "import_memory_bytes"))


def _cold(record: Json) -> float:
    return sum(float(str(record[name])) for name in ("import_seconds", "open_seconds", "first_seconds"))


FIGURES: Mapping[str, Callable[[Json], tuple[float, str]]] = {
    "peak_mb": lambda record: (total_memory(record) / 1e6, "MB"),
    "disk_mb": lambda record: (float(str(_mapping(record["artefact"])["size_bytes"])) / 1e6, "MB"),
    "load_s": lambda record: (float(str(record["load_seconds"])), "s"),
    "cold_s": lambda record: (_cold(record), "s"),
}
LATENCIES: Mapping[str, str] = {"": "raw_ms", "ttft_": "raw_ttft_ms", "itl_": "raw_itl_ms"}
"""Where the samples of a latency stand."""


def _name(record: Json) -> str:
    return str(_mapping(record["variant"])["name"])


def _timings(record: Json) -> list[Timing]:
    found = record["workloads"]
    assert isinstance(found, list)  # made by pooled
    return found


def _loads(record: Json) -> list[Timing]:
    found = record["loads"]
    assert isinstance(found, list)  # made by pooled
    return found


def _mapping(value: object) -> Mapping[str, object]:
    assert isinstance(value, Mapping)  # made by pooled
    return value
