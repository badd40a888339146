"""Starts of trainings that do not begin from random weights: another training, or a backbone.

What it begins from is copied into its work folder once; then it goes on by itself, whatever becomes of the other.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lmtasks.data.tokenizer import load_tokenizer
from lmtasks.errors import UsageError
from lmtasks.files import parse_json, read_object, reading
from lmtasks.model.create import Backbone, load_backbone
from lmtasks.model.files import copy_tokenizer
from lmtasks.model.verify import check_files
from lmtasks.training.checkpoint import check_fits, load_tensors, module_tensors, position_of, replace_folder
from lmtasks.training.curve import LOG, Record

BACKBONE = "start"
STEP = "start.json"
RECORD = "pretraining.json"
CURVE = "curve.jsonl"
"""Beside a backbone's weights: how it was trained, and its loss by step, thinned, with every evaluation."""


@dataclass(frozen=True, kw_only=True)
class Begun:
    """The backbone that a training began from."""

    name: str
    record: Mapping[str, object] | None
    """Record of its own training; None for one from elsewhere."""
    curve: tuple[Record, ...]
    """Losses of its own training and those before it; each point names its `stage`, from 1."""

    @property
    def stages(self) -> int:
        """Trainings that led to it."""
        record, count = self.record, 0
        while record:
            count += 1
            record = record.get("before")  # type: ignore[assignment]
        return count


def copy_start(start: Path, work: Path) -> int:
    """Copy checkpoint, tokens and tokenizer of another training's work folder, or weights and tokenizer of a backbone.

    Returns:
        the step that was begun at: 0 for a backbone, whose optimizer begins anew.

    Raises:
        UsageError: `start` is neither, or a file of it is damaged.
    """
    if not (work / STEP).is_file():
        check_files(start)
        work.mkdir(parents=True, exist_ok=True)
        position = position_of(start / "checkpoint")
        backbone: str | None = start.name
        if position is not None:
            _copy_training(start, work)
            backbone = _start_facts(start)["backbone"] if (start / BACKBONE).is_dir() else None
        elif (start / "model.safetensors").is_file():
            _copy_backbone(start, work / BACKBONE)
        else:
            raise UsageError(
                f"{start} holds neither the checkpoint of a training (the folder --out with .work behind it) "
                "nor a backbone (model.safetensors)."
            )
        copy_tokenizer(start, work)
        step = position.step if position else 0
        told = {"step": step, "from": str(start), "backbone": backbone}
        (work / STEP).write_text(json.dumps(told), encoding="utf-8")
    return int(_start_facts(work)["step"])


def load_start(work: Path, backbone: Backbone, *, special: Sequence[str]) -> None:
    """Give the backbone the weights of the one that the training begins from, if it begins from one.

    Args:
        special: tokens of the objective; one that the other's tokenizer lacks begins at the mean of its embeddings.
    """
    if (work / BACKBONE).is_dir():
        weights = module_tensors(load_backbone(work / BACKBONE))
        raw = load_tokenizer(work / BACKBONE).raw
        added = sum(raw.token_to_id(token) is None for token in special)
        for name, own in module_tensors(backbone).items() if added else ():
            if name in weights and len(own) == len(weights[name]) + added:
                weights[name] = torch.cat([weights[name], weights[name].mean(0, keepdim=True).expand(added, -1)])
        check_fits(weights, backbone, name="the backbone of --start")
        load_tensors(backbone, weights)


def begun_from(work: Path) -> Begun | None:
    """The backbone that the training in `work` began from, itself or the training whose checkpoint it went on from;
    None for random weights."""
    folder = work / BACKBONE
    if not folder.is_dir():
        return None
    name = str(_start_facts(work)["backbone"])
    record = read_object(folder / RECORD) or None
    with reading(f"the curve in {folder}"):
        lines = (folder / CURVE).read_text(encoding="utf-8").splitlines() if (folder / CURVE).is_file() else []
        return Begun(name=name, record=record, curve=tuple({"stage": 1, **parse_json(line)} for line in lines))


def _start_facts(work: Path) -> dict[str, Any]:
    """Facts that `copy_start` wrote into a work folder: the step begun at, from where, and the name of the backbone."""
    return read_object(work / STEP)


def _copy_backbone(start: Path, place: Path) -> None:
    aside = place.with_name(f"{place.name}.copy")
    aside.mkdir(exist_ok=True)
    for file in start.iterdir():
        if file.suffix in {".json", ".safetensors"} or file.name == CURVE:
            shutil.copyfile(file, aside / file.name)
    replace_folder(aside, place)


def _copy_training(start: Path, work: Path) -> None:
    aside = work / "checkpoint.copy"
    shutil.copytree(start / "checkpoint", aside, dirs_exist_ok=True)
    if (start / "best.safetensors").is_file():  # the position knows of it
        shutil.copyfile(start / "best.safetensors", work / "best.safetensors")
    if (start / LOG).is_file():  # the curve goes on from there
        shutil.copyfile(start / LOG, work / LOG)
    if (start / "tokens").is_dir():
        shutil.copytree(start / "tokens", work / "tokens", dirs_exist_ok=True)
    if (start / BACKBONE).is_dir():  # so that the card tells of the stages before, too
        _copy_backbone(start / BACKBONE, work / BACKBONE)
    replace_folder(aside, work / "checkpoint")
