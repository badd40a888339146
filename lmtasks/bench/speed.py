"""Latency and throughput of an engine on a workload.

Batch 1 gives the latency of a request, from handing it over to the finished answer; batch N gives the throughput when N
requests are handed over at once. Whole passes over the workload are timed, so that a fast and a slow variant answer the
same requests; every call is recorded.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle

from lmtasks.bench.calls import Answers, answer_to
from lmtasks.bench.clock import Stop, time_calls, warm_up
from lmtasks.bench.percentile import percentile, throughput_interval
from lmtasks.bench.workload import Workload, WorkRequest
from lmtasks.errors import UsageError
from lmtasks.records import Json

Answer = Callable[[Sequence[WorkRequest]], int]
"""Answers requests; returns how many units were done: requests, or new tokens of a generation."""

PERCENTILES = (50, 90, 99)
MEDIAN_CALLS = 7
"""A median needs so many calls."""


@dataclass(frozen=True, kw_only=True)
class SpeedSettings:
    """How long is measured."""

    batch_sizes: tuple[int, ...] = (1, 16)
    least_seconds: float = 1.0
    """Passes go on at least so long for each workload and batch size."""
    most_seconds: float = 30.0
    """A pass is cut here, which the record's note says."""
    most_warm_up_seconds: float = 2.0
    limits_seconds: float = 0.5

    def __post_init__(self) -> None:
        if not self.batch_sizes or min(self.batch_sizes) < 1:
            raise UsageError(
                f"batch sizes are 1 or more, were given {', '.join(map(str, self.batch_sizes)) or 'none'}."
            )


@dataclass(frozen=True, kw_only=True)
class WorkloadSpeed:
    """One workload at one batch size."""

    task: str
    kind: str
    batch_size: int
    unit: str
    new_tokens: int
    raw_ms: tuple[float, ...]
    """Milliseconds of every call, in order; a call answers `batch_size` requests."""
    units: tuple[int, ...]
    """What each call did, in `unit` without the second."""
    warm_up_calls: int
    note: str = ""

    @property
    def throughput(self) -> float:
        """Units a second over all calls."""
        return sum(self.units) / (sum(self.raw_ms) / 1000)

    def as_json(self) -> Json:
        """Ready for a JSON file. Percentiles without enough samples, and an interval of one call, are null."""
        latency = {f"p{p}": _rounded(percentile(self.raw_ms, p)) for p in PERCENTILES}
        interval = throughput_interval(units=self.units, seconds=[ms / 1000 for ms in self.raw_ms])
        return {
            "task": self.task,
            "kind": self.kind,
            "batch_size": self.batch_size,
            "unit": self.unit,
            "new_tokens": self.new_tokens,
            "latency_ms": {**latency, "n": len(self.raw_ms)},
            "throughput": _rounded(self.throughput),
            "throughput_ci95": None if interval is None else [_rounded(end) for end in interval],
            "warm_up_calls": self.warm_up_calls,
            "raw_ms": list(self.raw_ms),
            "note": self.note,
        }


def measure(
    engine: Answers, *, workload: Workload, batch_sizes: Sequence[int], settings: SpeedSettings
) -> tuple[WorkloadSpeed, ...]:
    """Times an engine on a workload, once for each batch size."""
    answer = answer_to(engine, workload=workload)
    return tuple(time_workload(answer, workload=workload, batch_size=size, settings=settings) for size in batch_sizes)


def time_workload(answer: Answer, *, workload: Workload, batch_size: int, settings: SpeedSettings) -> WorkloadSpeed:
    """Times one workload at one batch size.

    A workload smaller than the batch is measured as one batch of all its requests, under its true size. Requests that
    do not fill a last batch are left out.
    """
    size = min(batch_size, len(workload.requests))
    starts = range(0, len(workload.requests) - size + 1, size)
    batches = [workload.requests[start : start + size] for start in starts]
    longest = max(batches, key=lambda batch: sum(len(request.ids) + len(request.target_ids) for request in batch))
    warm = warm_up(lambda: answer(longest), most_seconds=settings.most_warm_up_seconds)

    queue = cycle(batches)
    units: list[int] = []
    stop = Stop(
        least_calls=MEDIAN_CALLS,
        least_seconds=settings.least_seconds,
        calls_per_pass=len(batches),
        most_seconds=settings.most_seconds,
    )
    times = time_calls(lambda: units.append(answer(next(queue))), stop=stop)
    note = ""
    if len(units) % len(batches):
        note = f"cut after {settings.most_seconds:g} s, {len(units)} calls; a whole pass has {len(batches)}"
    expected = size * (workload.new_tokens if workload.kind == "generate" else 1)
    if any(done != expected for done in units):
        short = f"a call yielded {min(units)} to {max(units)} {workload.unit.removesuffix('/s')}, not {expected}"
        note = f"{note}; {short}" if note else short
    return WorkloadSpeed(
        task=workload.task,
        kind=workload.kind,
        batch_size=size,
        unit=workload.unit,
        new_tokens=workload.new_tokens,
        raw_ms=tuple(round(1000 * value, 5) for value in times.seconds),
        units=tuple(units),
        warm_up_calls=len(warm.seconds),
        note=note,
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")
