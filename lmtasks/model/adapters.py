"""Low-rank adapters (LoRA): put beside the matrices of a backbone, kept on disk in peft's format, and merged into it.

adapters/base.json        which backbone they stand over; see `model.weights`
adapters/1/adapter_config.json, adapter_model.safetensors
adapters/2/...            of a model that was adapted again; merged in this order

Merging is one product for each matrix, W + alpha / rank * B A (Hu et al. 2021, https://arxiv.org/abs/2106.09685), so
that nothing behind `load_model` needs peft.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lmtasks.backbone.lora_targets import matching, points_pattern
from lmtasks.errors import UsageError
from lmtasks.files import parse_json
from lmtasks.model.files import settings_files
from lmtasks.model.weights import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    ADAPTERS,
    adapter_folders,
    base_facts,
    weights_home,
    write_base,
)
from lmtasks.settings.training import LoraSettings

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lmtasks.model.model import Model

NAME = "default"
"""What peft calls an adapter that has no name."""
PREFIX = "base_model.model."
"""peft names a module as it stands in its own wrapper."""
NOT_MERGED: Mapping[str, tuple[object, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none", None),
    "use_dora": (False, None),
    "use_rslora": (False, None),
    "lora_bias": (False, None),
    "modules_to_save": (None, []),
    "rank_pattern": ({}, None),
    "alpha_pattern": ({}, None),
}
"""Settings of peft by which an adapter computes something else, each with what it may be."""


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """One set of adapters over a backbone."""

    config: Mapping[str, object]
    """The content of adapter_config.json."""
    tensors: "Mapping[str, Tensor]"
    """`NAME.lora_A.weight` (R, D in) and `NAME.lora_B.weight` (D out, R), without peft's prefix."""


@dataclass(frozen=True, kw_only=True)
class Adapted:
    """A backbone that is not saved whole: its base, and the adapters over it."""

    base: Path
    """The folder that holds the weights under all adapters."""
    adapters: tuple[Adapter, ...]
    """In the order in which they are merged."""


def adapted_of(folder: Path) -> Adapted:
    """Base and adapters of a model's or backbone's folder; one that is whole is its own base, without adapters.

    Raises:
        UsageError: a part is missing, or of a kind that is not merged.
    """
    return Adapted(base=weights_home(folder), adapters=tuple(map(_read, adapter_folders(folder))))


def save_adapted(adapted: Adapted, folder: Path, *, settings: Path) -> None:
    """Write adapters, a reference to their base, and the settings that the backbone is loaded with.

    Args:
        settings: the folder where these lie; they may read the base's weights otherwise than its own do.
    """
    from safetensors.torch import save_file

    (folder / ADAPTERS).mkdir(parents=True)
    (folder / "backbone").mkdir(exist_ok=True)
    write_base(folder, base=adapted.base, weights_hash=base_facts(adapted.base).hash)
    for file in settings_files(settings):
        shutil.copyfile(file, folder / "backbone" / file.name)
    for number, adapter in enumerate(adapted.adapters, start=1):
        place = folder / ADAPTERS / str(number)
        place.mkdir()
        (place / ADAPTER_CONFIG).write_text(
            json.dumps(adapter.config, indent=2, sort_keys=True) + "\n", encoding="utf-8"
        )
        tensors = {PREFIX + name: tensor.contiguous() for name, tensor in adapter.tensors.items()}
        save_file(tensors, str(place / ADAPTER_WEIGHTS), metadata={"format": "pt"})


def merge_adapter(module: "nn.Module", adapter: Adapter) -> None:
    """Add an adapter to the matrices that it stands beside, in place.

    Raises:
        UsageError: it belongs to another backbone.
    """
    import torch

    matrices = dict(module.named_parameters())
    scale = float(str(adapter.config["lora_alpha"])) / int(str(adapter.config["r"]))
    for name, down in adapter.tensors.items():
        place, found, _ = name.partition(".lora_A.")
        if not found:
            continue
        up, weight = adapter.tensors.get(f"{place}.lora_B.weight"), matrices.get(f"{place}.weight")
        if up is None or weight is None:
            raise UsageError(f"the adapters do not fit the backbone: it has no matrix {place!r}, or a half is missing.")
        with torch.no_grad():
            change = (up.float() @ down.float()) * scale
            change = change.T if adapter.config.get("fan_in_fan_out") else change
            if change.shape != weight.shape:
                raise UsageError(
                    f"the adapters do not fit the backbone: {place!r} is {tuple(weight.shape)} there, "
                    f"and {tuple(change.shape)} asked for."
                )
            weight.add_(change.to(weight))


