"""A training's state on disk: weights and optimizers as safetensors, the rest as JSON. No pickle.

A checkpoint is written aside and then renamed, and the one before it is kept as `NAME.old`: a kill at any moment
leaves a whole one, and a file that was damaged afterwards costs one checkpoint, not the training.
"""

import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lmtasks.errors import UsageError
from lmtasks.files import parse_json
from lmtasks.training.stepping import load_optimizer_tensors, optimizer_tensors

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Position:
    """Position of a training."""

    step: int = 0
    seconds: float = 0.0
    """Training time so far, evaluation not counted."""
    best: float | None = None
    """Best validation value so far."""
    best_step: int = 0
    without_gain: int = 0
    """Evaluations since the best one."""
    unjudged: bool = False
    """Is the evaluation of this step still to come? A signal may have cut it short."""
    cooling_to: int = 0
    """The last step of the cool-down that has begun; 0: none has."""


@dataclass(frozen=True, kw_only=True)
class _Read:
    position: Position
    conditions: str
    weights: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]


def save_checkpoint(
    folder: Path,
    *,
    module: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    position: Position,
    conditions: str,
) -> None:
    """Write `folder`, keeping the one before it as `NAME.old`. `conditions` identifies the training it belongs to."""
    aside = folder.with_name(folder.name + ".part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    save_file(module_tensors(module), str(aside / "weights.safetensors"))
    save_file(optimizer_tensors(module, optimizers), str(aside / "optimizer.safetensors"))
    state = {"position": asdict(position), "conditions": conditions}
    (aside / "position.json").write_text(json.dumps(state), encoding="utf-8")
    replace_folder(aside, folder, keep_old=True)


def load_checkpoint(
    folder: Path, *, module: nn.Module, optimizers: Sequence[torch.optim.Optimizer], conditions: str
) -> Position | None:
    """Restore module and optimizers in place; None where there is no checkpoint.

    Where the last checkpoint was not finished or cannot be read, the one before it is taken, and a warning logged.

    Raises:
        UsageError: the checkpoint belongs to a training with other settings or data, or to another backbone.
    """
    read = _read_last(folder)
    if read is None:
        return None
    check_fits(read.weights, module, name=str(folder))
    if read.conditions != conditions:
        raise UsageError(
            f"{folder} holds a training with other settings or data; "
            "give the same ones to go on, another --out, or delete it to start again."
        )
    load_tensors(module, read.weights)
    load_optimizer_tensors(module, optimizers, read.optimizer)
    return read.position


def position_of(folder: Path) -> Position | None:
    """Position of the training of a checkpoint; None where there is no checkpoint."""
    read = _read_last(folder)
    return None if read is None else read.position


def check_fits(weights: Mapping[str, Tensor], module: nn.Module, *, name: str) -> None:
    """That weights belong to a module of this family and size.

    Raises:
        UsageError: they do not; names the first weight that differs.
    """
    own = module_tensors(module)
    for missing in (*(own.keys() - weights.keys()), *(weights.keys() - own.keys())):
        where = "the backbone" if missing in own else "the checkpoint"
        raise UsageError(f"{name} holds another family or depth than --backbone: only {where} has {missing!r}.")
    for key, tensor in own.items():
        if tensor.shape != weights[key].shape:
            raise UsageError(
                f"{name} holds another size than --backbone: {key!r} is {tuple(weights[key].shape)} there, "
                f"and {tuple(tensor.shape)} asked for."
            )


def module_tensors(module: nn.Module) -> dict[str, Tensor]:
    """The module's own tensors by name, shared ones once."""
    seen: set[int] = set()
    tensors: dict[str, Tensor] = {}
    for name, tensor in module.state_dict().items():
        if tensor.data_ptr() not in seen or tensor.numel() == 0:
            seen.add(tensor.data_ptr())
            tensors[name] = tensor.detach().cpu().contiguous()
    return tensors


def load_tensors(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy tensors into the module by name, where `module_tensors` took them from."""
    with torch.no_grad():
        state = module.state_dict()
        for name, tensor in tensors.items():
            state[name].copy_(tensor)


def replace_folder(aside: Path, folder: Path, *, keep_old: bool = False) -> None:
    """Put `aside` where `folder` is; at every moment one whole folder exists."""
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.rename(folder, old)
    os.rename(aside, folder)
    if not keep_old:
        shutil.rmtree(old, ignore_errors=True)


def _read_last(folder: Path) -> _Read | None:
    part = folder.with_name(folder.name + ".part")
    old = folder.with_name(folder.name + ".old")
    whole = [place for place in (folder, old) if place.is_dir()]
    for number, place in enumerate(whole):
        try:
            read = _read(place)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            if number + 1 == len(whole):
                raise UsageError(
                    f"the checkpoint {place} cannot be read ({error}), and there is none before it; "
                    f"delete {folder.parent} to start again."
                ) from error
            log.warning("the checkpoint %s cannot be read (%s); the one before it is used.", place, error)
            continue
        if part.is_dir():
            log.warning(
                "a checkpoint was interrupted while it was written; the one before it is used, of step %d.",
                read.position.step,
            )
        return read
    return None


def _read(folder: Path) -> _Read:
    state = parse_json((folder / "position.json").read_text(encoding="utf-8"))
    return _Read(
        position=Position(**state["position"]),
        conditions=str(state["conditions"]),
        weights=load_file(str(folder / "weights.safetensors")),
        optimizer=load_file(str(folder / "optimizer.safetensors")),
    )
