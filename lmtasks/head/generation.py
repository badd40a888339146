"""Answers in free text. The head has no weights: the backbone owns the language-model projection."""

from torch import Tensor
from torch.nn import functional

IGNORED = -100
"""Target of a position that is not learned: the prompt, and padding."""


def generation_loss(logits: Tensor, targets: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy of the answer's tokens, logits (B, T, V), targets (B, T) shifted already, in nats.

    Args:
        smoothing: share of a target that all tokens divide among themselves (Szegedy et al. 2016).
    """
    return functional.cross_entropy(
        logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, label_smoothing=smoothing
    )
