"""Low-rank adapters (LoRA): put beside the matrices of a backbone, kept on disk in peft's format, and merged into it.

adapters/base.json        which backbone they stand over; see `model.weights`
adapters/1/adapter_config.json, adapter_model.safetensors
adapters/2/...            of a model that was adapted again; merged in this order

Merging is one product for each matrix, W + alpha / rank * B A (Hu et al. 2021, https://arxiv.org/abs/2106.09685), so
that nothing behind `load_model` needs peft. Modules of transformers learn with peft's own layers; what peft knows no
layer for (recurrent weights, filters) learns in the matrix' place, see `low_rank`.
"""

import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lmtasks.errors import UsageError
from lmtasks.files import parse_json
from lmtasks.model.files import settings_files
from lmtasks.model.low_rank import Pairs, low_rank_tensors, owner_of, put_low_rank, put_switch, sides
from lmtasks.model.weights import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    ADAPTERS,
    adapter_folders,
    base_facts,
    weights_home,
    write_base,
)
from lmtasks.settings.training import LoraSettings, Role

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from lmtasks.model.model import Model

log = logging.getLogger(__name__)

USUAL_RANK = 16
MOST_STORED = 0.05
"""Of a backbone's numbers adapters hold so many at most where nobody asks for a rank."""
NAME = "default"
"""What peft calls an adapter that has no name."""
TURNED = "Conv1D"
"""Layers of transformers that keep their matrix the other way round, (K, N)."""
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


@dataclass(frozen=True, kw_only=True)
class LoraShape:
    """Where adapters stand in a backbone, and how large they are."""

    roles: Mapping[str, Role]
    """Names of the matrices, as `Backbone.adapt_places` has them, each with its role."""
    rank: int
    numbers: int
    """That the adapters hold."""
    weights: int
    """Numbers of the backbone."""
    fitting: int
    """The highest rank by which they hold no more than they should; 0: there is none."""

    @property
    def share(self) -> float:
        """Share of the backbone's numbers, 0-1."""
        return self.numbers / self.weights

    def stored(self) -> Mapping[str, object]:
        """As a model's record holds it."""
        roles = list(self.roles.values())
        counts = {role: roles.count(role) for role in dict.fromkeys(roles)}
        return {"rank": self.rank, "matrices": counts, "numbers": self.numbers, "share": round(self.share, 5)}


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
    for place, change in changes_of(module, adapter).items():
        weight = _weight_at(matrices, place)
        if sides(weight) != tuple(change.shape):
            raise _unfit(place, weight, asked=tuple(change.shape))
        with torch.no_grad():
            weight.add_(change.view_as(weight).to(weight))


def changes_of(module: "nn.Module", adapter: Adapter) -> Mapping[str, "Tensor"]:
    """Compute what an adapter adds to each matrix, (N, K), as the backbone keeps the matrix.

    Raises:
        UsageError: a half of a pair is missing.
    """
    turned = {name for name, layer in module.named_modules() if type(layer).__name__ == TURNED}
    found = {}
    for place, down, up, scale in pairs_in(adapter):
        change = (up @ down) * scale
        found[place] = change.T if place in turned else change
    return found


class AdapterSwitch:
    """One backbone in memory, and adapters over it; those of one model at a time count.

    An answer is made of the backbone's own products and of thin ones beside them, so that changing from one model to
    another touches no weight, and coming back gives the same bits. Not for several threads at a time.

    Args:
        module: the backbone's, before its products are packed or moved.
        adapters: of each model; none of one that asks the backbone as it is.

    Raises:
        UsageError: adapters that do not fit the backbone.
    """

    def __init__(self, module: "nn.Module", adapters: Sequence[Sequence[Adapter]]) -> None:
        matrices = dict(module.named_parameters())
        self._pairs = [_pairs_of(each, matrices) for each in adapters]
        places = dict.fromkeys(place for pairs in self._pairs for place in pairs)
        self._switches = {place: put_switch(module, place) for place in places}
        self._chosen: int | None = None

    def numbers(self, model: int) -> int:
        """Numbers that a model's adapters hold, beside the backbone's."""
        return sum(tensor.numel() for pairs in self._pairs[model].values() for pair in pairs for tensor in pair)

    def choose(self, model: int, *, device: str, dtype: "torch.dtype") -> None:
        """Let the adapters of that model count, by its place in the list."""
        if model == self._chosen:
            return
        own = {
            place: tuple((down.to(device, dtype), up.to(device, dtype)) for down, up in pairs)
            for place, pairs in self._pairs[model].items()
        }
        for place, switch in self._switches.items():
            switch.chosen = own.get(place, ())
        self._pairs[model], self._chosen = own, model


def _pairs_of(adapters: Sequence[Adapter], matrices: "Mapping[str, Tensor]") -> dict[str, Pairs]:
    found: dict[str, Pairs] = {}
    for adapter in adapters:
        for place, down, up, scale in pairs_in(adapter):
            asked, weight = (up.shape[0], down.shape[1]), _weight_at(matrices, place)
            if set(asked) != set(sides(weight)):  # GPT-2 keeps its matrices the other way round
                raise _unfit(place, weight, asked=asked)
            found[place] = (*found.get(place, ()), (down, up * scale))
    return found


def _weight_at(matrices: "Mapping[str, Tensor]", place: str) -> "Tensor":
    """Raises: UsageError: there is none."""
    weight = matrices.get(f"{place}.weight", matrices.get(place))
    if weight is None:
        raise UsageError(f"the adapters do not fit the backbone: it has no matrix {place!r}.")
    return weight


