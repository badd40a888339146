"""A backbone made new, from a family and its sizes; and its folder, with a tokenizer, that a model starts from."""

import shutil
from pathlib import Path

import torch

from lmtasks.backbone.base import Backbone, Kind
from lmtasks.backbone.family import FAMILIES, is_family, new_backbone, new_masked_backbone, parse_family
from lmtasks.backbone.load import backbone_like, load_backbone
from lmtasks.backbone.sizes import Sizes, Vocabulary
from lmtasks.errors import UsageError

__all__ = [
    "Backbone",
    "Vocabulary",
    "check_window",
    "is_family",
    "kind_of_family",
    "load_backbone",
    "new_language_model",
    "write_backbone",
    "write_backbone_like",
]


def kind_of_family(family: str) -> Kind:
    """The kind of backbone that `llama:width=256,layers=6` names.

    Raises:
        UsageError: no such family or setting.
    """
    kind: Kind = FAMILIES[parse_family(family)[0]].kind
    return kind


def new_language_model(family: str, vocabulary: Vocabulary, *, seed: int) -> Backbone:
    """A backbone with random weights that predicts tokens: the next ones, or, an encoder, those that are hidden.

    Args:
        family: `llama:width=256,layers=6`.

    Raises:
        UsageError: no such family or setting, or the family predicts no tokens.
    """
    torch.manual_seed(seed)
    if kind_of_family(family) == "encoder":
        return new_masked_backbone(family, vocabulary)
    return new_backbone(family, vocabulary)


def write_backbone(
    family: str, vocabulary: Vocabulary, *, seed: int, folder: Path, vectors: torch.Tensor | None = None
) -> None:
    """Write a backbone with random weights into a folder, beside what lies there.

    Args:
        vectors: (V, D), what the embeddings of tokens start from; rows that are not numbers stay random.

    Raises:
        UsageError: no such family or setting, or the vectors are of another width.
    """
    torch.manual_seed(seed)
    backbone = new_backbone(family, vocabulary)
    if vectors is not None:
        weight = backbone.embeddings().weight
        if weight.shape != vectors.shape:
            raise UsageError(
                f"the vectors have {vectors.shape[1]} numbers a word, the embeddings of {family!r} {weight.shape[1]}; "
                f"give it width={vectors.shape[1]}."
            )
        with torch.no_grad():
            known = ~vectors.isnan().any(1)
            weight[known] = vectors[known].to(weight)
    _save_beside(backbone, folder)


def write_backbone_like(source: Path, *, seed: int, folder: Path) -> None:
    """Write the backbone of `source` with random weights into a folder, beside what lies there.

    Raises:
        UsageError: `source` holds no backbone that can be built.
    """
    torch.manual_seed(seed)
    _save_beside(backbone_like(source), folder)


def _save_beside(backbone: Backbone, folder: Path) -> None:
    aside = folder / "weights.part"
    shutil.rmtree(aside, ignore_errors=True)
    backbone.save(aside)
    for file in aside.iterdir():
        file.replace(folder / file.name)
    aside.rmdir()


def check_window(family: str, window: int) -> Sizes:
    """The sizes of a family, and that a training window fits its context."""
    _, sizes = parse_family(family)
    if window > sizes.context:
        raise UsageError(f"window must be at most the backbone's context of {sizes.context} tokens, was {window}.")
    return sizes
