"""Averaged embeddings of tokens and of pairs of neighbours, as in fastText (Joulin et al. 2017,
https://arxiv.org/abs/1607.01759).

A pair has no entry of its own in a vocabulary: its hash names one of a fixed number of vectors. The head takes the
mean over the text.
"""

import torch
from torch import Tensor, nn

from lmtasks.backbone.base import Traits
from lmtasks.backbone.family import AverageSizes
from lmtasks.backbone.own import OwnBackbone, TokenEmbedding
from lmtasks.backbone.sizes import Vocabulary

MULTIPLIER = 116_049_371
"""fastText's, for the hashes of its n-grams."""


class Average(OwnBackbone):
    """Each token's own vector, and that of the pair which it ends."""

    def __init__(self, sizes: AverageSizes, vocabulary: Vocabulary) -> None:
        super().__init__(sizes, vocabulary)
        self.sizes = sizes
        self.traits = Traits(
            kind="encoder",
            family="average",
            width=sizes.width,
            vocabulary=vocabulary.size,
            max_length_tokens=sizes.context,
            pad=vocabulary.pad,
            learning_rate=5e-3,
        )
        self.tokens = TokenEmbedding(vocabulary, sizes.width, scale=1 / sizes.width, dropout=sizes.word_dropout)
        self.pairs = nn.Embedding(sizes.buckets, sizes.width) if sizes.buckets else None
        if self.pairs is not None:
            nn.init.uniform_(self.pairs.weight, -1 / sizes.width, 1 / sizes.width)
        self.dropout = nn.Dropout(sizes.dropout)

    def encode(self, ids: Tensor, mask: Tensor, types: Tensor | None = None) -> Tensor:
        """See `Backbone`."""
        del types
        vectors = self.tokens.read(ids, mask)
        if self.pairs is not None:
            both = torch.zeros_like(mask)
            both[:, 1:] = mask[:, 1:] & mask[:, :-1]
            places = pair_buckets(ids, buckets=self.sizes.buckets)
            vectors = vectors + self.pairs(places) * both.unsqueeze(-1).to(vectors.dtype)
        hidden: Tensor = self.dropout(vectors)
        return hidden


def pair_buckets(ids: Tensor, *, buckets: int) -> Tensor:
    """The bucket of each token with the one before it, (B, T) -> (B, T); the first column has none, and holds 0.

    >>> pair_buckets(torch.tensor([[3, 5, 3, 5]]), buckets=1000).tolist()
    [[0, 118, 858, 118]]
    """
    places = torch.zeros_like(ids)
    places[:, 1:] = (ids[:, :-1] * MULTIPLIER + ids[:, 1:]) % buckets
    return places
