"""Token embeddings of the small families: words are dropped while they learn, and padding reads as zero."""

import torch
from torch import Tensor, nn

from lmtasks.backbone.sizes import Vocabulary


class TokenEmbedding(nn.Embedding):
    """(B, T) ids -> (B, T, D).

    Args:
        scale: values begin uniform between -scale and scale.
        dropout: share of the vocabulary that reads as zero in a training step, wherever it stands; the other words are
            larger for it (Gal and Ghahramani 2016; Merity et al. 2018, https://arxiv.org/abs/1708.02182, section 4.3).
    """

    def __init__(self, vocabulary: Vocabulary, width: int, *, scale: float, dropout: float) -> None:
        super().__init__(vocabulary.size, width)
        self.dropout = dropout
        nn.init.uniform_(self.weight, -scale, scale)

    def forward(self, ids: Tensor) -> Tensor:
        """Embeddings of the words that are not dropped."""
        vectors = super().forward(ids)
        if not self.training or not self.dropout:
            return vectors
        kept = torch.bernoulli(vectors.new_full((self.num_embeddings, 1), 1 - self.dropout)) / (1 - self.dropout)
        return vectors * kept[ids]

    def read(self, ids: Tensor, mask: Tensor) -> Tensor:
        """The same, and zeros where the mask is False, whatever stands there."""
        vectors: Tensor = self(ids)
        return vectors * mask.unsqueeze(-1).to(vectors.dtype)


def even_scale(width: int) -> float:
    """Where uniform values must lie for vectors of length 1 on average; 0.1 at a width of 300, as in Zaremba et al.
    (2014)."""
    return float((3.0 / width) ** 0.5)
