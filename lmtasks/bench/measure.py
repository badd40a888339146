"""Measures one variant in the process that is its own: its times, or, in another one, its memory.

Peak memory is the kernel's own high-water mark; no sampling thread disturbs a timing.
"""

import math
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from lmtasks.bench.isolate import PROGRESS
from lmtasks.bench.load import LoadSpeed, time_load
from lmtasks.bench.machine import (
    Look,
    before_start,
    busy_share,
    disk_bytes_read,
    disturbances,
    load_before,
    look,
    machine,
    versions,
)
from lmtasks.bench.machine_peaks import gemm_rate
from lmtasks.bench.percentile import least_samples, percentile
from lmtasks.bench.rate_search import LargestRate, RateGoal, largest_rate
from lmtasks.bench.roofline import passes_of
from lmtasks.bench.spec import SpeedSpec
from lmtasks.bench.speed import WorkloadSpeed, batches_of, time_workload
from lmtasks.bench.workload import Load, TimedEngine, WorkKind, Workload, answer_to
from lmtasks.records import Json, ModelCard, RuntimeCard
from lmtasks.runtime.op_costs import OpCosts, traffic_of

Graph = Literal["heads", "score", "decoder"]
"""Which pass over the model answers."""
STATUS = Path("/proc/self/status")
KERNEL_SECONDS = 0.06
"""Of the fixed kernel before and after each block."""
TRIES = 2
"""A block in which the machine's pace changed is measured once more."""
GRAPH_OF: Mapping[WorkKind, Graph] = {"head": "heads", "score": "score", "generate": "decoder"}
Report = Callable[[str], object]


@dataclass(frozen=True, kw_only=True)
class OpenedVariant:
    """An engine with the identity of what it runs."""

    engine: TimedEngine
    model: ModelCard
    card: RuntimeCard
    traffic: Callable[[Graph, str], OpCosts | None] = lambda graph, head: None
    """What a pass, for a head where it is one's, must at least read and multiply; None where nobody knows."""
    apart: bool = False
    """Is it a server, which answers each request by itself?"""
    rows_together: Callable[[int], int] = lambda length: 0
    """Texts of at most so many tokens that each caller writes together, by what the engine has found; 0: it does not
    choose."""
    usage: Callable[[], tuple[int, int, int] | None] = lambda: None
    """Requests that a server has answered so far, and the tokens that it bills as read and as written; None: it does
    not tell."""


Open = Callable[[SpeedSpec], OpenedVariant]


def measure_times(spec: SpeedSpec, *, open_engine: Open, import_seconds: float, report: Report) -> Json:
    """Opens the variant, times every workload at every batch size and under every load: what `pool.Round` reads.

    Loading ends when each workload has been answered once, cold, with one new token at most.

    Raises:
        LmtasksError: the variant cannot be opened, or cannot answer.
    """
    notes = before_start(busy_share(), load_before())
    conditions = {**machine(), "load": [load] if (load := load_before()) is not None else []}
    loaded = _load(spec, open_engine)
    timings: list[WorkloadSpeed] = []
    loads: list[LoadSpeed] = []
    jobs = _jobs(spec)
    seen = _look()
    rates: list[LargestRate] = []
    for done, job in enumerate(jobs):
        report(f"{PROGRESS}{done} {len(jobs)} {job.note}")
        if job.goal is not None:
            rates.append(_largest_rate(spec, loaded.opened, job, job.goal, timings))
            seen = _look()
            continue
        if job.load is not None:
            under, last, seen = _under_load(loaded.opened, job, job.load), seen, _look()
            loads.append(replace(under, flags=(*under.flags, *disturbances(last, seen))))
            continue
        for _ in range(TRIES):
            timing, last, seen = _timing(spec, loaded.opened, job), seen, _look()
            flags = disturbances(last, seen)
            if not flags or loaded.opened.apart:  # a server's answers may cost
                break
        timings.append(replace(timing, flags=flags))
    timings = [_with_passes(timing, loaded.opened, spec) for timing in timings]
    return {
        "variant": dict(spec.variant),
        "artefact": {
            "weights_hash": loaded.opened.model.weights_hash,
            "size_bytes": loaded.opened.card.size_bytes,
        },
        "runtime": asdict(loaded.opened.card),
        "machine": conditions,
        "versions": versions(),
        "threads": spec.threads,
        "import_seconds": round(import_seconds, 3),
        "open_seconds": round(loaded.open_seconds, 3),
        "first_seconds": round(loaded.first_seconds, 3),
        "load_seconds": round(loaded.load_seconds, 3),
        "disk_bytes_read": loaded.disk_bytes,
        "workloads": [asdict(timing) for timing in timings],
        "loads": [asdict(each) for each in loads],
        "max_rates": [asdict(each) for each in rates],
        "kernel_gflop_per_s": round(seen.kernel, 1),
        "notes": list(notes),
    }


