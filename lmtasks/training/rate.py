"""How fast a training goes, held against what the machine can do at best: its own rate of matrix products."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

GEMM_SHAPE = (2048, 1024, 1024)
GEMM_CALLS = 12


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one optimizer step does."""

    tokens: int
    """Of text, over all processes."""
    flops: float
    """Of products with weights, forward and backward; the products inside attention are left out."""
    gemm_flops_per_s: float
    """The best that this machine showed, over all processes."""

    def tokens_per_second(self, seconds: float) -> float:
        """For a step of so many seconds."""
        return self.tokens / max(1e-9, seconds)

    def share(self, seconds: float) -> float:
        """Of the rate of plain matrix products, for a step of so many seconds."""
        return self.flops / max(1e-9, seconds) / self.gemm_flops_per_s


def measured_work(
    learner: nn.Module, row: Mapping[str, Tensor], *, rows: int, tokens_per_row: int, bf16: bool, processes: int
) -> Work:
    """Count what a row costs by computing it once, and measure the machine for a fraction of a second.

    Args:
        row: a batch of one row.
        rows: of an optimizer step.
    """
    with FlopCounterMode(display=False) as counter:
        loss: Tensor = learner(row)
        loss.backward()
    learner.zero_grad()
    device = next(learner.parameters()).device
    return Work(
        tokens=rows * tokens_per_row,
        flops=float(counter.get_total_flops()) * rows,
        gemm_flops_per_s=_gemm_rate(device, bf16=bf16) * processes,
    )


def _gemm_rate(device: torch.device, *, bf16: bool) -> float:
    """The fastest of a few products; on a GPU of as many in a row, since calls only queue there."""
    dtype = torch.bfloat16 if bf16 else torch.float32
    rows, inner, columns = GEMM_SHAPE
    left = torch.ones(rows, inner, dtype=dtype, device=device)
    right = torch.ones(inner, columns, dtype=dtype, device=device)
    best = 0.0
    for _ in range(GEMM_CALLS):
        began = time.perf_counter()
        (left @ right)[0, 0].item()
        best = max(best, 2.0 * rows * inner * columns / (time.perf_counter() - began))
    return best
