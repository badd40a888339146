"""A language model made new, from a family and its sizes."""

import torch
from torch import nn

from lmtasks.backbone.family import FAMILIES, Sizes, Vocabulary, parse_family
from lmtasks.errors import UsageError

__all__ = ["Vocabulary", "check_window", "new_language_model"]


def new_language_model(family: str, vocabulary: Vocabulary, *, seed: int) -> nn.Module:
    """A transformers causal language model with random weights.

    Args:
        family: `llama:width=256,layers=6`.

    Raises:
        UsageError: no such family or setting.
    """
    from transformers import AutoModelForCausalLM

    name, sizes = parse_family(family)
    torch.manual_seed(seed)
    module: nn.Module = AutoModelForCausalLM.from_config(FAMILIES[name].config(sizes, vocabulary))
    return module


def check_window(family: str, window: int) -> Sizes:
    """The sizes of a family, and that a training window fits its context."""
    _, sizes = parse_family(family)
    if window > sizes.context:
        raise UsageError(f"window must be at most the backbone's context of {sizes.context} tokens, was {window}.")
    return sizes
