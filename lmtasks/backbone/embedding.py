"""Token embeddings of the small families: padding reads as zero."""

from torch import Tensor, nn

from lmtasks.backbone.sizes import Vocabulary


class TokenEmbedding(nn.Embedding):
    """(B, T) ids -> (B, T, D), zero where the mask is False, whatever stands there.

    Values begin uniform between -scale and scale.
    """

    def __init__(self, vocabulary: Vocabulary, width: int, *, scale: float) -> None:
        super().__init__(vocabulary.size, width)
        nn.init.uniform_(self.weight, -scale, scale)

    def read(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Embeddings of real tokens, and zeros."""
        vectors: Tensor = self(ids)
        return vectors * mask.unsqueeze(-1).to(vectors.dtype)