def _read(place: Path) -> Adapter:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        config = dict(parse_json((place / ADAPTER_CONFIG).read_text(encoding="utf-8")))
        tensors = {
            name.removeprefix(PREFIX): tensor for name, tensor in load_file(str(place / ADAPTER_WEIGHTS)).items()
        }
        needed: Sequence[object] = (config["r"], config["lora_alpha"])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise UsageError(f"the adapters in {place} cannot be read: {error}.") from error
    if not all(isinstance(number, int | float) and number > 0 for number in needed):
        raise UsageError(
            f"{place / ADAPTER_CONFIG} is damaged: r and lora_alpha must be positive numbers, were {needed}."
        )
    for name, allowed in NOT_MERGED.items():
        if config.get(name, allowed[0]) not in allowed:
            raise UsageError(
                f"{place / ADAPTER_CONFIG} has {name}: {config[name]!r}, which this version does not merge; "
                f"it merges plain LoRA, {name}: {allowed[0]!r}."
            )
    return Adapter(config=config, tensors=tensors)


def check_lora(model: "Model", settings: LoraSettings) -> None:
    """That a model can carry these adapters.

    Raises:
        UsageError: its family has no adapt points, or the rank is above that of a matrix.
    """
    traits = model.backbone.traits
    if not traits.adapt_points:
        raise UsageError(
            f"a {traits.family} backbone has no adapt points for lora: {traits.why_no_points}; use full or probe."
        )
    modules = dict(model.hf.named_modules())
    names = matching(points_pattern(traits.adapt_points, settings.points), tuple(modules))
    if not names:
        raise UsageError(
            f"no layer of {model.card.name} ({traits.family}) plays the role of {' or '.join(settings.points)}."
        )
    narrow = min(names, key=lambda name: min(_shape(modules[name])))
    most = min(_shape(modules[narrow]))
    if settings.rank > most:
        raise UsageError(
            f"the rank of adapters must be at most {most}, the smaller side of {narrow}, was {settings.rank}."
        )


def add_lora(model: "Model", settings: LoraSettings) -> None:
    """Put adapters into the backbone, in place; all of its own weights stand still from now on."""
    from peft import LoraConfig, inject_adapter_in_model
    from transformers.pytorch_utils import Conv1D

    check_lora(model, settings)
    pattern = points_pattern(model.backbone.traits.adapt_points, settings.points)
    modules = dict(model.hf.named_modules())
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=2 * settings.rank if settings.alpha is None else settings.alpha,  # type: ignore[arg-type]
        lora_dropout=settings.dropout,
        target_modules=pattern,
        # GPT-2 keeps its matrices the other way round
        fan_in_fan_out=isinstance(modules[matching(pattern, tuple(modules))[0]], Conv1D),
    )
    inject_adapter_in_model(config, model.hf, adapter_name=NAME)


def take_lora(model: "Model", *, base_name: str) -> Adapter:
    """The adapters that `add_lora` put in, as they are now."""
    from peft import get_peft_model_state_dict

    written = model.hf.peft_config[NAME].to_dict()  # type: ignore[index, union-attr, operator]
    content = {name: value for name, value in written.items() if value is not None}
    listed = {name: sorted(value) if isinstance(value, set) else value for name, value in content.items()}
    tensors = get_peft_model_state_dict(model.hf, adapter_name=NAME)
    return Adapter(
        config={**listed, "base_model_name_or_path": base_name, "inference_mode": True},
        tensors={name: tensor.detach().cpu() for name, tensor in tensors.items()},
    )


def _shape(module: object) -> tuple[int, ...]:
    return tuple(module.weight.shape)  # type: ignore[attr-defined]
