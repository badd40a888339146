"""Everything that is measured of one variant, in the process that is its own."""

import time
from collections.abc import Callable
from dataclasses import asdict, replace

from lmtasks.bench.calls import answer_to
from lmtasks.bench.isolate import PROGRESS
from lmtasks.bench.limits import gemm_rate, measure_limits
from lmtasks.bench.machine import load_before, machine, stolen_seconds, throttled_periods, usable_cores, versions
from lmtasks.bench.memory import peak_bytes, resident_bytes
from lmtasks.bench.opening import Answering
from lmtasks.bench.spec import SpeedSpec
from lmtasks.bench.speed import WorkloadSpeed, measure
from lmtasks.records import Json

CALIBRATION_SECONDS = 0.15
MOST_DRIFT = 0.05
"""The same matrix product before and after may differ by so much before a note says so."""
MOST_STOLEN = 0.01
MOST_LOAD = 0.5
"""Running tasks for each usable core before the start."""


def measure_variant(
    spec: SpeedSpec,
    *,
    open_engine: Callable[[SpeedSpec], Answering],
    import_seconds: float,
    tell: Callable[[str], object],
) -> Json:
    """Opens the variant, times every workload at every batch size, and returns the speed record.

    Loading ends when each workload has been answered once, cold, with one new token at most. Memory is what the
    variant needed beyond the imports: its peak until the last timing, less what was resident before loading. The limits
    of the machine are measured behind that, since their buffers would count.

    Raises:
        LmtasksError: the variant cannot be opened, or cannot answer.
    """
    watch = _Watch()
    conditions = {**machine(), "load": [load] if (load := load_before()) is not None else []}
    kernel_before = gemm_rate(seconds=CALIBRATION_SECONDS)
    resident = resident_bytes()

    started = time.perf_counter()
    opened = open_engine(spec)
    open_seconds = time.perf_counter() - started
    for workload in spec.workloads:  # a runtime may open its graphs only when they are first asked
        first = replace(workload, new_tokens=min(1, workload.new_tokens))
        answer_to(opened.engine, workload=first)(first.requests[:1])
    load_seconds = time.perf_counter() - started

    jobs = [(workload, size) for workload in spec.workloads for size in dict.fromkeys(spec.settings.batch_sizes)]
    timings: list[WorkloadSpeed] = []
    for done, (workload, size) in enumerate(jobs):
        tell(f"{PROGRESS}{done} {len(jobs)} {workload.task}, batch {size}")
        timings += measure(opened.engine, workload=workload, batch_sizes=(size,), settings=spec.settings)
    peak = peak_bytes()
    tell(f"{PROGRESS}{len(jobs)} {len(jobs)} limits of the machine")
    kernel_after = gemm_rate(seconds=CALIBRATION_SECONDS)
    limits = measure_limits(threads=spec.threads, seconds=spec.settings.limits_seconds)
    notes = [*watch.notes(load), *_drift(kernel_before, kernel_after)]
    return {
        "schema": 1,
        "variant": dict(spec.variant),
        "artefact": {"weights_hash": opened.model.weights_hash, "size_bytes": opened.card.size_bytes},
        "runtime": asdict(opened.card),
        "machine": conditions,
        "versions": versions(),
        "threads": spec.threads,
        "import_seconds": round(import_seconds, 3),
        "open_seconds": round(open_seconds, 3),
        "load_seconds": round(load_seconds, 3),
        "peak_memory_bytes": max(0, peak - resident),
        "import_memory_bytes": resident,
        "workloads": [timing.as_json() for timing in timings],
        "limits": {**limits.as_json(), "kernel_gflop_per_s": [round(kernel_before, 1), round(kernel_after, 1)]},
        "notes": notes,
    }


class _Watch:
    """What others did to this machine from now on."""

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.stolen = stolen_seconds()
        self.throttled = throttled_periods()

    def notes(self, load: float | None) -> list[str]:
        found = []
        cores = usable_cores()
        if load is not None and load > MOST_LOAD * cores:
            found.append(f"the machine was not idle before the start: load {load:g} on {cores} cores")
        share = (stolen_seconds() - self.stolen) / (time.perf_counter() - self.started) / cores
        if share > MOST_STOLEN:
            found.append(f"the hypervisor gave {100 * share:.1f} % of the processor's time to others")
        now = throttled_periods()
        if now is not None and self.throttled is not None and now > self.throttled:
            found.append(f"the container's processor limit stopped the process {now - self.throttled} times")
        return found


def _drift(before: float, after: float) -> list[str]:
    change = after / before - 1
    if abs(change) <= MOST_DRIFT:
        return []
    return [f"the same matrix product ran {abs(change):.0%} {'faster' if change > 0 else 'slower'} after than before"]
