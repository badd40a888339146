"""The one training loop. What is trained, on what, and how it is judged are handed in.

Batches are a function of the step number, and the random stream is set anew at each step from seed and step:
a training that was interrupted and resumed ends with the same weights as one that was not.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TextIO

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from lmtasks.errors import UsageError, WorkError
from lmtasks.records import Progress
from lmtasks.training.checkpoint import (
    Position,
    load_checkpoint,
    load_tensors,
    module_tensors,
    save_checkpoint,
)
from lmtasks.training.settings import TrainingSettings, learning_rate_share

Batch = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Trained:
    """How a training ended."""

    steps: int
    seconds: float
    best: float | None
    best_step: int
    stopped: str
    """Why it ended: `steps`, `minutes` or `patience`."""


def train(
    *,
    module: nn.Module,
    loss: Callable[[nn.Module, Batch], Tensor],
    batch_at: Callable[[int, int], Batch],
    settings: TrainingSettings,
    folder: Path,
    data_key: str,
    validate: Callable[[], float] | None,
    higher_is_better: bool,
    report: Callable[[Progress], None],
    device: str = "cpu",
) -> Trained:
    """Train `module` in place; at the end it holds the best weights by `validate`, or the last ones without it.

    Args:
        loss: mean loss of a batch, through the module (compiled or wrapped) that it is given.
        batch_at: (step, part) -> the rows of that accumulation part of that step.
        folder: holds the checkpoint and `training.jsonl`; a training found there is resumed.
        data_key: identifies the data, so that a checkpoint of another training is refused.
        validate: judged on data that is never trained on; called with the module in evaluation mode.

    Raises:
        WorkError: the loss is not finite.
    """
    if device == "cpu" and settings.precision == "bf16" and not torch.cpu._is_avx512_bf16_supported():
        raise UsageError("precision bf16 needs a processor with AVX-512 BF16; use --precision fp32.")
    accelerator = Accelerator(mixed_precision="bf16" if settings.precision == "bf16" else "no", cpu=device == "cpu")
    module.to(accelerator.device)
    optimizer = _optimizer(module, settings)
    conditions = _conditions(settings, data_key)
    checkpoint = folder / "checkpoint"
    best_file = folder / "best"
    position = load_checkpoint(checkpoint, module=module, optimizer=optimizer, conditions=conditions) or Position()
    runner, optimizer = accelerator.prepare(
        torch.compile(module, dynamic=False) if settings.compile else module, optimizer
    )
    folder.mkdir(parents=True, exist_ok=True)
    stopped = ""
    with (folder / "training.jsonl").open("a", encoding="utf-8") as log:
        while not stopped:
            stopped = _why_stop(settings, position)
            if stopped:
                break
            began = time.monotonic()
            share = learning_rate_share(settings, progress=_progress(settings, position))
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * share
            runner.train()
            value, norm = _step(accelerator, runner, module, optimizer, loss, batch_at, settings, position.step)
            position = replace(position, step=position.step + 1, seconds=position.seconds + time.monotonic() - began)
            record: dict[str, object] = {
                "step": position.step,
                "seconds": round(position.seconds, 2),
                "loss": round(value, 5),
                "learning_rate": settings.learning_rate * share,
                "gradient_norm": round(norm, 4),
            }
            due = bool(settings.evaluate_every) and position.step % settings.evaluate_every == 0
            if validate and (due or _why_stop(settings, position)):
                position = _judge(accelerator, module, validate, higher_is_better, position, best_file, record)
            _log(log, record, accelerator)
            report(_progress_report(settings, position, record))
            if position.step % settings.checkpoint_every == 0 and accelerator.is_main_process:
                save_checkpoint(
                    checkpoint, module=module, optimizer=_inner(optimizer), position=position, conditions=conditions
                )
    if accelerator.is_main_process:
        save_checkpoint(
            checkpoint, module=module, optimizer=_inner(optimizer), position=position, conditions=conditions
        )
    if validate and position.best is not None:
        load_tensors(module, _read(best_file))
    module.eval()
    return Trained(
        steps=position.step,
        seconds=position.seconds,
        best=position.best,
        best_step=position.best_step,
        stopped=stopped,
    )


def _step(
    accelerator: Accelerator,
    runner: nn.Module,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Callable[[nn.Module, Batch], Tensor],
    batch_at: Callable[[int, int], Batch],
    settings: TrainingSettings,
    step: int,
) -> tuple[float, float]:
    torch.manual_seed(settings.seed * 1_000_003 + step)
    total = 0.0
    for part in range(settings.accumulate):
        batch = {name: tensor.to(accelerator.device) for name, tensor in batch_at(step, part).items()}
        with accelerator.autocast():
            value = loss(runner, batch)
        accelerator.backward(value / settings.accumulate)
        total += float(value.detach())
    norm = accelerator.clip_grad_norm_(module.parameters(), settings.clip)
    optimizer.step()
    optimizer.zero_grad()
    mean = total / settings.accumulate
    if not mean < float("inf"):
        raise WorkError(f"the loss became {mean} at step {step + 1}; use a lower learning rate.")
    return mean, float(norm)


def _judge(
    accelerator: Accelerator,
    module: nn.Module,
    validate: Callable[[], float],
    higher_is_better: bool,
    position: Position,
    best_file: Path,
    record: dict[str, object],
) -> Position:
    module.eval()
    with torch.no_grad():
        value = validate()
    record["validation"] = round(value, 6)
    better = position.best is None or (value > position.best if higher_is_better else value < position.best)
    if not better:
        return replace(position, without_gain=position.without_gain + 1)
    if accelerator.is_main_process:
        _write(best_file, module_tensors(module))
    return replace(position, best=value, best_step=position.step, without_gain=0)


def _progress(settings: TrainingSettings, position: Position) -> float:
    by_step = position.step / settings.steps
    return max(by_step, position.seconds / 60 / settings.minutes) if settings.minutes else by_step


def _why_stop(settings: TrainingSettings, position: Position) -> str:
    if position.step >= settings.steps:
        return "steps"
    if settings.minutes and position.seconds >= settings.minutes * 60:
        return "minutes"
    return "patience" if settings.patience and position.without_gain >= settings.patience else ""


def _progress_report(settings: TrainingSettings, position: Position, record: Mapping[str, object]) -> Progress:
    validation = f", validation {record['validation']}" if "validation" in record else ""
    total = settings.steps
    if settings.minutes:
        total = min(total, max(position.step, round(position.step / max(1e-9, _progress(settings, position)))))
    return Progress(
        stage="train", done=position.step, total=total, unit="steps", note=f"loss {record['loss']}{validation}"
    )


def _optimizer(module: nn.Module, settings: TrainingSettings) -> torch.optim.AdamW:
    free = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [item for item in free if item.dim() >= 2], "weight_decay": settings.weight_decay},
        {"params": [item for item in free if item.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=settings.betas)


def _inner(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """accelerate wraps the optimizer; the state belongs to the one inside."""
    inner: torch.optim.Optimizer = getattr(optimizer, "optimizer", optimizer)
    return inner


def _conditions(settings: TrainingSettings, data_key: str) -> str:
    # How long to train and how often to look may change when a training is resumed; the rest may not.
    free = {"checkpoint_every": 0, "evaluate_every": 0, "minutes": None, "patience": 0}
    kept = {**asdict(settings), **free}
    return hashlib.sha256((json.dumps(kept) + data_key).encode()).hexdigest()[:16]


def _log(log: TextIO, record: Mapping[str, object], accelerator: Accelerator) -> None:
    if accelerator.is_main_process:
        log.write(json.dumps(record) + "\n")
        log.flush()


def _write(stem: Path, tensors: Mapping[str, Tensor]) -> None:
    from safetensors.torch import save_file

    aside = stem.with_suffix(".part")
    save_file(dict(tensors), str(aside))
    aside.replace(stem.with_suffix(".safetensors"))


def _read(stem: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(str(stem.with_suffix(".safetensors")))
