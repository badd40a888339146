"""Backbones of our own families on disk: config.json with `lmtasks_family`, and model.safetensors.

What transformers folders say in config.json too (vocab_size, eos_token_id, decoder_start_token_id) has the same names.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from lmtasks.backbone.sizes import FAMILY, Sizes, Vocabulary
from lmtasks.errors import UsageError, unknown
from lmtasks.files import first_line, parse_json, reading

if TYPE_CHECKING:
    from lmtasks.backbone.base import Backbone

LATER = frozenset({"word_dropout"})
"""Settings that older folders lack; their defaults change nothing."""


def save_own(backbone: "Backbone", folder: Path, *, sizes: Sizes, vocabulary: Vocabulary) -> None:
    """Write a backbone; a tensor that stands in two places is written once."""
    from safetensors.torch import save_model

    folder.mkdir(parents=True, exist_ok=True)
    config: dict[str, object] = {
        FAMILY: backbone.traits.family,
        "sizes": asdict(sizes),
        "vocab_size": vocabulary.size,
        "bos_token_id": vocabulary.bos,
        "eos_token_id": vocabulary.eos,
        "pad_token_id": vocabulary.pad,
    }
    if backbone.traits.kind == "encoder-decoder":
        config["decoder_start_token_id"] = vocabulary.pad
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    save_model(backbone, str(folder / "model.safetensors"))


def own_config(folder: Path) -> Mapping[str, object] | None:
    """The configuration of a folder of our own; None: it is transformers' business."""
    file = folder / "config.json"
    if not file.is_file():
        return None
    try:
        content = parse_json(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{file} cannot be read: {first_line(error)}") from error
    return content if isinstance(content, dict) and FAMILY in content else None


def made_like(config: Mapping[str, object], file: Path) -> "Backbone":
    """A backbone of that family and shape, with random weights.

    Raises:
        UsageError: the family is unknown, or the file is damaged.
    """
    from lmtasks.backbone.family import FAMILIES, build

    name = str(config[FAMILY])
    if name not in FAMILIES:
        raise unknown(f"backbone family in {file}:", name, FAMILIES)
    with reading(str(file)):
        return build(name, _sizes(config["sizes"], FAMILIES[name].sizes), _vocabulary(config))


def load_own(config: Mapping[str, object], folder: Path) -> "Backbone":
    """A backbone with the weights that lie beside its configuration.

    Raises:
        UsageError: the weights are those of another family or size, or not there.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    backbone = made_like(config, folder / "config.json")
    file = folder / "model.safetensors"
    try:
        tensors = load_file(str(file))
    except (OSError, SafetensorError) as error:
        raise UsageError(f"the weights in {file} cannot be read: {str(error).splitlines()[0]}.") from error
    _fill(backbone, tensors, folder)
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
