"""An answer that stands in the text: logits of its first and its last token (extractive question answering)."""

from torch import Tensor, nn
from torch.nn import functional


class SpanHead(nn.Module):
    """Hidden states to start and end logits.

    Args:
        width: D of the hidden states.
        dropout: before the output.
    """

    def __init__(self, *, width: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.inner = nn.Linear(width, width)
        self.output = nn.Linear(width, 2)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """(B, T, D) and mask (B, T) -> (B, T, 2); padded positions get a logit that no softmax sees."""
        logits: Tensor = self.output(self.dropout(functional.gelu(self.inner(hidden))))
        return logits.masked_fill(~mask.unsqueeze(-1), -1e4)


def span_loss(logits: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
    """Mean of the cross-entropies of start and end, logits (B, T, 2), positions (B,), in nats."""
    start, end = logits.float().unbind(-1)
    return (functional.cross_entropy(start, starts) + functional.cross_entropy(end, ends)) / 2
