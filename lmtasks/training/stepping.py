"""One optimizer step: the parts of its rows forward and backward, on one process or several; then the update."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from lmtasks.errors import WorkError
from lmtasks.settings.training import TrainingSettings

Batch = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class StepDone:
    """What one optimizer step came to; the same in all processes."""

    loss: float
    """Mean over all parts."""
    norm: float
    """Of the gradient, before it was clipped."""
    seconds: float
    ending: bool
    """Did a signal ask one of the processes to end?"""


@dataclass(frozen=True, kw_only=True)
class Stepping:
    """How the steps of a training are computed."""

    accelerator: Accelerator
    runner: nn.Module
    loss: Callable[[nn.Module, Batch], Tensor]
    batch_at: Callable[[int, int], Batch]
    settings: TrainingSettings
    name_batch: Callable[[int], str]
    """What the batch of a step is, for people."""

    def step(
        self,
        module: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        step: int,
        *,
        ending: Callable[[], bool] = lambda: False,
    ) -> StepDone:
        """One optimizer step. A process takes every so many-th part.

        Args:
            ending: asked at the step's end: is this process to end?
        """
        with _deterministic(self.accelerator.device):
            return self._step(module, optimizers, step, ending)

    def _step(
        self,
        module: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        step: int,
        ending: Callable[[], bool],
    ) -> StepDone:
        began = time.monotonic()
        self.runner.train()
        settings, accelerator = self.settings, self.accelerator
        count = accelerator.num_processes
        total = torch.zeros((), device=accelerator.device)
        parts = range(accelerator.process_index, settings.accumulate, count)
        for part in parts:
            torch.manual_seed(settings.seed * 1_000_003 + step * settings.accumulate + part)
            batch = {name: tensor.to(accelerator.device) for name, tensor in self.batch_at(step, part).items()}
            kept = contextlib.nullcontext() if part == parts[-1] else accelerator.no_sync(self.runner)
            with kept:
                with torch.autocast(
                    accelerator.device.type, dtype=torch.bfloat16, enabled=settings.precision == "bf16"
                ):
                    value = self.loss(self.runner, batch)
                (value * (count / settings.accumulate)).backward()  # gradients are averaged over processes
            total += value.detach().float()
        norm = float(nn.utils.clip_grad_norm_(module.parameters(), settings.clip))
        if not math.isfinite(norm):  # of the averaged gradient, so that all processes see it
            raise WorkError(
                f"at step {step + 1} the loss became {float(total) * count / settings.accumulate:g} and its gradient "
                f"{norm:g}, in the batch of {self.name_batch(step)}; the last checkpoint is kept. "
                "Use a lower learning rate, or look at this batch."
            )
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        # The clock is the main process', so that all stop at the same step.
        clock = time.monotonic() - began if accelerator.is_main_process else 0.0
        own = torch.tensor([clock, float(ending())], device=total.device)
        told = torch.cat([(total / settings.accumulate)[None], own])
        mean, seconds, ended = accelerator.reduce(told, reduction="sum").tolist()
        return StepDone(loss=mean, norm=norm, seconds=seconds, ending=ended > 0)


@contextlib.contextmanager
def _deterministic(device: torch.device) -> Iterator[None]:
    """Sums in one order, so that a resumed training is the same to the last bit: torch's compiler adds up the
    gradients of embeddings in any order otherwise, and is no faster for it (lmtasks-mini's shape, two cores).

    torch would also fill all memory that it takes, for operators that read what nobody wrote; that took 6 % of a step
    (the CNN of Kim, 2014), and such an operator would be a fault of ours."""
    before, torch_s = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic
    filled: bool = torch_s.fill_uninitialized_memory  # type: ignore[attr-defined]  # a property of the module
    torch.use_deterministic_algorithms(before or device.type == "cpu")
    torch_s.fill_uninitialized_memory = filled and (before or device.type != "cpu")  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch_s.fill_uninitialized_memory = filled  # type: ignore[attr-defined]
