"""A recurrent encoder-decoder with attention: Luong et al. 2015 (https://arxiv.org/abs/1508.04025), `general` scores.

The attention stands behind the decoder's first layer, and the layers above it read what it found (as in Wu et al.
2016, https://arxiv.org/abs/1609.08144): they remember what was looked at, as Luong's input feeding does, but a known
target is read layer by layer, not token by token. One embedding reads the source, reads the target and writes it.

State of a row: the decoder's vectors (B, layers, D), the encoded source (B, T, D), and which of it are tokens (B, T).
"""

from functools import partial

import torch
from torch import Tensor, nn

from lmtasks.backbone.base import Projection, State, Traits
from lmtasks.backbone.family import BidirectionalSizes
from lmtasks.backbone.own import (
    CELLS,
    BothWays,
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


class Attentive(OwnBackbone):
    """Reads a source both ways, and writes a target.

    Args:
        cell: `lstm` or `gru`.
    """

    def __init__(self, cell: str, sizes: BidirectionalSizes, vocabulary: Vocabulary) -> None:
        super().__init__(sizes, vocabulary)
        self.cell, self.sizes = cell, sizes
        width = sizes.width
        self.traits = Traits(
            kind="encoder-decoder",
            family=f"{cell}-attention",
            width=width,
            vocabulary=vocabulary.size,
            max_length_tokens=sizes.context,
            pad=vocabulary.pad,
            learning_rate=1e-3,
            stateful=True,
        )
        self.tokens = TokenEmbedding(vocabulary, width, scale=even_scale(width), dropout=sizes.word_dropout)
        self.reader = BothWays(cell, width=width, layers=sizes.layers, dropout=sizes.dropout)
        self.layers = nn.ModuleList(
            CELLS[cell](width if number == 0 else 2 * width, width) for number in range(sizes.layers)
        )
        self.begin = nn.Linear(width, parts_of(cell) * sizes.layers * width)
        self.scores = nn.Linear(width, width, bias=False)
        self.output = nn.Linear(2 * width, width)
        self.bias = nn.Parameter(torch.zeros(vocabulary.size))
        for layer in self.layers:
            start_small(layer, scale=width**-0.5)

    def encode(self, ids: Tensor, mask: Tensor, types: Tensor | None = None) -> Tensor:
        """See `Backbone`."""
        del types
        order = to_the_right(mask)
        if order is None:
            hidden: Tensor = self.reader(self.tokens(ids), mask)
            return hidden
        return moved(self.reader(self.tokens(ids.gather(1, order[0])), mask.gather(1, order[0])), order[1])

    def start(self, ids: Tensor, mask: Tensor) -> State:
        """See `Decodes`: the decoder begins from the mean of the source."""
        encoded = self.encode(ids, mask)
        real = mask.unsqueeze(-1).to(encoded.dtype)
        mean = (encoded * real).sum(1) / real.sum(1).clamp(min=1.0)
        begun = torch.tanh(self.begin(mean)).view(len(ids), parts_of(self.cell), self.sizes.layers, self.sizes.width)
        return (*begun.unbind(1), encoded, mask)

    def next(self, state: State, ids: Tensor, mask: Tensor) -> tuple[Tensor, State]:
        """See `Decodes`."""
        return self._write(state, ids, mask)

    def decoded(self, ids: Tensor, mask: Tensor, decoder_ids: Tensor) -> Tensor:
        """See `Backbone`."""
        return self._write(self.start(ids, mask), decoder_ids, None)[0]

    def projection(self) -> Projection:
        """See `Backbone`: the embeddings again."""
        return Projection(weight=self.tokens.weight, bias=self.bias)

    def _write(self, state: State, ids: Tensor, mask: Tensor | None) -> tuple[Tensor, State]:
        *own, encoded, seen = state
        hidden, found = self._dropped(self.tokens(ids)), None
        states = []
        for number, layer in enumerate(self.layers):
            given = hidden if found is None else torch.cat([hidden, found], dim=-1)
            hidden, after = run(layer, given, tuple(part[:, number] for part in own), mask)  # type: ignore[arg-type]
            hidden = self._dropped(hidden)
            states.append(after)
            if found is None:
                found = self._look(hidden, encoded, seen)
        assert found is not None  # there is at least one layer
        outputs = self._dropped(torch.tanh(self.output(torch.cat([hidden, found], dim=-1))))
        return outputs, (*(torch.stack(parts, dim=1) for parts in zip(*states, strict=True)), encoded, seen)

    def _look(self, hidden: Tensor, encoded: Tensor, seen: Tensor) -> Tensor:
        """(B, S, D) and the source (B, T, D) -> what is found there, (B, S, D)."""
        scores = self.scores(hidden) @ encoded.transpose(1, 2)
        shut = torch.finfo(scores.dtype).min
        found: Tensor = scores.masked_fill(~seen.unsqueeze(1), shut).softmax(-1) @ encoded
        return found

    def _dropped(self, values: Tensor) -> Tensor:
        return same_for_all_times(values, self.sizes.dropout, self.training)


lstm_attention, gru_attention = (partial(Attentive, cell) for cell in ("lstm", "gru"))
"""The families, each made of sizes and a vocabulary."""
