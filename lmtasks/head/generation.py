"""Answers in free text. The head has no weights: the backbone owns the language-model projection."""

import torch
from torch import Tensor
from torch.nn import LinearCrossEntropyOptions, functional

IGNORED = -100
"""Target of a position that is not learned: the prompt, and padding."""
LOGITS_AT_ONCE = LinearCrossEntropyOptions(batch_chunk_size=512)
"""Positions whose logits are in memory together."""


def generation_loss(logits: Tensor, targets: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy of the answer's tokens, logits (B, T, V), targets (B, T) shifted already, in nats.

    Args:
        smoothing: share of a target that all tokens divide among themselves (Szegedy et al. 2016).
    """
    return functional.cross_entropy(
        logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, label_smoothing=smoothing
    )


def projected_loss(
    hidden: Tensor, targets: Tensor, weight: Tensor, bias: Tensor | None, *, smoothing: float = 0.0
) -> Tensor:
    """What `generation_loss` says of the logits of hidden states (B, T, D), which are made for the answer's tokens
    only and never stand in memory all at once. With vocabularies of 8,000 to 12,000 that is three times as fast as the
    loss of all logits (two cores, a third of the positions not asked).

    Args:
        weight: of the projection to the vocabulary, (V, D).
        bias: of the same, (V,).
        smoothing: see `generation_loss`.
    """
    asked = targets != IGNORED
    rows, wanted = hidden[asked], targets[asked]
    if torch.is_autocast_enabled(rows.device.type):  # in 16 bits linear_cross_entropy would round the loss itself
        logits = functional.linear(rows, weight, bias).float()
        return functional.cross_entropy(logits, wanted, label_smoothing=smoothing)
    loss = functional.linear_cross_entropy(rows, weight, wanted, linear_bias=bias, options=LOGITS_AT_ONCE)
    if not smoothing:
        return loss
    # (1 - s) nats of the target and s of the mean token are the target's nats and s (its logit - the mean logit).
    ahead = (rows * (weight[wanted] - weight.mean(0))).sum(-1)
    if bias is not None:
        ahead = ahead + bias[wanted] - bias.mean()
    return loss + smoothing * ahead.mean()