def _unfit(place: str, weight: "Tensor", *, asked: tuple[int, ...]) -> UsageError:
    there = sides(weight)
    return UsageError(f"the adapters do not fit the backbone: {place!r} is {there} there, and {asked} asked for.")


def pairs_in(adapter: Adapter) -> "Iterator[tuple[str, Tensor, Tensor, float]]":
    """Each matrix' name, A (R, K) and B (N, R) in fp32, and the scale of their product.

    Raises:
        UsageError: a half of a pair is missing.
    """
    scale = float(str(adapter.config["lora_alpha"])) / int(str(adapter.config["r"]))
    for name, down in adapter.tensors.items():
        place, first, _ = name.partition(".lora_A.")
        if not first:
            continue
        up = adapter.tensors.get(f"{place}.lora_B.weight")
        if up is None:
            raise UsageError(f"the adapters are damaged: a half of {place!r} is missing.")
        yield place, down.float(), up.float(), scale


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


def check_lora(model: "Model", settings: LoraSettings) -> LoraShape:
    """Where adapters would stand in a model, and how large they would be.

    Raises:
        UsageError: no matrix plays the roles that are asked for, or the rank is above that of a matrix.
    """
    traits, module = model.backbone.traits, model.backbone.adapted
    places = model.backbone.adapt_places()
    if not places:
        raise UsageError(
            f"a {traits.family} backbone has nothing that adapters could stand beside: no linear or recurrent layer "
            "and no filter stands between its embeddings and its output; use full or probe."
        )
    roles = {place: role for place, role in places.items() if role in settings.points}
    if not roles:
        there = ", ".join(dict.fromkeys(places.values()))
        raise UsageError(
            f"no matrix of {model.card.name} ({traits.family}) plays the role of {' or '.join(settings.points)}; "
            f"its roles: {there}."
        )
    matrices = {place: sides(_matrix(module, place)) for place in roles}
    narrow = min(matrices, key=lambda place: min(matrices[place]))
    most = min(matrices[narrow])
    if settings.rank is not None and settings.rank > most:
        raise UsageError(
            f"the rank of adapters must be at most {most}, the smaller side of {narrow}, was {settings.rank}."
        )
    each = sum(rows + columns for rows, columns in matrices.values())
    weights = sum(parameter.numel() for parameter in module.parameters())
    fitting = min(most, int(MOST_STORED * weights / each))
    rank = max(1, min(USUAL_RANK, fitting)) if settings.rank is None else settings.rank
    return LoraShape(roles=roles, rank=rank, numbers=rank * each, weights=weights, fitting=fitting)


def add_lora(model: "Model", settings: LoraSettings) -> LoraShape:
    """Put adapters into the backbone, in place; all of its own weights stand still from now on. More than they should
    hold is a warning.

    Raises:
        UsageError: as `check_lora`.
    """
    shape = check_lora(model, settings)
    if shape.share > MOST_STORED:
        log.warning(
            "adapters of rank %d hold %.1f %% of the backbone's numbers, more than %.0f %%%s.",
            shape.rank,
            100 * shape.share,
            100 * MOST_STORED,
            f"; --lora-rank {shape.fitting} holds at most that" if shape.fitting else "",
        )
    alpha = _alpha(shape, settings)
    if model.backbone.traits.by_transformers:
        from peft import LoraConfig, inject_adapter_in_model
        from transformers.pytorch_utils import Conv1D

        config = LoraConfig(
            r=shape.rank,
            lora_alpha=alpha,  # type: ignore[arg-type]
            lora_dropout=settings.dropout,
            target_modules=list(shape.roles),
            # GPT-2 keeps its matrices the other way round
            fan_in_fan_out=isinstance(model.hf.get_submodule(next(iter(shape.roles))), Conv1D),
        )
        inject_adapter_in_model(config, model.hf, adapter_name=NAME)
        return shape
    for parameter in model.backbone.parameters():
        parameter.requires_grad_(False)
    for place in shape.roles:
        scale = alpha / shape.rank
        put_low_rank(model.backbone, place, rank=shape.rank, scale=scale, dropout=settings.dropout)
    return shape


def take_lora(model: "Model", shape: LoraShape, settings: LoraSettings, *, base_name: str) -> Adapter:
    """The adapters that `add_lora` put in, as they are now."""
    written: Mapping[str, object]
    if model.backbone.traits.by_transformers:
        from peft import get_peft_model_state_dict

        written = model.hf.peft_config[NAME].to_dict()  # type: ignore[index, union-attr, operator]
        tensors = get_peft_model_state_dict(model.hf, adapter_name=NAME)
    else:
        tensors = low_rank_tensors(model.backbone, tuple(shape.roles))
        written = {
            "peft_type": "LORA",
            "r": shape.rank,
            "lora_alpha": _alpha(shape, settings),
            "lora_dropout": settings.dropout,
            "target_modules": list(shape.roles),
        }
    content = {name: value for name, value in written.items() if value is not None}
    listed = {name: sorted(value) if isinstance(value, set) else value for name, value in content.items()}
    return Adapter(
        config={**listed, "base_model_name_or_path": base_name, "inference_mode": True},
        tensors={name: tensor.detach().cpu() for name, tensor in tensors.items()},
    )


def _alpha(shape: LoraShape, settings: LoraSettings) -> float:
    return 2.0 * shape.rank if settings.alpha is None else settings.alpha


def _matrix(module: "nn.Module", place: str) -> "Tensor":
    layer, name = owner_of(module, place)
    found: Tensor = getattr(layer, name)
    return found
