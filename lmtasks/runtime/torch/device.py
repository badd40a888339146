"""Where and how torch computes: device, precision and threads, for both drivers over it.

Axes: B batch, T time, C classes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lmtasks.cores import checked_threads
from lmtasks.errors import UsageError
from lmtasks.records import Floats32, RuntimeCard, TokenBatch
from lmtasks.runtime.memory import free_host_bytes, keep_freed_memory
from lmtasks.settings.runtimes import TorchPrecision

DTYPES: Mapping[TorchPrecision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}


def beside(card: RuntimeCard, *, size_bytes: int, numbers: int) -> RuntimeCard:
    """The card of a runtime whose adapters are not merged into the weights.

    Args:
        numbers: that the adapters hold.
    """
    told = f"beside the products, {numbers:,} numbers"
    return replace(card, size_bytes=size_bytes, options={**card.options, "adapters": told})


class TorchDevice:
    """A device with the threads that compute there.

    Args:
        threads: of torch, set before each computation since they are a setting of the process.
    """

    def __init__(self, device: str, *, threads: int) -> None:
        self.device = device
        self.choose: Callable[[], None] = _nothing
        """Called before each computation: of several models over one backbone it lets the adapters of one count."""
        self._threads = threads

    def computing(self) -> torch.inference_mode:
        """Everything is computed inside of this."""
        self.choose()
        torch.set_num_threads(self._threads)
        return torch.inference_mode()

    def tensor(self, values: NDArray[np.generic]) -> Tensor:
        """An array on the device."""
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device)

    def heads_logits(
        self, heads: Callable[..., list[Tensor]], names: Sequence[str], batch: TokenBatch
    ) -> list[Floats32]:
        """Logits of each of the heads, (B, C) or (B, T, C).

        Args:
            heads: (names of the heads, ids, mask, types) -> logits.
            batch: padded on the right.
        """
        with self.computing():
            types = None if batch.types is None else self.tensor(batch.types)
            found = heads(tuple(names), self.tensor(batch.ids), self.tensor(batch.mask), types)
            return [to_numpy(logits) for logits in found]

    def free_bytes(self) -> int:
        """Memory that can still be taken on the device."""
        if torch.device(self.device).type == "cuda":
            return int(torch.cuda.mem_get_info(self.device)[0])
        return free_host_bytes()


def _nothing() -> None:
    """One model alone has nothing to choose."""


def torch_card(*, device: str, precision: str, threads: int | None, compiled: bool, size_bytes: int) -> RuntimeCard:
    """The card of a runtime over torch. On the CPU the process keeps memory that was freed from here on.

    Raises:
        UsageError: a precision that torch does not compute in, or less than one thread.
    """
    computed_in = torch_precision(precision)
    if device == "cpu":
        keep_freed_memory()
    return RuntimeCard(
        runtime="torch-compile" if compiled else "torch",
        version=torch.__version__,
        device=device,
        precision=computed_in,
        threads=checked_threads(threads),
        size_bytes=size_bytes,
    )


def torch_precision(precision: str) -> TorchPrecision:
    """A precision that torch computes in, by its name.

    Raises:
        UsageError: it is another one.
    """
    for known in DTYPES:
        if precision == known:
            return known
    raise UsageError(
        f"torch computes in {' or '.join(DTYPES)}, was asked for {precision!r}; 8 bits run in onnx: "
        "`lmtasks export --precision int8`."
    )


def to_numpy(values: Tensor) -> Floats32:
    """A tensor as an array in fp32, on the host."""
    array: Floats32 = values.float().cpu().numpy()
    return array
