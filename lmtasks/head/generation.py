"""Answers in free text. The head has no weights: the backbone owns the language-model projection."""

from torch import Tensor
from torch.nn import functional

IGNORED = -100
"""Target of a position that is not learned: the prompt, and padding."""


def generation_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of the answer's tokens, logits (B, T, V), targets (B, T) shifted already, in nats."""
    return functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED)
