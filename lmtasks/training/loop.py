"""The one training loop. What is trained, on what, and how it is judged are handed in.

Batches are a function of the step number, and the random stream is set anew at each step from seed and step:
a training that was interrupted and resumed ends with the same weights as one that was not.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import Tensor, nn

from lmtasks.errors import UsageError
from lmtasks.files import aside
from lmtasks.interruption import uninterrupted
from lmtasks.processor import INSTRUCTIONS
from lmtasks.records import Progress
from lmtasks.settings.training import TrainingSettings
from lmtasks.training.checkpoint import (
    Conditions,
    Position,
    load_checkpoint,
    load_tensors,
    module_tensors,
    save_checkpoint,
)
from lmtasks.training.curve import LOG, cut_log, read_log
from lmtasks.training.schedule import computes_bf16, is_cooling, learning_rate_share
from lmtasks.training.stepping import Batch, Stepping, Work, make_optimizers, set_learning_rate
from lmtasks.training.validation import Validation


@dataclass(frozen=True, kw_only=True)
class Trained:
    """End of a training."""

    steps: int
    seconds: float
    best: float | None
    best_step: int
    stopped: str
    """Why it ended: `steps`, `minutes` or `patience`; `fitted` where no step was needed."""


def train(
    *,
    module: nn.Module,
    loss: Callable[[nn.Module, Batch], Tensor],
    batch_at: Callable[[int, int], Batch],
    settings: TrainingSettings,
    folder: Path,
    data_key: str,
    teacher_key: str = "",
    validate: Callable[[], Validation] | None,
    higher_is_better: bool,
    report: Callable[[Progress], None],
    device: str = "cpu",
    work: Work | None = None,
    name_batch: Callable[[int], str] | None = None,
    learned_at: Callable[[int], str] | None = None,
    partly: bool = False,
    judge_first: bool = False,
) -> Trained:
    """Train `module` in place; at the end it holds the latest weights that `validate` does not show to be worse than
    earlier ones (`validation`), or the last ones without it.

    Args:
        loss: mean loss of a batch, through the module (perhaps wrapped) that it is given; compiled if so set.
        batch_at: (step, part) -> the rows of that accumulation part of that step.
        folder: holds the checkpoint and the log; a training found there is resumed.
        data_key: identifies the data, so that a checkpoint of another training is refused.
        teacher_key: identifies the teacher, which may be another one than that of the training that was begun from.
        validate: called with the module in evaluation mode.
        work: what a step does, for the speed that is shown.
        name_batch: tells people what the batch of a step is; default: the numbers of its rows.
        learned_at: what the batch of a step is learned for, for the log; None: all for the same.
        partly: may a step leave some weights without a gradient, as those of a head that it does not ask?
        judge_first: are the weights judged before the first step, too? They may then be those that are kept.

    Raises:
        WorkError: the loss is not finite; the last checkpoint stays as it is.
        KeyboardInterrupt: a signal came; the step was finished, and the checkpoint is that of this step.
    """
    if settings.precision == "bf16" and not computes_bf16(device):
        raise UsageError(f"precision bf16 needs a processor with {INSTRUCTIONS['bf16'].names}; use --precision fp32.")
    # Autocast is entered here, around the loss: accelerate's own wraps the module, and would turn logits to fp32.
    shared = DistributedDataParallelKwargs(find_unused_parameters=partly)
    accelerator = Accelerator(mixed_precision="no", cpu=device == "cpu", kwargs_handlers=[shared])
    if settings.accumulate % accelerator.num_processes:
        raise UsageError(
            f"accumulate must be a multiple of the {accelerator.num_processes} processes, was {settings.accumulate}."
        )
    module.to(accelerator.device)
    optimizers = make_optimizers(module, settings)
    conditions = _conditions(settings, data_key, teacher_key)
    checkpoint = folder / "checkpoint"
    best_file = folder / "best"
    begun = load_checkpoint(checkpoint, module=module, optimizers=optimizers, conditions=conditions)
    position = begun or Position(unjudged=judge_first and validate is not None)
    _check_cooling(settings, position)
    runner = accelerator.prepare(module) if accelerator.num_processes > 1 else module
    stepping = Stepping(
        accelerator=accelerator,
        runner=runner,
        loss=torch.compile(loss, dynamic=False) if settings.compile else loss,
        batch_at=batch_at,
        settings=settings,
        name_batch=name_batch or (lambda step: f"rows {_rows(settings, step)}"),
    )

    def save() -> None:
        if accelerator.is_main_process:
            save_checkpoint(checkpoint, module=module, optimizers=optimizers, position=position, conditions=conditions)

    folder.mkdir(parents=True, exist_ok=True)
    if accelerator.is_main_process:
        cut_log(folder / LOG, step=position.step)
    accelerator.wait_for_everyone()
    alone = accelerator.num_processes == 1
    record: dict[str, object] = dict((read_log(folder / LOG) or [{"step": 0, "seconds": 0.0}])[-1])
    fresh = position.unjudged  # is it to be written?
    with (folder / LOG).open("a", encoding="utf-8") as log, uninterrupted() as signals:
        while True:
            if validate and position.unjudged:
                try:  # several processes wait for each other in the next step, so that none may leave here
                    with signals.let_through() if alone else nullcontext():
                        position = _judge(accelerator, module, validate, higher_is_better, position, best_file, record)
                except KeyboardInterrupt:
                    _log(log, record, accelerator)
                    save()
                    raise
            if fresh:
                _log(log, record, accelerator)
                report(_progress_report(settings, position, record))
                if position.step and position.step % settings.checkpoint_every == 0:
                    save()
            stopped = _why_stop(settings, position)
            if stopped:
                save()
                break
            rate = settings.learning_rate * learning_rate_share(
                settings, step=position.step, progress=_progress(settings, position)
            )
            set_learning_rate(optimizers, rate)
            done = stepping.step(module, optimizers, position.step, ending=lambda: signals.held)
            position = replace(position, step=position.step + 1, seconds=position.seconds + done.seconds)
            if is_cooling(settings, step=position.step):
                position = replace(position, cooling_to=settings.steps)
            due = bool(settings.evaluate_every) and position.step % settings.evaluate_every == 0
            position = replace(position, unjudged=bool(validate) and (due or bool(_why_stop(settings, position))))
            fresh = True
            record = {
                "step": position.step,
                "seconds": round(position.seconds, 2),
                "loss": round(done.loss, 5),
                "learning_rate": rate,
                "gradient_norm": round(done.norm, 4),
            }
            if learned_at is not None:
                record["head"] = learned_at(position.step - 1)
            if work is not None:
                record["tokens_per_second"] = round(work.tokens_per_second(done.seconds))
                record["gemm_share"] = round(work.share(done.seconds), 4)
            if done.ending:
                _log(log, record, accelerator)
                save()
                accelerator.wait_for_everyone()
                raise KeyboardInterrupt
    accelerator.wait_for_everyone()
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


def _judge(
    accelerator: Accelerator,
    module: nn.Module,
    validate: Callable[[], Validation],
    higher_is_better: bool,
    position: Position,
    best_file: Path,
    record: dict[str, object],
) -> Position:
    module.eval()
    with torch.no_grad():
        judged = validate()
    value = judged.value
    record["validation"] = round(value, 6)
    if judged.parts:
        record["validation_parts"] = {name: round(part, 6) for name, part in judged.parts.items()}
    if judged.losses:
        record["validation_losses"] = {name: round(loss, 5) for name, loss in judged.losses.items()}
    before = None if position.highest is None else Validation(value=position.highest, rows=position.highest_rows)
    kept = before is None or not before.beats(judged, higher_is_better=higher_is_better)
    record["kept"] = kept
    if before is None or (value > before.value if higher_is_better else value < before.value):
        position = replace(position, highest=value, highest_rows=judged.rows)
    if not kept:
        return replace(position, without_gain=position.without_gain + 1, unjudged=False)
    if accelerator.is_main_process:
        _write(best_file, module_tensors(module))
    return replace(position, best=value, best_step=position.step, without_gain=0, unjudged=False)


def _rows(settings: TrainingSettings, step: int) -> str:
    return f"{step * settings.batch_rows} to {(step + 1) * settings.batch_rows - 1}"


def _check_cooling(settings: TrainingSettings, position: Position) -> None:
    if position.cooling_to and position.cooling_to != settings.steps:
        raise UsageError(
            f"this training's cool-down has begun and ends at step {position.cooling_to}; "
            f"give the same steps to end it (was {settings.steps}), or start another one from a checkpoint before it."
        )
    begins = settings.steps - settings.cooldown_steps
    if settings.cooldown_steps and not position.cooling_to and position.step > begins:
        raise UsageError(
            f"the training stands at step {position.step}, behind the cool-down's begin at step {begins}; "
            f"give --steps {position.step + settings.cooldown_steps} or more."
        )


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
    notes = [f"loss {record['loss']}"] if "loss" in record else []
    if "validation" in record:
        notes.append(f"validation {record['validation']}")
    if "tokens_per_second" in record:
        share = float(str(record["gemm_share"]))
        notes.append(f"{record['tokens_per_second']:,} tokens/s, {share:.0%} of plain matrix products")
    total = settings.steps
    if settings.minutes:
        total = min(total, max(position.step, round(position.step / max(1e-9, _progress(settings, position)))))
    return Progress(stage="train", done=position.step, total=total, unit="steps", note=", ".join(notes))


def _conditions(settings: TrainingSettings, data_key: str, teacher_key: str) -> Conditions:
    # How long to train and how often to look may change when a training is resumed; the rest may not.
    free: dict[str, object] = {"checkpoint_every": 0, "evaluate_every": 0, "minutes": None, "patience": 0}
    if settings.decay == "wsd":  # its stable phase is the same however long it lasts
        free |= {"steps": 0, "cooldown_steps": 0}
    kept = {**settings.stored(), **free}
    return Conditions(training=_hash(json.dumps(kept) + data_key), teacher=_hash(teacher_key) if teacher_key else "")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _log(log: TextIO, record: Mapping[str, object], accelerator: Accelerator) -> None:
    if accelerator.is_main_process:
        log.write(json.dumps(record) + "\n")
        log.flush()


def _write(stem: Path, tensors: Mapping[str, Tensor]) -> None:
    from safetensors.torch import save_file

    with aside(stem.with_suffix(".safetensors")) as part:
        save_file(dict(tensors), str(part))


def _read(stem: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(str(stem.with_suffix(".safetensors")))
