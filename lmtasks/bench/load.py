"""Latency under a load (open loop): requests come by a schedule, and a latency counts from the moment at which its
request was to come. A stall then shows in every request that waited behind it; in a closed loop it would show in one
(coordinated omission).

Texts are written with continuous batching where rows can join others; all other requests wait in a queue, from which
as many as a batch holds are answered together.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass

from lmtasks.bench.clock import TokenTimes, without_garbage_collection
from lmtasks.bench.speed import milliseconds
from lmtasks.bench.workload import Load, TimedEngine, Workload, WorkRequest, answer_to, asked, schedule
from lmtasks.engine.requests import GenerateRequest, TokenEvent
from lmtasks.errors import LmtasksError

SHOWN_FAILURES = 3
MOST_AT_ONCE = 1024
"""Requests on their way to a server."""
PATIENCE = 2.0
"""A run is cut after so many times the schedule's length,"""
PATIENCE_SECONDS = 5.0
"""and so many seconds."""
APART = "apart"
"""Each request is sent when it comes, and answered by itself, as a server does it."""
ALWAYS_BUSY = 0.95
"""Above this share of its time at work an engine hardly ever finds its queue empty."""


@dataclass(frozen=True, kw_only=True)
class LoadSpeed:
    """One workload under one load."""

    task: str
    kind: str
    length: int
    load: Load
    batching: str
    """`joined`: a text joins those that are being written; `queued`: who comes meanwhile waits for the next batch;
    `apart`: a server sees to that."""
    rows: int
    """At once, at most."""
    latency_ms: tuple[float, ...]
    """Of each request, from its scheduled moment to its finished answer; of one that was not answered when the run was
    cut: how long it had waited."""
    answered: int
    ttft_ms: tuple[float, ...] = ()
    itl_ms: tuple[float, ...] = ()
    seconds: float
    """From the first request to the last answer."""
    busy_seconds: float
    flags: tuple[str, ...] = ()
    failed: int = 0
    """Requests that were refused or lost; they are not answered."""

    @property
    def busy_share(self) -> float:
        """Share of the time in which the engine had something to do."""
        return min(1.0, self.busy_seconds / self.seconds)

    @property
    def note(self) -> str:
        """A sentence that a reader of the latencies must know."""
        count = len(self.latency_ms)
        if self.failed:
            return f"{self.failed} of {count} requests failed; their latencies are how long the run had lasted by then"
        if self.answered < count:
            return (
                f"could not keep up with {self.load.rate:g} requests a second: {self.answered} of {count} were "
                f"answered in {self.seconds:.1f} s, and the latencies are how long the others had waited at least"
            )
        if self.batching != APART and self.busy_share > ALWAYS_BUSY:
            return (
                f"hardly kept up with {self.load.rate:g} requests a second: it was at work for {self.busy_share:.0%} "
                "of the time, and latencies grow the longer such a load lasts"
            )
        return ""


def time_load(
    engine: TimedEngine,
    *,
    workload: Workload,
    load: Load,
    rows: int,
    apart: bool = False,
    now: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], object] = time.sleep,
) -> LoadSpeed:
    """Let the requests of a workload come, over and over in its order, and time their answers.

    Args:
        rows: answered at once, at most; never more than the workload has, since equal ones would be answered as one.
        apart: send each by itself when it comes, whatever is on its way.
    """
    arrivals = _Arrivals(workload, load, now=now, sleep=sleep)
    rows = min(rows, len(workload.requests))
    joined = workload.kind == "generate" and engine.joins()
    with without_garbage_collection():
        arrivals.start()
        (_apart if apart else _serve if joined else _queue)(engine, workload, arrivals, rows)
        ended = now()
    return arrivals.result(
        batching=APART if apart else "joined" if joined else "queued", rows=0 if apart else rows, ended=ended
    )