def measure_memory(spec: SpeedSpec, *, open_engine: Open, import_seconds: float, report: Report) -> Json:
    """Memory in a run of its own, in which nothing is timed: what the variant needs beyond the imports, when it is
    loaded and at its peak, with every workload answered once over at the largest batch size. `pool.Memory` reads it.

    Raises:
        LmtasksError: the variant cannot be opened, or cannot answer.
    """
    resident = resident_bytes()
    loaded = _load(spec, open_engine)
    after_loading = peak_bytes()
    largest = max(spec.settings.batch_sizes)
    jobs = [_Job(workload=workload, rows=largest) for workload in spec.workloads]
    for done, job in enumerate(jobs):
        report(f"{PROGRESS}{done} {len(jobs)} memory, {job.note}")
        answer = answer_to(loaded.opened.engine, workload=job.workload)
        for batch in batches_of(job.workload, job.rows):
            answer(batch, None)
    return {
        "peak_memory_bytes": max(0, peak_bytes() - resident),
        "loading_memory_bytes": max(0, after_loading - resident),
        "import_memory_bytes": resident,
    }


def open_variant(spec: SpeedSpec) -> OpenedVariant:
    """Load the model or package of a spec.

    No token ends a text, so that every generation runs to its full length: a variant whose weights were rounded must
    not look faster because it stops earlier. Batches are the engine's own, as when it answers for a score.

    Raises:
        UsageError: the folder, the runtime, the device or the precision is wrong.
        WorkError: the model cannot be loaded.
    """
    from lmtasks.data.tokenizer import load_tokenizer
    from lmtasks.engine.engine import Engine
    from lmtasks.runtime.open import open_runtime

    runtime = open_runtime(
        spec.ref,
        runtime=spec.runtime,
        device=spec.device,
        precision=spec.precision,
        threads=spec.threads,
        force=spec.force,
    )
    tokenizer = load_tokenizer(tokenizer_folder(spec.ref))
    engine = Engine(runtime, tokenizer, ends=frozenset())
    return OpenedVariant(
        engine=engine,
        rows_together=engine.rows_together,
        model=runtime.model,
        card=runtime.card,
        traffic=lambda graph, head: traffic_of(spec.ref, graph=graph, precision=spec.precision, head=head),
    )


@dataclass(frozen=True, kw_only=True)
class _Job:
    workload: Workload
    rows: int
    load: Load | None = None
    goal: RateGoal | None = None

    @property
    def note(self) -> str:
        name = self.workload.task + (f" at {self.workload.length} tokens" if self.workload.length else "")
        if self.goal is not None:
            return f"{name}, the largest rate with {self.goal.name}<={self.goal.limit_ms:g}"
        return f"{name}, batch {self.rows}" if self.load is None else f"{name}, {self.load.rate:g} requests/s"


@dataclass(frozen=True, kw_only=True)
class _Loaded:
    opened: OpenedVariant
    open_seconds: float
    first_seconds: float
    load_seconds: float
    disk_bytes: int | None


def _load(spec: SpeedSpec, open_engine: Open) -> _Loaded:
    read = disk_bytes_read()
    started = time.perf_counter()
    opened = open_engine(spec)
    open_seconds = time.perf_counter() - started
    first_seconds = 0.0
    for workload in spec.workloads:  # a runtime may open its graphs only when they are first asked
        first = replace(workload, new_tokens=min(1, workload.new_tokens))
        answer_to(opened.engine, workload=first)(first.requests[:1], None)
        first_seconds = first_seconds or time.perf_counter() - started - open_seconds
    load_seconds = time.perf_counter() - started
    now = disk_bytes_read()
    return _Loaded(
        opened=opened,
        open_seconds=open_seconds,
        first_seconds=first_seconds,
        load_seconds=load_seconds,
        disk_bytes=None if read is None or now is None else now - read,
    )


