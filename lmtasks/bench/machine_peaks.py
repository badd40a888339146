"""The most that this machine can do, measured in a process of its own in the same run: the yardstick of every timing.

A generation step at batch 1 reads every weight once, so it cannot be faster than memory can be read; long texts and
large batches cannot be faster than the matrix product in their precision.

Each limit is the fastest call of whatever library is installed and does it best (NumPy's BLAS, torch, onnxruntime): a
limit that is measured too low would make every runtime look good.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from lmtasks.bench.clock import Stop, time_calls, warm_up
from lmtasks.records import Floats32, Json

if TYPE_CHECKING:
    from torch import Tensor

COPY_BYTES = 128 << 20
"""Larger than the caches; read once and written once a call."""
READ_MB = (4, 16, 64, 256)
"""A model whose weights fit into a cache reads them faster than memory would give them."""
GEMM_SIZE = 1024
CUDA_GEMM_SIZE = 8192
CUDA_READ_BYTES = 4 << 30

Product = tuple[str, str, Callable[[], object]]
"""Precision, what computes, one product."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The best of several calls, with `threads` threads."""

    device: str
    threads: int
    read_gb_per_s: Mapping[int, float]
    """1e9 bytes a second that are read and summed up, over and over, by size of what is read in MB (2 to the 20th);
    the largest comes from memory."""
    copy_gb_per_s: float
    """Plain copy, read and written bytes both counted."""
    gemm_gflop_per_s: Mapping[str, float]
    """Square matrix product by precision: 1e9 additions and multiplications a second."""
    gemm_by: Mapping[str, str]
    """What computed each of them fastest."""
    gemm_size: int

    def as_json(self) -> Json:
        """Ready for a JSON file; `gemm_gflop_per_s` is the one of fp32, `read_gb_per_s` the one of memory."""
        return {
            "device": self.device,
            "threads": self.threads,
            "read_gb_per_s": round(self.read_gb_per_s[max(self.read_gb_per_s)], 2),
            "read_gb_per_s_by_mb": {str(size): round(rate, 2) for size, rate in self.read_gb_per_s.items()},
            "copy_gb_per_s": round(self.copy_gb_per_s, 2),
            "gemm_gflop_per_s": round(self.gemm_gflop_per_s["fp32"], 1),
            "gemm": {name: round(rate, 1) for name, rate in self.gemm_gflop_per_s.items()},
            "gemm_by": dict(self.gemm_by),
            "gemm_size": self.gemm_size,
        }


def measure_limits(*, threads: int, device: str = "cpu", seconds: float = 2.0) -> Limits:
    """Measure all of them.

    Args:
        threads: for all of it. BLAS has read its number (OMP_NUM_THREADS, ...) when NumPy was imported.
        device: `cpu` or `cuda`; the latter by torch.
        seconds: for all together.
    """
    cpu = device == "cpu"
    products = list(_products(threads) if cpu else _cuda_products())
    each = seconds / (len(products) + len(READ_MB) + 1)
    size = GEMM_SIZE if cpu else CUDA_GEMM_SIZE
    rates: dict[str, float] = {}
    by: dict[str, str] = {}
    for precision, name, product in products:
        rate = 2 * size**3 / _fastest(product, each) / 1e9
        if rate > rates.get(precision, 0.0):
            rates[precision], by[precision] = rate, name
    return Limits(
        device=device,
        threads=threads,
        read_gb_per_s={mb: read_bandwidth(threads=threads, seconds=each, size_bytes=mb << 20) for mb in READ_MB}
        if cpu
        else {CUDA_READ_BYTES >> 20: _cuda_bandwidth(each, copy=False)},
        copy_gb_per_s=copy_bandwidth(threads=threads, seconds=each) if cpu else _cuda_bandwidth(each, copy=True),
        gemm_gflop_per_s=rates,
        gemm_by=by,
        gemm_size=size,
    )


