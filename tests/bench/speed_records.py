"""Speed records as `measure_times` returns them, without a process."""

from collections.abc import Sequence
from dataclasses import replace

from lmtasks.bench.load import LoadSpeed
from lmtasks.bench.pool import Memory, Round
from lmtasks.bench.roofline import Pass
from lmtasks.bench.speed import WorkloadSpeed
from lmtasks.bench.workload import Load
from lmtasks.records import RuntimeCard
from lmtasks.results.cell import Variant
from lmtasks.results.speed import Artefact, MachineLimits

LIMITS = MachineLimits(
    threads=1,
    device="cpu",
    gemm={"fp32": 200.0},
    gemm_size=1024,
    read_gb_per_s=50.0,
    read_gb_per_s_by_mb={"4": 200.0, "256": 50.0},
)
MEMORY = Memory(peak_memory_bytes=400_000_000, loading_memory_bytes=1, import_memory_bytes=2)

ALONE = WorkloadSpeed(
    task="t",
    kind="generate",
    batch_size=1,
    length=0,
    unit="tokens/s",
    new_tokens=10,
    read_tokens=(5, 9),
    raw_ms=(48.0,) * 8,
    units=(10,) * 8,
    ttft_ms=(30.0,) * 8,
    itl_ms=(2.0,) * 72,
    warm_up_ms=(60.0, 48.0),
    passes=(Pass(count=1, bytes=9e7, operations=1.0), Pass(count=9, bytes=9e7, operations=1.0)),
)
UNDER_LOAD = LoadSpeed(
    task="t",
    kind="generate",
    length=0,
    load=Load(rate=20, count=50),
    batching="joined",
    rows=16,
    latency_ms=(50.0,) * 50,
    answered=50,
    ttft_ms=(31.0,) * 50,
    itl_ms=(2.5,) * 450,
    seconds=2.5,
    busy_seconds=1.5,
)


def times(
    name: str = "a",
    *,
    slower: float = 1.0,
    threads: int = 1,
    flags: Sequence[str] = (),
    notes: Sequence[str] = (),
    load: LoadSpeed = UNDER_LOAD,
) -> Round:
    """One round of a variant. `slower`: all latencies times so much."""

    def scaled(values: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(slower * value for value in values)

    alone = replace(
        ALONE, raw_ms=scaled(ALONE.raw_ms), ttft_ms=scaled(ALONE.ttft_ms), itl_ms=scaled(ALONE.itl_ms),
        flags=tuple(flags),
    )  # fmt: skip
    together = replace(alone, batch_size=16, units=(160,) * 8, ttft_ms=(), itl_ms=(), passes=None)
    card = RuntimeCard(
        runtime="onnx", version="1", device="cpu", precision="fp32", threads=threads, size_bytes=50_000_000
    )
    return Round(
        variant=Variant(name=name),
        artefact=Artefact(weights_hash="0", size_bytes=50_000_000),
        runtime=card,
        machine={},
        versions={},
        threads=threads,
        import_seconds=0.5,
        open_seconds=0.25,
        first_seconds=0.05,
        load_seconds=0.4,
        disk_bytes_read=None,
        workloads=(alone, together),
        loads=(replace(load, latency_ms=scaled(load.latency_ms)),),
        kernel_gflop_per_s=100.0,
        notes=tuple(notes),
    )
