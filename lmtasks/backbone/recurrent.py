"""Recurrent language models: RNN (Elman 1990), LSTM (Hochreiter and Schmidhuber 1997), GRU (Cho et al. 2014).

One matrix reads and writes the tokens (Press and Wolf 2017, https://arxiv.org/abs/1608.05859), and dropout is
variational. The state of a row has a fixed size: each layer's vectors, (B, layers, D).
"""

from functools import partial

import torch
from torch import Tensor, nn

from lmtasks.backbone.base import Projection, State, Traits
from lmtasks.backbone.family import RecurrentSizes
from lmtasks.backbone.own import (
    CELLS,
    OwnBackbone,
    TokenEmbedding,
    even_scale,
    moved,
    parts_of,
    run,
    same_for_all_times,
    start_small,
    to_the_right,
)
from lmtasks.backbone.sizes import Vocabulary


class Recurrent(OwnBackbone):
    """A language model that reads from left to right.

    Args:
        cell: `rnn`, `lstm` or `gru`.
    """

    def __init__(self, cell: str, sizes: RecurrentSizes, vocabulary: Vocabulary) -> None:
        super().__init__(sizes, vocabulary)
        self.cell, self.sizes = cell, sizes
        self.traits = Traits(
            kind="causal",
            family=cell,
            width=sizes.width,
            vocabulary=vocabulary.size,
            max_length_tokens=sizes.context,
            pad=vocabulary.pad,
            learning_rate=2e-3,
            stateful=True,
        )
        self.tokens = TokenEmbedding(vocabulary, sizes.width, scale=even_scale(sizes.width), dropout=sizes.word_dropout)
        self.layers = nn.ModuleList(CELLS[cell](sizes.width, sizes.width) for _ in range(sizes.layers))
        self.bias = nn.Parameter(torch.zeros(vocabulary.size))
        for layer in self.layers:
            start_small(layer, scale=sizes.width**-0.5)

    def start(self, ids: Tensor, mask: Tensor) -> State:
        """See `Decodes`: zeros."""
        del mask
        size = (len(ids), self.sizes.layers, self.sizes.width)
        return tuple(self.bias.new_zeros(size) for _ in range(parts_of(self.cell)))

    def next(self, state: State, ids: Tensor, mask: Tensor) -> tuple[Tensor, State]:
        """See `Decodes`."""
        return self._through(state, ids, mask)

    def encode(self, ids: Tensor, mask: Tensor, types: Tensor | None = None) -> Tensor:
        """See `Backbone`."""
        del types
        order = to_the_right(mask)
        # On the right no token sees the padding, and nobody reads the state behind it.
        hidden, _ = self._through(self.start(ids, mask), ids if order is None else ids.gather(1, order[0]), None)
        return hidden if order is None else moved(hidden, order[1])

    def projection(self) -> Projection:
        """See `Backbone`: the embeddings again."""
        return Projection(weight=self.tokens.weight, bias=self.bias)

    def _through(self, state: State, ids: Tensor, mask: Tensor | None) -> tuple[Tensor, State]:
        hidden = self._dropped(self.tokens(ids))
        states = []
        for number, layer in enumerate(self.layers):
            hidden, after = run(layer, hidden, tuple(part[:, number] for part in state), mask)  # type: ignore[arg-type]
            hidden = self._dropped(hidden)
            states.append(after)
        return hidden, tuple(torch.stack(parts, dim=1) for parts in zip(*states, strict=True))

    def _dropped(self, values: Tensor) -> Tensor:
        return same_for_all_times(values, self.sizes.dropout, self.training)


rnn, lstm, gru = (partial(Recurrent, cell) for cell in ("rnn", "lstm", "gru"))
"""The families, each made of sizes and a vocabulary."""
