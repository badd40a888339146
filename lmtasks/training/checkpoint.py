"""A training's state on disk: weights and optimizer as safetensors, the rest as JSON. No pickle.

A checkpoint is written aside and then renamed, so that a kill at any moment leaves the last whole one.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lmtasks.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where a training stands."""

    step: int = 0
    seconds: float = 0.0
    """Training time so far, evaluation not counted."""
    best: float | None = None
    """Best validation value so far."""
    best_step: int = 0
    without_gain: int = 0
    """Evaluations since the best one."""


def save_checkpoint(
    folder: Path, *, module: nn.Module, optimizer: torch.optim.Optimizer, position: Position, conditions: str
) -> None:
    """Write `folder`, replacing the one before it. `conditions` identifies the training it belongs to."""
    aside = folder.with_name(folder.name + ".part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    save_file(module_tensors(module), str(aside / "weights.safetensors"))
    save_file(_optimizer_tensors(module, optimizer), str(aside / "optimizer.safetensors"))
    state = {"position": asdict(position), "conditions": conditions}
    (aside / "position.json").write_text(json.dumps(state), encoding="utf-8")
    replace_folder(aside, folder)


def load_checkpoint(
    folder: Path, *, module: nn.Module, optimizer: torch.optim.Optimizer, conditions: str
) -> Position | None:
    """Restore module and optimizer in place; None where there is no checkpoint.

    Raises:
        UsageError: the checkpoint belongs to a training with other settings or data.
    """
    old = folder.with_name(folder.name + ".old")
    if not folder.is_dir() and old.is_dir():  # killed between the two renames
        old.rename(folder)
    if not folder.is_dir():
        return None
    state = json.loads((folder / "position.json").read_text(encoding="utf-8"))
    if state["conditions"] != conditions:
        raise UsageError(
            f"{folder} holds a training with other settings or data; "
            "give the same ones to go on, another --out, or delete it to start again."
        )
    load_tensors(module, load_file(str(folder / "weights.safetensors")))
    saved = load_file(str(folder / "optimizer.safetensors"))
    names = {parameter: name for name, parameter in module.named_parameters()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name = names[parameter]
            if f"exp_avg:{name}" in saved:
                optimizer.state[parameter] = {
                    key: saved[f"{key}:{name}"].to(parameter.device if key != "step" else "cpu")
                    for key in ("step", "exp_avg", "exp_avg_sq")
                }
    return Position(**state["position"])


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


def replace_folder(aside: Path, folder: Path) -> None:
    """Put `aside` where `folder` is; at every moment one whole folder exists."""
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.rename(folder, old)
    os.rename(aside, folder)
    shutil.rmtree(old, ignore_errors=True)


def _optimizer_tensors(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    names: dict[Tensor, str] = {parameter: name for name, parameter in module.named_parameters()}
    return {
        f"{key}:{names[parameter]}": torch.as_tensor(state[key]).detach().cpu().contiguous()
        for parameter, state in optimizer.state.items()
        for key in ("step", "exp_avg", "exp_avg_sq")
    }
