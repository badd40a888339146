"""Where a training begins that does not begin from random weights: another training, or a backbone.

What it begins from is copied into its work folder once; then it goes on by itself, whatever becomes of the other.
"""

import json
import shutil
from pathlib import Path

from safetensors.torch import load_file
from torch import nn

from lmtasks.errors import UsageError
from lmtasks.training.checkpoint import check_fits, load_tensors, position_of, replace_folder

WEIGHTS = "start.safetensors"
STEP = "start.json"


def copy_start(start: Path, work: Path) -> int:
    """Copy checkpoint, tokens and tokenizer of another training's work folder, or weights and tokenizer of a backbone.

    Returns:
        the step that was begun at: 0 for a backbone, whose optimizer begins anew.

    Raises:
        UsageError: `start` is neither.
    """
    if not (work / STEP).is_file():
        work.mkdir(parents=True, exist_ok=True)
        position = position_of(start / "checkpoint")
        if position is not None:
            _copy_training(start, work)
        elif (start / "model.safetensors").is_file():
            shutil.copyfile(start / "model.safetensors", work / WEIGHTS)
        else:
            raise UsageError(
                f"{start} holds neither the checkpoint of a training (the folder --out with .work behind it) "
                "nor a backbone (model.safetensors)."
            )
        for name in ("tokenizer.json", "tokenizer_config.json"):
            if (start / name).is_file():
                shutil.copyfile(start / name, work / name)
        step = position.step if position else 0
        (work / STEP).write_text(json.dumps({"step": step, "from": str(start)}), encoding="utf-8")
    return int(json.loads((work / STEP).read_text(encoding="utf-8"))["step"])


def load_start(work: Path, module: nn.Module) -> None:
    """Give the module the weights of the backbone that the training begins from, if it begins from one."""
    if (work / WEIGHTS).is_file():
        weights = {name: tensor.float() for name, tensor in load_file(str(work / WEIGHTS)).items()}
        check_fits(weights, module, name="the backbone of --start")
        load_tensors(module, weights)


def _copy_training(start: Path, work: Path) -> None:
    aside = work / "checkpoint.copy"
    shutil.copytree(start / "checkpoint", aside, dirs_exist_ok=True)
    if (start / "tokens").is_dir():
        shutil.copytree(start / "tokens", work / "tokens", dirs_exist_ok=True)
    replace_folder(aside, work / "checkpoint")