def read_bandwidth(*, threads: int, seconds: float, size_bytes: int = max(READ_MB) << 20) -> float:
    """GB/s of a sum of squares (`dot`), the fastest call: the one of NumPy's reductions that waits for memory only."""
    source = np.ones(size_bytes // 4, np.float32)
    parts = [source[low:high] for low, high in _parts(len(source), threads)]
    with ThreadPoolExecutor(threads) as pool:  # BLAS lets the interpreter's lock go
        apart = _fastest(lambda: list(pool.map(lambda part: np.dot(part, part), parts)), seconds / 2)
    return size_bytes / min(apart, _fastest(lambda: np.dot(source, source), seconds / 2)) / 1e9


def copy_bandwidth(*, threads: int, seconds: float, size_bytes: int = COPY_BYTES) -> float:
    """GB/s of a copy, the fastest call."""
    source = np.ones(size_bytes // 4, np.float32)
    target = np.zeros_like(source)
    parts = _parts(len(source), threads)

    def part(bound: tuple[int, int]) -> None:
        np.copyto(target[bound[0] : bound[1]], source[bound[0] : bound[1]])  # gives the interpreter's lock back

    with ThreadPoolExecutor(threads) as pool:
        return 2 * size_bytes / _fastest(lambda: list(pool.map(part, parts)), seconds) / 1e9


def gemm_rate(*, seconds: float, size: int = GEMM_SIZE) -> float:
    """GFLOP/s of a square fp32 matrix product in NumPy, the fastest call: the fixed kernel around every block."""
    a, b = _matrices(size)
    out = np.empty_like(a)
    return 2 * size**3 / _fastest(lambda: np.matmul(a, b, out=out), seconds) / 1e9


def _products(threads: int) -> Iterator[Product]:
    a, b = _matrices(GEMM_SIZE)
    yield "fp32", "NumPy", lambda: np.matmul(a, b)
    if find_spec("torch") is not None:
        import torch

        torch.set_num_threads(threads)
        yield "fp32", "torch", _torch_product(torch.from_numpy(a), torch.from_numpy(b))
        yield "bf16", "torch", _torch_product(torch.from_numpy(a).bfloat16(), torch.from_numpy(b).bfloat16())
    if find_spec("onnxruntime") is not None and find_spec("onnx") is not None:
        yield "fp32", "onnxruntime", _onnx_product("MatMul", a, b, threads)
        eights = np.random.default_rng(0).integers(0, 100, size=(GEMM_SIZE, GEMM_SIZE))
        yield (
            "int8",
            "onnxruntime",
            _onnx_product("MatMulInteger", eights.astype(np.uint8), eights.astype(np.int8), threads),
        )


def _torch_product(a: "Tensor", b: "Tensor") -> Callable[[], object]:
    import torch

    def product() -> object:
        with torch.inference_mode():
            return torch.matmul(a, b)

    return product


def _onnx_product(operator: str, a: np.ndarray, b: np.ndarray, threads: int) -> Callable[[], object]:  # type: ignore[type-arg]
    """The right factor is a constant, as weights are: onnxruntime packs it once."""
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    kinds = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.uint8): TensorProto.UINT8}
    given = helper.make_tensor_value_info("a", kinds[a.dtype], list(a.shape))
    answer = TensorProto.FLOAT if a.dtype == np.float32 else TensorProto.INT32
    taken = helper.make_tensor_value_info("c", answer, [a.shape[0], b.shape[1]])
    node = helper.make_node(operator, ["a", "b"], ["c"])
    graph = helper.make_graph([node], "product", [given], [taken], [numpy_helper.from_array(b, "b")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        onnx.ModelProto.SerializeToString(model), options, providers=["CPUExecutionProvider"]
    )
    return lambda: session.run(["c"], {"a": a})


def _cuda_products() -> Iterator[Product]:
    import torch

    for name, kind in (("fp32", torch.float32), ("fp16", torch.float16), ("bf16", torch.bfloat16)):
        a = torch.ones((CUDA_GEMM_SIZE, CUDA_GEMM_SIZE), dtype=kind, device="cuda")
        yield name, "torch", _synchronized(_torch_product(a, a))


def _cuda_bandwidth(seconds: float, *, copy: bool) -> float:
    import torch

    source = torch.ones(CUDA_READ_BYTES // 4, dtype=torch.float32, device="cuda")
    target = torch.empty_like(source) if copy else source
    call: Callable[[], object] = (lambda: target.copy_(source)) if copy else (lambda: torch.sum(source))
    return (2 if copy else 1) * CUDA_READ_BYTES / _fastest(_synchronized(call), seconds) / 1e9


def _synchronized(call: Callable[[], object]) -> Callable[[], object]:
    import torch

    def finished() -> None:
        call()
        torch.cuda.synchronize()

    return finished


def _matrices(size: int) -> tuple[Floats32, Floats32]:
    draw = np.random.default_rng(0)
    return draw.standard_normal((size, size), np.float32), draw.standard_normal((size, size), np.float32)


def _parts(length: int, count: int) -> list[tuple[int, int]]:
    return list(pairwise(np.linspace(0, length, count + 1).astype(int).tolist()))


def _fastest(call: Callable[[], object], seconds: float) -> float:
    started = time.perf_counter()
    warm_up(call, window=1, most_seconds=seconds / 4)
    left = max(0.0, seconds - (time.perf_counter() - started))
    return min(time_calls(call, stop=Stop(least_calls=3, least_seconds=left)).seconds)
