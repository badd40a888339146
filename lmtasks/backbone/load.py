"""A backbone from its folder, whoever computes it: transformers, or a family of our own."""

from pathlib import Path

from lmtasks.backbone.base import Backbone, Traits
from lmtasks.backbone.folder import load_own, made_like, own_config


def load_backbone(folder: Path, *, weights: Path | None = None) -> Backbone:
    """Load a folder in fp32.

    Args:
        weights: of a transformers folder, where its weights lie; None: in it.

    Raises:
        UsageError: no configuration, no weights, or weights that do not fit the configuration.
    """
    config = own_config(folder)
    if config is not None:
        return load_own(config, folder)
    from lmtasks.backbone.transformer import load_transformer

    return load_transformer(folder, weights=weights)


def backbone_like(folder: Path) -> Backbone:
    """The backbone of a folder with random weights in place of those that lie there.

    Raises:
        UsageError: no configuration, or one that cannot be built.
    """
    config = own_config(folder)
    if config is not None:
        return made_like(config, folder / "config.json")
    from lmtasks.backbone.transformer import transformer_like

    return transformer_like(folder)


def read_traits(folder: Path) -> Traits:
    """What kind of backbone lies in a folder; its weights are not read.

    Raises:
        UsageError: no configuration, or one that cannot be read.
    """
    config = own_config(folder)
    if config is not None:
        import torch

        with torch.device("meta"):
            return made_like(config, folder / "config.json").traits
    from lmtasks.backbone.transformer import read_config, traits_of

    return traits_of(read_config(folder))
