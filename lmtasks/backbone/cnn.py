"""A convolution over embeddings with filters of several widths (Kim 2014, https://arxiv.org/abs/1408.5882).

The head takes the maximum over time. A filter of width 3 at a token sees the token, one before and one behind it;
zeros stand around a text, wherever its padding is.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from lmtasks.backbone.base import Traits
from lmtasks.backbone.family import CnnSizes
from lmtasks.backbone.own import OwnBackbone, TokenEmbedding
from lmtasks.backbone.sizes import Vocabulary


class Cnn(OwnBackbone):
    """Embeddings, and one layer of filters."""

    def __init__(self, sizes: CnnSizes, vocabulary: Vocabulary) -> None:
        super().__init__(sizes, vocabulary)
        self.sizes = sizes
        self.traits = Traits(
            kind="encoder",
            family="cnn",
            width=sizes.filters * len(sizes.widths),
            vocabulary=vocabulary.size,
            max_length_tokens=sizes.context,
            pad=vocabulary.pad,
            learning_rate=1e-3,
            pooling="max",
        )
        self.tokens = TokenEmbedding(vocabulary, sizes.width, scale=0.25, dropout=sizes.word_dropout)
        self.filters = nn.ModuleList(nn.Conv1d(sizes.width, sizes.filters, width) for width in sizes.widths)
        self.dropout = sizes.dropout

    def encode(self, ids: Tensor, mask: Tensor, types: Tensor | None = None) -> Tensor:
        """See `Backbone`."""
        del types
        vectors = self.tokens.read(ids, mask)
        # All filters in one product, (B, T, of all widths K x F): on a CPU twice as fast as a convolution for each.
        filters = [cast(nn.Conv1d, each) for each in self.filters]
        weights = torch.cat([each.weight.permute(2, 0, 1).flatten(0, 1) for each in filters])
        products = functional.linear(vectors, weights).split(
            [width * self.sizes.filters for width in self.sizes.widths], -1
        )
        found = [
            functional.relu(_summed(part.unflatten(-1, (width, -1))) + cast(Tensor, each.bias))
            for part, each, width in zip(products, filters, self.sizes.widths, strict=True)
        ]
        hidden = torch.cat(found, dim=-1)
        if self.training and self.dropout:
            # One mask for all times: what is dropped of the maximum is a filter, as where the maximum is dropped.
            hidden = hidden * functional.dropout(torch.ones_like(hidden[:, :1]), self.dropout)
        return hidden


def _summed(products: Tensor) -> Tensor:
    """Sums of a filter at each token, (B, T, K, F) -> (B, T, F): its first place has met the token (K - 1) // 2
    before, and so on; zeros stand around the text."""
    length, width = products.shape[1:3]
    before = (width - 1) // 2
    padded = functional.pad(products, (0, 0, 0, 0, before, width - 1 - before))
    return torch.stack([padded[:, place : place + length, place] for place in range(width)]).sum(0)
