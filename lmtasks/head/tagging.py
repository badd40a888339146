"""One label for every token."""

from torch import Tensor, nn
from torch.nn import functional

IGNORED = -100
"""Target of a position that is not judged: padding, and the later pieces of a word."""


class TaggingHead(nn.Module):
    """Hidden states to class logits at every position."""

    def __init__(self, *, width: int, classes: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(width, classes)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """(B, T, D) and mask (B, T) -> (B, T, C)."""
        del mask  # what stands at padded positions is not read
        logits: Tensor = self.output(self.dropout(hidden))
        return logits


def tagging_loss(logits: Tensor, tags: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy over judged positions, logits (B, T, C), tags (B, T), in nats; `smoothing` is the share of a
    target that all tags divide."""
    return functional.cross_entropy(
        logits.float().flatten(0, 1), tags.flatten(), ignore_index=IGNORED, label_smoothing=smoothing
    )
