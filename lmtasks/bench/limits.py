"""What this machine can do at best, measured in half a second: the yardstick beside every timing.

A generation step at batch 1 reads every weight once, so it cannot be faster than the copy bandwidth allows; a large
batch cannot be faster than the matrix product.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import pairwise

import numpy as np

from lmtasks.bench.clock import Stop, time_calls, warm_up
from lmtasks.records import Floats32, Json

COPY_BYTES = 128 << 20
"""Larger than the caches; read once and written once a call."""
GEMM_SIZE = 1024


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The best of several calls."""

    copy_gb_per_s: float
    """Plain copy with `threads` threads, 1e9 bytes a second, read and written bytes both counted."""
    gemm_gflop_per_s: float
    """fp32 matrix product of 1024 x 1024, by NumPy's BLAS with the threads that the process gives it."""
    threads: int

    def as_json(self) -> Json:
        """Ready for a JSON file."""
        return {**asdict(self), "copy_bytes": COPY_BYTES, "gemm_size": GEMM_SIZE}


def measure_limits(*, threads: int, seconds: float = 0.5) -> Limits:
    """Measure both, half of the time each.

    Args:
        threads: for the copy. BLAS has read its number (OMP_NUM_THREADS, ...) when NumPy was imported.
    """
    return Limits(
        copy_gb_per_s=round(copy_bandwidth(threads=threads, seconds=seconds / 2), 2),
        gemm_gflop_per_s=round(gemm_rate(seconds=seconds / 2), 1),
        threads=threads,
    )


def copy_bandwidth(*, threads: int, seconds: float, size_bytes: int = COPY_BYTES) -> float:
    """GB/s of a copy, the fastest call."""
    source = np.ones(size_bytes // 4, np.float32)
    target = np.zeros_like(source)
    bounds = np.linspace(0, len(source), threads + 1).astype(int)
    parts = list(pairwise(bounds.tolist()))

    def part(bound: tuple[int, int]) -> None:
        np.copyto(target[bound[0] : bound[1]], source[bound[0] : bound[1]])  # gives the interpreter's lock back

    with ThreadPoolExecutor(threads) as pool:
        return 2 * size_bytes / _fastest(lambda: list(pool.map(part, parts)), seconds) / 1e9


def gemm_rate(*, seconds: float, size: int = GEMM_SIZE) -> float:
    """GFLOP/s of a square fp32 matrix product, the fastest call."""
    generator = np.random.default_rng(0)
    a: Floats32 = generator.standard_normal((size, size), np.float32)
    b: Floats32 = generator.standard_normal((size, size), np.float32)
    out = np.empty_like(a)
    return 2 * size**3 / _fastest(lambda: np.matmul(a, b, out=out), seconds) / 1e9


def _fastest(call: Callable[[], object], seconds: float) -> float:
    started = time.perf_counter()
    warm_up(call, window=1, most_seconds=seconds / 4)
    left = max(0.0, seconds - (time.perf_counter() - started))
    return min(time_calls(call, stop=Stop(least_calls=3, least_seconds=left)).seconds)
