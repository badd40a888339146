"""A training's state on disk: weights and optimizers as safetensors, the rest as JSON. No pickle.

A checkpoint is written aside and then renamed, and the one before it is kept as `NAME.old`: a kill at any moment
leaves a whole one, and a file that was damaged afterwards costs one checkpoint, not the training.

A training that begins from another one, or from a backbone, copies it into its work folder once; then it goes on by
itself, whatever becomes of the other.
"""

import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lmtasks.data.tokenizer import load_tokenizer
from lmtasks.errors import UsageError
from lmtasks.files import parse_json, read_object, reading
from lmtasks.model.create import Backbone, load_backbone
from lmtasks.model.files import copy_tokenizer
from lmtasks.model.vectors import PRETRAINING
from lmtasks.model.verify import check_files
from lmtasks.training.curve import LOG, Record
from lmtasks.training.stepping import load_optimizer_tensors, optimizer_tensors

BACKBONE = "start"
STEP = "start.json"
RECORD = PRETRAINING
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
    facts = read_object(aside / "position.json")
    facts.pop("teacher", None)  # what was learned so far may go on under another one
    (aside / "position.json").write_text(json.dumps(facts), encoding="utf-8")
    if (start / "best.safetensors").is_file():  # the position knows of it
        shutil.copyfile(start / "best.safetensors", work / "best.safetensors")
    if (start / LOG).is_file():  # the curve goes on from there
        shutil.copyfile(start / LOG, work / LOG)
    if (start / "tokens").is_dir():
        shutil.copytree(start / "tokens", work / "tokens", dirs_exist_ok=True)
    if (start / BACKBONE).is_dir():  # so that the card tells of the stages before, too
        _copy_backbone(start / BACKBONE, work / BACKBONE)
    replace_folder(aside, work / "checkpoint")


log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Position:
    """Position of a training."""

    step: int = 0
    seconds: float = 0.0
    """Training time so far, evaluation not counted."""
    best: float | None = None
    """Validation value of the weights that are kept."""
    best_step: int = 0
    highest: float | None = None
    """The best validation value so far; the kept weights are later ones, if it does not show them to be worse."""
    highest_rows: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """And the score of every validation row then."""
    without_gain: int = 0
    """Evaluations since the kept one, each shown to be worse than the highest."""

    def __post_init__(self) -> None:
        if self.highest is None:  # written by an earlier version, or nothing was judged
            object.__setattr__(self, "highest", self.best)

    unjudged: bool = False
    """Is the evaluation of this step still to come? A signal may have cut it short."""
    cooling_to: int = 0
    """The last step of the cool-down that has begun; 0: none has."""


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Hashes of what a training depends on."""

    training: str
    teacher: str = ""
    """Empty: there is none, or, in a checkpoint that was copied from another training, any will do."""


@dataclass(frozen=True, kw_only=True)
class _Read:
    position: Position
    conditions: Conditions
    weights: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]


def save_checkpoint(
    folder: Path,
    *,
    module: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    position: Position,
    conditions: Conditions,
) -> None:
    """Write `folder`, keeping the one before it as `NAME.old`. `conditions` identifies the training it belongs to."""
    aside = folder.with_name(folder.name + ".part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    save_file(module_tensors(module), str(aside / "weights.safetensors"))
    save_file(optimizer_tensors(module, optimizers), str(aside / "optimizer.safetensors"))
    state = {"position": asdict(position), **_stored(conditions)}
    (aside / "position.json").write_text(json.dumps(state), encoding="utf-8")
    replace_folder(aside, folder, keep_old=True)


def load_checkpoint(
    folder: Path, *, module: nn.Module, optimizers: Sequence[torch.optim.Optimizer], conditions: Conditions
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
    if read.conditions not in {conditions, replace(conditions, teacher="")}:
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


def _stored(conditions: Conditions) -> Mapping[str, str]:
    return {"conditions": conditions.training} | ({"teacher": conditions.teacher} if conditions.teacher else {})


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
        conditions=Conditions(training=str(state["conditions"]), teacher=str(state.get("teacher", ""))),
        weights=load_file(str(folder / "weights.safetensors")),
        optimizer=load_file(str(folder / "optimizer.safetensors")),
    )
