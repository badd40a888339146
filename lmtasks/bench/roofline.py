"""The least that a call must read and multiply, and so the least time that it could take on this machine.

A call is one or several passes over the model. A pass cannot be faster than its weights (and, while writing, the keys
and values of the tokens before) can be read, nor than its products can be computed; the slower of both is its bound:

    least seconds = max(bytes / read bandwidth, operations / rate of the matrix product in that precision)

Bytes and operations are counted without attention's own products, activations and padding, so the least is a little too
small, and a share of it a little too low.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from lmtasks.bench.workload import Workload, WorkRequest
from lmtasks.runtime.op_costs import OpCosts
from lmtasks.settings.runtimes import product_of

if TYPE_CHECKING:
    from lmtasks.results.speed import MachineLimits


@dataclass(frozen=True, kw_only=True)
class Pass:
    """Passes of a call that are alike."""

    count: float
    bytes: float
    operations: float
    """Additions and multiplications of one pass."""


def passes_of(traffic: OpCosts, *, workload: Workload, batches: Sequence[Sequence[WorkRequest]]) -> tuple[Pass, ...]:
    """The passes of a mean call; for a generation the reading of the prompt, then the steps."""
    read = fmean(_read(batch) for batch in batches)
    if workload.kind == "head":
        return (Pass(count=1, bytes=traffic.weight_bytes, operations=2 * traffic.body * read),)
    if workload.kind == "score":
        scored = fmean(sum(len(request.target_ids) for request in batch) for batch in batches)
        products = traffic.body * read + traffic.projection * scored
        return (Pass(count=1, bytes=traffic.weight_bytes, operations=2 * products),)
    rows = len(batches[0])
    kept = read + rows * workload.new_tokens / 2  # half of the new tokens on average
    return (
        Pass(
            count=1,
            bytes=traffic.weight_bytes,
            operations=2 * (traffic.body * read + traffic.projection * rows),
        ),
        Pass(
            count=workload.new_tokens - 1,
            bytes=traffic.weight_bytes + traffic.cache_bytes * kept,
            operations=2 * rows * (traffic.body + traffic.projection),
        ),
    )


@dataclass(frozen=True, kw_only=True)
class Distance:
    """How near a timing comes to what the machine allows."""

    share: float
    """Least time over measured time; 1 is the limit itself."""
    bound: str
    """`memory` or `arithmetic`: which of both takes longer."""
    how: str
    """How it was computed, with the numbers."""


def distance(passes: Sequence[Pass], *, seconds: float, limits: "MachineLimits", precision: str) -> Distance | None:
    """The distance of a call of so many seconds; None where the product of that precision was not measured."""
    reads, name = limits.read_gb_per_s_by_mb, product_of(precision)
    if name not in limits.gemm or not reads or seconds <= 0:
        return None
    product = limits.gemm[name] * 1e9
    least = {"memory": 0.0, "arithmetic": 0.0}
    parts = []
    for each in passes:
        size, speed = _reading(reads, each.bytes)
        reading, multiplying = each.bytes / speed, each.operations / product
        least["memory" if reading >= multiplying else "arithmetic"] += each.count * max(reading, multiplying)
        times = f"{each.count:g} x " if each.count != 1 else ""
        parts.append(
            f"{times}max({each.bytes / 1e6:.3g} MB / {speed / 1e9:.3g} GB/s, "
            f"{each.operations / 1e9:.3g} GFLOP / {product / 1e9:,.0f} GFLOP/s)"
        )
    total = sum(least.values())
    return Distance(
        share=total / seconds,
        bound=max(least, key=lambda each: least[each]),
        how=f"{' + '.join(parts)} = {1000 * total:.3g} ms at least, {1000 * seconds:.3g} ms measured; "
        f"{name} product, reads of {size} MB",
    )


def _reading(reads: Mapping[str, float], bytes_: float) -> tuple[int, float]:
    """The smallest measured size that holds so many bytes, else the largest, and its bytes a second."""
    sizes = sorted(map(int, reads))
    size = next((each for each in sizes if each << 20 >= bytes_), sizes[-1])
    return size, reads[str(size)] * 1e9


def _read(batch: Sequence[WorkRequest]) -> int:
    """Tokens that are read; a context that several requests of a batch share is read once at best."""
    contexts = {request.ids: len(request.ids) for request in batch}
    return sum(contexts.values()) + sum(len(request.target_ids) for request in batch)