class _Arrivals:
    """The schedule as it is worked off."""

    def __init__(
        self, workload: Workload, load: Load, *, now: Callable[[], float], sleep: Callable[[float], object]
    ) -> None:
        self.workload, self.load = workload, load
        self.due = schedule(load, name=workload.task)
        self.tokens = TokenTimes(now=now)
        self.ends: dict[int, float] = {}
        """When each answered request was finished."""
        self.failed: dict[int, str] = {}
        """Requests that were refused or lost, and why."""
        self.taken = 0
        self._now, self._sleep = now, sleep
        self._most = PATIENCE * self.due[-1] + PATIENCE_SECONDS
        self._idle = 0.0
        self._began = 0.0

    def start(self) -> None:
        self._began = self._now()

    def take(self, *, wait: bool, most: int) -> list[tuple[int, WorkRequest]] | None:
        """Requests that are due, oldest first; None: no more will come, or the run took too long."""
        over = self._now() - self._began > self._most
        if self.taken == len(self.due) or over:
            return None
        if wait and (left := self.due[self.taken] - (self._now() - self._began)) > 0:
            asleep = self._now()
            self._sleep(left)
            self._idle += self._now() - asleep
        first, elapsed = self.taken, self._now() - self._began
        if wait:  # whom it waited for has come, whatever the clock's last bits say
            elapsed = max(elapsed, self.due[first])
        while self.taken < len(self.due) and self.taken - first < most and self.due[self.taken] <= elapsed:
            self.taken += 1
        requests = self.workload.requests
        return [(number, requests[number % len(requests)]) for number in range(first, self.taken)]

    @property
    def left_seconds(self) -> float:
        """Until the run is cut."""
        return max(0.0, self._most - (self._now() - self._began))

    def finish(self, numbers: Sequence[int]) -> None:
        at = self._now()
        self.ends.update(dict.fromkeys(numbers, at))

    def result(self, *, batching: str, rows: int, ended: float) -> LoadSpeed:
        starts = {number: self._began + due for number, due in enumerate(self.due)}
        came = {number: start for number, start in starts.items() if start <= ended}
        return LoadSpeed(
            task=self.workload.task,
            kind=self.workload.kind,
            length=self.workload.length,
            load=self.load,
            batching=batching,
            rows=rows,
            latency_ms=milliseconds([self.ends.get(number, ended) - start for number, start in came.items()]),
            answered=len(self.ends),
            ttft_ms=milliseconds(self.tokens.first_seconds(starts)),
            itl_ms=milliseconds(self.tokens.between_seconds()),
            seconds=ended - self._began,
            busy_seconds=ended - self._began - self._idle,
            failed=len(self.failed),
            flags=tuple(dict.fromkeys(self.failed.values()))[:SHOWN_FAILURES],
        )


def _queue(engine: TimedEngine, workload: Workload, arrivals: _Arrivals, rows: int) -> None:
    answer = answer_to(engine, workload=workload)
    while (batch := arrivals.take(wait=True, most=rows)) is not None:
        numbers = [number for number, _ in batch]

        def on_token(event: TokenEvent, numbers: Sequence[int] = numbers) -> None:
            arrivals.tokens.record(
                TokenEvent(request=numbers[event.request], step=event.step, text=event.text, stopped=event.stopped)
            )

        answer([request for _, request in batch], on_token if workload.kind == "generate" else None)
        arrivals.finish(numbers)


def _apart(engine: TimedEngine, workload: Workload, arrivals: _Arrivals, rows: int) -> None:
    """A thread for each request that is on its way; the schedule waits for none."""
    del rows
    answer = answer_to(engine, workload=workload)

    def send(number: int, request: WorkRequest) -> None:
        def on_token(event: TokenEvent) -> None:
            arrivals.tokens.record(TokenEvent(request=number, step=event.step, text=event.text, stopped=event.stopped))

        try:
            answer([request], on_token if workload.kind == "generate" else None)
        except LmtasksError as error:
            arrivals.failed[number] = str(error).rstrip(".")
        else:
            arrivals.finish([number])

    threads = ThreadPoolExecutor(max_workers=MOST_AT_ONCE)
    try:
        sent = []
        while (batch := arrivals.take(wait=True, most=MOST_AT_ONCE)) is not None:
            sent += [threads.submit(send, number, request) for number, request in batch]
        wait(sent, timeout=arrivals.left_seconds)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)


def _serve(engine: TimedEngine, workload: Workload, arrivals: _Arrivals, rows: int) -> None:
    def arriving(idle: bool) -> list[GenerateRequest] | None:
        came = arrivals.take(wait=idle, most=len(arrivals.due))
        return None if came is None else [asked(workload, request) for _, request in came]

    def on_token(event: TokenEvent) -> None:
        arrivals.tokens.record(event)
        if event.stopped is not None:
            arrivals.finish([event.request])

    length = max(len(request.ids) for request in workload.requests) + workload.new_tokens
    engine.serve(arriving, rows=rows, length=length, on_token=on_token)