def _jobs(spec: SpeedSpec) -> list[_Job]:
    sizes = list(dict.fromkeys(spec.settings.batch_sizes))
    return [
        *(
            _Job(workload=workload, rows=size)
            for workload in spec.workloads
            for size in (sizes if not all_at_once(spec, workload) else (*sizes[:-1], len(workload.requests)))
        ),
        *(
            _Job(workload=workload, rows=max(sizes), load=load)
            for workload in spec.workloads
            if not workload.length  # a load is of the rows as people send them
            for load in spec.settings.loads
        ),
        *(
            _Job(workload=workload, rows=max(sizes), goal=goal)
            for workload in spec.workloads
            if not workload.length
            for goal in spec.settings.goals
            if not goal.which or workload.kind == "generate"
        ),
    ]


def all_at_once(spec: SpeedSpec, workload: Workload) -> bool:
    """Is the engine handed all texts of a workload, and chooses how many it writes together?"""
    return spec.settings.writes_all and workload.kind == "generate"


def _timing(spec: SpeedSpec, opened: OpenedVariant, job: _Job) -> WorkloadSpeed:
    answer = answer_to(opened.engine, workload=job.workload)
    before = opened.usage()
    found = time_workload(answer, workload=job.workload, batch_size=job.rows, settings=spec.settings)
    if all_at_once(spec, job.workload) and job.rows > 1:
        longest = max(len(request.ids) for request in job.workload.requests) + job.workload.new_tokens
        found = replace(found, rows_together=opened.rows_together(longest))
    after = opened.usage()
    if before is None or after is None or after[0] == before[0]:
        return found
    requests, read, written = (now - then for now, then in zip(after, before, strict=True))
    return replace(found, billed=(read / requests, written / requests))


def _under_load(opened: OpenedVariant, job: _Job, load: Load) -> LoadSpeed:
    return time_load(opened.engine, workload=job.workload, load=load, rows=job.rows, apart=opened.apart)


def _largest_rate(
    spec: SpeedSpec, opened: OpenedVariant, job: _Job, goal: RateGoal, timings: Sequence[WorkloadSpeed]
) -> LargestRate:
    """Look for it from half of the texts a second that were answered one batch after the other."""
    mine = [each for each in timings if (each.task, each.length) == (job.workload.task, 0)]
    best = max(each.examples_per_s * each.requests_per_example for each in mine)
    arrival, seed = next(((load.arrival, load.seed) for load in spec.settings.loads), ("poisson", Load.seed))

    def run(rate: float) -> tuple[float | None, bool]:
        count = max(math.ceil(rate * spec.settings.least_seconds), least_samples(goal.percentile))
        load = Load(rate=rate, count=count, arrival=arrival, seed=seed)  # type: ignore[arg-type]  # one of both
        under = _under_load(opened, job, load)
        samples = {"": under.latency_ms, "ttft_": under.ttft_ms, "itl_": under.itl_ms}[goal.which]
        return percentile(samples, goal.percentile), under.answered == count

    return largest_rate(run, goal, first=best / 2, task=job.workload.task)


def _with_passes(timing: WorkloadSpeed, opened: OpenedVariant, spec: SpeedSpec) -> WorkloadSpeed:
    """With the least that its calls had to do, where the files of the model tell."""
    workload = next(each for each in spec.workloads if (each.task, each.length) == (timing.task, timing.length))
    traffic = opened.traffic(GRAPH_OF[workload.kind], workload.head)
    if traffic is None:
        return timing
    passes = passes_of(traffic, workload=workload, batches=batches_of(workload, timing.batch_size))
    return replace(timing, passes=passes)


def _look() -> Look:
    return look(lambda: gemm_rate(seconds=KERNEL_SECONDS))


def tokenizer_folder(ref: Path) -> Path:
    """Where `tokenizer.json` lies: in a package or transformers folder itself, in a model folder's `backbone/`."""
    inner = ref / "backbone"
    return inner if not (ref / "tokenizer.json").is_file() and (inner / "tokenizer.json").is_file() else ref


def peak_bytes() -> int:
    """The most resident memory so far.

    On Linux this is `VmHWM`, which starts anew with the program. `ru_maxrss` does not: a process begins with the peak
    of the parent that forked it, so a child of a large parent would be blamed for the parent's memory.
    """
    marked = _status("VmHWM")
    if marked is not None:
        return marked
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def resident_bytes() -> int:
    """Resident memory now."""
    now = _status("VmRSS")
    if now is not None:
        return now
    import psutil

    return int(psutil.Process().memory_info().rss)


def _status(field: str) -> int | None:
    """A field of /proc/self/status, in kB there; None on other systems."""
    try:
        lines = STATUS.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, value = line.partition(":")
        if name == field:
            return 1024 * int(value.split()[0])
    return None
