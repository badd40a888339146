"""One optimizer step: the parts of its rows forward and backward, on one process or several; then the update.

Optimizers: `muon` (Jordan et al., 2024, "Muon: an optimizer for hidden layers") moves the matrices between the layers
by an orthogonalized momentum, with steps as large as AdamW's (Liu et al., 2025, "Muon is scalable for LLM training");
embeddings, projections to the vocabulary, norms and biases stay with AdamW. How fast steps go is held against what the
machine can do at best: its own rate of matrix products.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from lmtasks.errors import WorkError
from lmtasks.settings.training import TrainingSettings

EMBEDDING_PARTS = frozenset({"lm_head", "classifier", "decoder_predictions", "teacher_projection"})
"""Modules by the last part of their name that project to a vocabulary, to labels or to a teacher's vectors."""
GEMM_SHAPE = (2048, 1024, 1024)
GEMM_CALLS = 12
Batch = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class StepDone:
    """Result of one optimizer step; the same in all processes."""

    loss: float
    """Mean over all parts."""
    norm: float
    """Norm of the gradient, before it was clipped."""
    seconds: float
    ending: bool
    """Did a signal ask one of the processes to end?"""


@dataclass(frozen=True, kw_only=True)
class Stepping:
    """Computes the steps of a training."""

    accelerator: Accelerator
    runner: nn.Module
    loss: Callable[[nn.Module, Batch], Tensor]
    batch_at: Callable[[int, int], Batch]
    settings: TrainingSettings
    name_batch: Callable[[int], str]
    """Name of a step's batch, for people."""

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


def make_optimizers(module: nn.Module, settings: TrainingSettings) -> tuple[torch.optim.Optimizer, ...]:
    """The optimizers of a module; together they hold every weight that moves, once."""
    free = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    hidden = _hidden_matrices(module, free) if settings.optimizer == "muon" else {}
    rest = [parameter for name, parameter in free.items() if name not in hidden]
    groups = [
        {"params": [item for item in rest if item.dim() >= 2], "weight_decay": settings.weight_decay},
        {"params": [item for item in rest if item.dim() < 2], "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=settings.betas, fused=True)
    if not hidden:
        return (adamw,)
    muon = torch.optim.Muon(
        list(hidden.values()),
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        adjust_lr_fn="match_rms_adamw",
    )
    return (adamw, muon)


def set_learning_rate(optimizers: Sequence[torch.optim.Optimizer], rate: float) -> None:
    """The rate of the next step."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate


def optimizer_tensors(module: nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """The state of the optimizers, named `KEY:PARAMETER`."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in module.named_parameters()}
    return {
        f"{key}:{names[parameter]}": torch.as_tensor(value).detach().cpu().contiguous()
        for optimizer in optimizers
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }


def load_optimizer_tensors(
    module: nn.Module, optimizers: Sequence[torch.optim.Optimizer], saved: Mapping[str, Tensor]
) -> None:
    """Put back what `optimizer_tensors` took."""
    names = {parameter: name for name, parameter in module.named_parameters()}
    states: dict[str, dict[str, Tensor]] = {}
    for entry, tensor in saved.items():
        key, _, name = entry.partition(":")
        states.setdefault(name, {})[key] = tensor
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if names[parameter] in states:
                    # In one pass, AdamW counts its steps where the parameter is.
                    optimizer.state[parameter] = {
                        key: tensor.to(parameter.device) for key, tensor in states[names[parameter]].items()
                    }


@dataclass(frozen=True, kw_only=True)
class Work:
    """Work of one optimizer step."""

    tokens: int
    """Tokens of text, over all processes."""
    flops: float
    """Operations of products with weights, forward and backward; the products inside attention are left out."""
    gemm_flops_per_s: float
    """The best that this machine showed, over all processes."""

    def tokens_per_second(self, seconds: float) -> float:
        """For a step of so many seconds."""
        return self.tokens / max(1e-9, seconds)

    def share(self, seconds: float) -> float:
        """Share of the rate of plain matrix products, for a step of so many seconds."""
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


def _hidden_matrices(module: nn.Module, free: Mapping[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    """Weights of linear layers that lie between layers: not those that meet a vocabulary."""
    embeddings = {id(item.weight) for item in module.modules() if isinstance(item, nn.Embedding)}
    linear = {
        f"{name}.weight"
        for name, item in module.named_modules()
        if isinstance(item, nn.Linear) and name.rpartition(".")[2] not in EMBEDDING_PARTS
    }
    return {name: item for name, item in free.items() if name in linear and id(item) not in embeddings}


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
