"""Bidirectional LSTM and GRU (Schuster and Paliwal 1997; Graves and Schmidhuber 2005).

Rows have their real lengths: the way back begins at a row's own last token, so that padding has no effect, and no
packing is needed.
"""

from functools import partial

from torch import Tensor

from lmtasks.backbone.base import Traits
from lmtasks.backbone.family import BidirectionalSizes
from lmtasks.backbone.own import (
    BothWays,
    OwnBackbone,
    TokenEmbedding,
    even_scale,
    moved,
    to_the_right,
)
from lmtasks.backbone.sizes import Vocabulary


class Bidirectional(OwnBackbone):
    """An encoder of two readings.

    Args:
        cell: `lstm` or `gru`.
    """

    def __init__(self, cell: str, sizes: BidirectionalSizes, vocabulary: Vocabulary) -> None:
        super().__init__(sizes, vocabulary)
        self.sizes = sizes
        self.traits = Traits(
            kind="encoder",
            family=f"bi{cell}",
            width=sizes.width,
            vocabulary=vocabulary.size,
            max_length_tokens=sizes.context,
            pad=vocabulary.pad,
            pooling="max",
            learning_rate=2e-3,
        )
        self.tokens = TokenEmbedding(vocabulary, sizes.width, scale=even_scale(sizes.width), dropout=sizes.word_dropout)
        self.reader = BothWays(cell, width=sizes.width, layers=sizes.layers, dropout=sizes.dropout)

    def encode(self, ids: Tensor, mask: Tensor, types: Tensor | None = None) -> Tensor:
        """See `Backbone`."""
        del types
        order = to_the_right(mask)
        if order is None:
            hidden: Tensor = self.reader(self.tokens(ids), mask)
            return hidden
        return moved(self.reader(self.tokens(ids.gather(1, order[0])), mask.gather(1, order[0])), order[1])


bilstm, bigru = (partial(Bidirectional, cell) for cell in ("lstm", "gru"))
"""The families, each made of sizes and a vocabulary."""
