"""A causal backbone of transformers whose layers attend both ways: an encoder of the same weights.

What a pretrained decoder knows serves better to label texts and words once each token sees those behind it, too
(BehnamGhader et al. 2024, https://arxiv.org/abs/2404.05961).
"""

from pathlib import Path
from typing import cast

import torch
from transformers import MODEL_MAPPING, PreTrainedConfig

from lmtasks.backbone.base import Backbone
from lmtasks.backbone.transformer import read_config, traits_of
from lmtasks.errors import UsageError


def config_both_ways(folder: Path) -> PreTrainedConfig:
    """The configuration that reads the weights in a causal backbone's folder both ways.

    Raises:
        UsageError: there is no causal language model.
    """
    config = read_config(folder)
    kind = traits_of(config).kind
    if kind != "causal":
        raise UsageError(
            f"{folder} is no causal language model but an {kind}; attention both ways is something to give to those "
            "that read one way."
        )
    config.is_causal = False
    config.architectures = [cast(type, MODEL_MAPPING[type(config)]).__name__]
    return config


@torch.no_grad()
def check_both_ways(backbone: Backbone) -> None:
    """Raises: UsageError: the backbone's early tokens do not see the late ones: its architecture asks nobody how to
    attend."""
    ids = torch.arange(3)[None] % backbone.traits.vocabulary
    other = ids.clone()
    other[0, -1] = (ids[0, -1] + 1) % backbone.traits.vocabulary
    mask = torch.ones_like(ids, dtype=torch.bool)
    if torch.equal(backbone.encode(ids, mask)[0, 0], backbone.encode(other, mask)[0, 0]):
        raise UsageError(
            f"{backbone.traits.family} attends to earlier tokens alone, whatever its configuration says; "
            "take a causal model of another family (Llama, Qwen, Mistral, Gemma, GPT-2 and others do what it says)."
        )
