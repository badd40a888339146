"""One label for a whole text."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional


class ClassificationHead(nn.Module):
    """Pooled hidden states to class logits.

    Args:
        width: D of the hidden states.
        classes: C.
        pooling: `mean` or `max` over real tokens, the `last` real token (causal backbones), or the `first` one.
        dropout: on the pooled state.
    """

    def __init__(
        self,
        *,
        width: int,
        classes: int,
        pooling: Literal["mean", "last", "first", "max"] = "mean",
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.pooling = pooling
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(width, classes)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """(B, T, D) and mask (B, T) -> (B, C); right under padding on either side."""
        real = mask.unsqueeze(-1).to(hidden.dtype)
        if self.pooling == "mean":
            pooled = (hidden * real).sum(1) / real.sum(1).clamp(min=1.0)
        elif self.pooling == "max":
            least = torch.finfo(hidden.dtype).min
            pooled = hidden.masked_fill(~mask.unsqueeze(-1), least).amax(1)
        else:
            places = torch.arange(mask.shape[1], device=mask.device)
            place = (
                torch.where(mask, places, -1).amax(1)
                if self.pooling == "last"
                else torch.where(mask, places, mask.shape[1]).amin(1)
            ).clamp(0, mask.shape[1] - 1)
            index = place[:, None, None].expand(-1, 1, hidden.shape[-1])
            pooled = hidden.gather(1, index).squeeze(1)
        logits: Tensor = self.output(self.dropout(pooled))
        return logits


def classification_loss(logits: Tensor, labels: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy, logits (B, C), labels (B,), in nats; `smoothing` is the share of a target that all classes
    divide."""
    return functional.cross_entropy(logits.float(), labels, label_smoothing=smoothing)
