"""A backbone from its folder, whoever computes it: transformers, or a family of our own (`lmtasks_family` in its
config.json)."""

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path

import torch
from torch import nn

from lmtasks.backbone.base import Backbone, Traits
from lmtasks.backbone.family import FAMILIES, build
from lmtasks.backbone.sizes import FAMILY, Sizes, Vocabulary
from lmtasks.errors import UsageError, unknown
from lmtasks.files import first_line, parse_json, reading

LATER = frozenset({"word_dropout"})
"""Settings that older folders lack; their defaults change nothing."""


def load_backbone(folder: Path, *, weights: Path | None = None) -> Backbone:
    """Load a folder in fp32.

    Args:
        weights: the folder whose weights are read; None: `folder` itself.

    Raises:
        UsageError: no configuration, no weights, or weights that do not fit the configuration.
    """
    config = _own_config(folder)
    if config is not None:
        return _load_own(config, folder, weights=weights or folder)
    from lmtasks.backbone.transformer import load_transformer

    return load_transformer(folder, weights=weights)


def backbone_like(folder: Path) -> Backbone:
    """The backbone of a folder with random weights in place of those that lie there.

    Raises:
        UsageError: no configuration, or one that cannot be built.
    """
    config = _own_config(folder)
    if config is not None:
        return _made_like(config, folder / "config.json")
    from lmtasks.backbone.transformer import transformer_like

    return transformer_like(folder)


def read_traits(folder: Path) -> Traits:
    """Facts of the backbone in a folder; its weights are not read.

    Raises:
        UsageError: no configuration, or one that cannot be read.
    """
    config = _own_config(folder)
    if config is not None:
        with torch.device("meta"):
            return _made_like(config, folder / "config.json").traits
    from lmtasks.backbone.transformer import read_config, traits_of

    return traits_of(read_config(folder))


def _own_config(folder: Path) -> Mapping[str, object] | None:
    """The configuration of a folder of our own; None: it is transformers' business."""
    file = folder / "config.json"
    if not file.is_file():
        return None
    try:
        content = parse_json(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{file} cannot be read: {first_line(error)}") from error
    return content if isinstance(content, dict) and FAMILY in content else None


def _made_like(config: Mapping[str, object], file: Path) -> Backbone:
    """A backbone of that family and shape, with random weights.

    Raises:
        UsageError: the family is unknown, or the file is damaged.
    """
    name = str(config[FAMILY])
    if name not in FAMILIES:
        raise unknown(f"backbone family in {file}:", name, FAMILIES)
    with reading(str(file)):
        return build(name, _sizes(config["sizes"], FAMILIES[name].sizes), _vocabulary(config))


def _load_own(config: Mapping[str, object], folder: Path, *, weights: Path) -> Backbone:
    """A backbone with the weights of a folder.

    Raises:
        UsageError: the weights are those of another family or size, or not there.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    backbone = _made_like(config, folder / "config.json")
    file = weights / "model.safetensors"
    try:
        tensors = load_file(str(file))
    except (OSError, SafetensorError) as error:
        raise UsageError(f"the weights in {file} cannot be read: {str(error).splitlines()[0]}.") from error
    _fill(backbone, tensors, weights)
    return backbone.eval()


def _fill(backbone: nn.Module, tensors: Mapping[str, torch.Tensor], folder: Path) -> None:
    belongs = "give the folder that belongs to these weights."
    wanted = backbone.state_dict()
    places = {tensor.data_ptr() for name, tensor in wanted.items() if name in tensors}
    missing = [name for name, tensor in wanted.items() if name not in tensors and tensor.data_ptr() not in places]
    surplus = sorted(set(tensors) - set(wanted))
    if missing or surplus:
        what = f"lack {missing[0]!r}" if missing else f"have {surplus[0]!r}, which it has not"
        raise UsageError(
            f"the weights in {folder} are of another family or size than its config.json says: they {what}; {belongs}"
        )
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name].shape:
            raise UsageError(
                f"the weights in {folder} are of another size than its config.json says: {name!r} is "
                f"{tuple(tensor.shape)}, should be {tuple(wanted[name].shape)}; {belongs}"
            )
    backbone.load_state_dict({**wanted, **tensors})


def _sizes(content: object, default: Sizes) -> Sizes:
    names = {field.name for field in fields(default)}
    if not isinstance(content, dict) or not names - LATER <= set(content) <= names:
        raise ValueError("sizes are not those of the family")
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in content.items()}
    return replace(default, **given)  # type: ignore[arg-type]  # the keys are those of its fields


def _vocabulary(config: Mapping[str, object]) -> Vocabulary:
    def number(name: str) -> int | None:
        value = config[name]
        return None if value is None else int(str(value))

    size, pad = number("vocab_size"), number("pad_token_id")
    if size is None or pad is None:
        raise ValueError("vocab_size and pad_token_id must be numbers")
    return Vocabulary(size=size, bos=number("bos_token_id"), eos=number("eos_token_id"), pad=pad)
