"""Every benchmark's time stands beside that of a fixed kernel, measured around it: their ratio is what machines share.

A file whose work is done by a matrix product says `KERNEL = "product"`; all others are our own Python.
"""

import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

ROUNDS = 7


def python_kernel() -> object:
    """What our own Python does all day: small tuples, dictionaries, sorting, and NumPy on short arrays."""
    table: dict[tuple[int, int], list[int]] = {}
    for number in range(4000):
        table.setdefault((number % 97, number % 7), []).append(number * 31 % 1009)
    ordered = sorted(table, key=lambda key: (-len(table[key]), key))
    rows = [np.array(table[key], dtype=np.int64) for key in ordered]
    return sum(int((row[1:] != row[:-1]).sum()) for row in rows)


PRODUCT = np.random.default_rng(0).standard_normal((512, 512), np.float32)


def product_kernel() -> object:
    """A matrix product by NumPy's BLAS."""
    return PRODUCT @ PRODUCT


KERNELS: Mapping[str, Callable[[], object]] = {"python": python_kernel, "product": product_kernel}


@pytest.fixture(autouse=True)
def kernel(request: pytest.FixtureRequest, benchmark: BenchmarkFixture) -> Iterator[None]:
    """Notes the kernel's median seconds before and after the benchmark."""
    name = getattr(request.module, "KERNEL", "python")
    before = _seconds(KERNELS[name])
    yield
    after = _seconds(KERNELS[name])
    benchmark.extra_info.update(kernel=name, kernel_seconds=[before, after])


def _seconds(call: Callable[[], object]) -> float:
    call()
    taken = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return float(np.median(taken))
