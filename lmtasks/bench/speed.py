"""Latency and throughput of an engine on a workload, one call after the other (closed loop).

Batch 1 gives the latency of a request, from handing it over to the finished answer; batch N gives the throughput when N
requests are handed over at once. Whole passes over the workload are timed, so that a fast and a slow variant answer the
same requests; every call is recorded. A generation at batch 1 is streamed, as for a person who waits: its first token
and the time between tokens are recorded in the same calls.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

from lmtasks.bench.clock import Now, Stop, TokenTimes, time_calls, warm_up
from lmtasks.bench.rate_search import RateGoal
from lmtasks.bench.roofline import Pass
from lmtasks.bench.workload import Answer, Load, Workload, WorkRequest
from lmtasks.errors import UsageError

MEDIAN_CALLS = 7
"""A median needs so many calls."""


@dataclass(frozen=True, kw_only=True)
class SpeedSettings:
    """How long is measured."""

    batch_sizes: tuple[int, ...] = (1, 16)
    writes_all: bool = False
    """Instead of the largest batch, are texts asked for all at once, and the engine writes as many of them together as
    it finds best?"""
    least_seconds: float = 1.0
    """Passes go on at least so long for each workload and batch size."""
    most_seconds: float = 30.0
    """A pass is cut here, which the record's note says."""
    most_warm_up_seconds: float = 2.0
    loads: tuple[Load, ...] = ()
    """Requests that come by a schedule of their own, behind the closed loop."""
    goals: tuple[RateGoal, ...] = ()
    """Latencies whose largest rate is looked for."""

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
    length: int
    """Tokens of every request; 0: as the task's rows have them."""
    unit: str
    new_tokens: int
    read_tokens: tuple[int, ...]
    """Tokens to read, of each request of the workload."""
    requests_per_example: float = 1.0
    raw_ms: tuple[float, ...]
    """Milliseconds of every call, in order; a call answers `batch_size` requests."""
    units: tuple[int, ...]
    """What each call did, in `unit` without the second."""
    ttft_ms: tuple[float, ...] = ()
    """Of each streamed text: from handing it over to its first token."""
    itl_ms: tuple[float, ...] = ()
    """Of each streamed text: from every token to the next."""
    warm_up_ms: tuple[float, ...] = ()
    settled: bool = True
    """Did the median settle while warming up?"""
    note: str = ""
    flags: tuple[str, ...] = ()
    """What disturbed the machine meanwhile."""
    passes: tuple[Pass, ...] | None = None
    """The least that a call has to do, where the files of the model tell."""
    rows_together: int = 0
    """Texts that each caller of the engine wrote together, where the engine chose; 0: it did not."""
    billed: tuple[float, float] | None = None
    """Tokens read and written of a request, as a server bills them."""

    @property
    def throughput(self) -> float:
        """Units a second over all calls."""
        return sum(self.units) / (sum(self.raw_ms) / 1000)

    @property
    def examples_per_s(self) -> float:
        """Examples of the task a second: what a prompted model, a head, and one that writes have in common. A text that
        a server ended early is an answer, too."""
        return len(self.raw_ms) * self.batch_size / (sum(self.raw_ms) / 1000) / self.requests_per_example


def time_workload(
    answer: Answer,
    *,
    workload: Workload,
    batch_size: int,
    settings: SpeedSettings,
    now: Now = time.perf_counter_ns,
) -> WorkloadSpeed:
    """Times one workload at one batch size.

    A workload smaller than the batch is measured as one batch of all its requests, under its true size. Requests that
    do not fill a last batch are left out.
    """
    batches = batches_of(workload, batch_size)
    size = len(batches[0])
    longest = max(batches, key=lambda batch: sum(len(request.ids) + len(request.target_ids) for request in batch))
    caller = _Caller(answer, batches, streamed=size == 1 and workload.kind == "generate", now=now)
    warm = warm_up(lambda: caller.call(longest), most_seconds=settings.most_warm_up_seconds, now=now)
    caller.forget()
    stop = Stop(
        least_calls=MEDIAN_CALLS,
        least_seconds=settings.least_seconds,
        calls_per_pass=len(batches),
        most_seconds=settings.most_seconds,
    )
    times = time_calls(caller.next, stop=stop, now=now)
    units = caller.units
    notes = []
    if len(units) % len(batches):
        notes.append(f"cut after {settings.most_seconds:g} s, {len(units)} calls; a whole pass has {len(batches)}")
    expected = size * (workload.new_tokens if workload.kind == "generate" else 1)
    if any(done != expected for done in units):
        least, most = min(units), max(units)
        yielded = f"{least}" if least == most else f"{least} to {most}"
        notes.append(f"a call yielded {yielded} {workload.unit.removesuffix('/s')}, not {expected}")
    if not warm.settled:
        notes.append(f"the times had not settled after {len(warm.seconds)} calls of warming up")
    return WorkloadSpeed(
        task=workload.task,
        kind=workload.kind,
        batch_size=size,
        length=workload.length,
        unit=workload.unit,
        new_tokens=workload.new_tokens,
        read_tokens=workload.read_tokens,
        requests_per_example=workload.requests_per_example,
        raw_ms=milliseconds(times.seconds),
        units=tuple(units),
        ttft_ms=milliseconds(caller.first_seconds),
        itl_ms=milliseconds(caller.between_seconds),
        warm_up_ms=milliseconds(warm.seconds),
        settled=warm.settled,
        note="; ".join(notes),
    )


def batches_of(workload: Workload, batch_size: int) -> list[tuple[WorkRequest, ...]]:
    """The workload's requests in full batches; one of all of them where they are fewer than the batch."""
    size = min(batch_size, len(workload.requests))
    starts = range(0, len(workload.requests) - size + 1, size)
    return [workload.requests[start : start + size] for start in starts]


def milliseconds(seconds: Sequence[float]) -> tuple[float, ...]:
    """As they are stored."""
    return tuple(round(1000 * value, 4) for value in seconds)


class _Caller:
    """One call after the other over the batches; what the calls did."""

    def __init__(self, answer: Answer, batches: Sequence[Sequence[WorkRequest]], *, streamed: bool, now: Now) -> None:
        self._answer = answer
        self._now = now
        self._queue = cycle(batches)
        self._streamed = streamed
        self.forget()

    def forget(self) -> None:
        self.units: list[int] = []
        self.first_seconds: list[float] = []
        self.between_seconds: list[float] = []

    def next(self) -> None:
        self.call(next(self._queue))

    def call(self, batch: Sequence[WorkRequest]) -> None:
        if not self._streamed:
            self.units.append(self._answer(batch, None))
            return
        times = TokenTimes(now=lambda: self._now() / 1e9)
        start = self._now() / 1e9
        self.units.append(self._answer(batch, times.record))
        self.first_seconds += times.first_seconds({0: start})
        self.between_seconds += times.between_seconds()
