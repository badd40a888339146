"""GPT-NeoX and Pythia: rotary positions on a part of each head, attention and feed-forward beside each other.

    x = embedding(ids)
    x = x + out(attention(LayerNorm(x))) + down(gelu(up(LayerNorm'(x))))      or one behind the other
    logits = head(LayerNorm(x))

Black et al. 2022, arXiv:2204.06745; Biderman et al. 2023, arXiv:2304.01373.

The operator rotates whole heads, pairing number i with i + width / 2, and these models rotate the first R numbers of a
head, pairing i with i + R / 2. A head's numbers may stand in any order, as long as queries and keys have the same: the
rows of both products are put where the operator's pairs are theirs, and the tables leave the others as they are.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lmtasks.export.checkpoint import CannotEmit, Checkpoint, Config, Weights
from lmtasks.export.emitters.attention import CausalAttention, Rotary, attention
from lmtasks.export.emitters.blocks import (
    Dense,
    Norm,
    activation,
    check_activation,
    dense,
    flat,
    looked_up,
    norm,
    projection,
    taken,
)
from lmtasks.export.emitters.causal import Attends, CausalShape, Read, causal_graphs
from lmtasks.export.emitters.gpt2 import Gpt2Layer
from lmtasks.export.emitters.llama import ROTATED_BY_ATTENTION
from lmtasks.export.graph import GraphBuilder
from lmtasks.export.package import GraphName
from lmtasks.export.rotary import rotary_tables
from lmtasks.records import Floats32, Ints

if TYPE_CHECKING:
    import onnx_ir as ir


@dataclass(frozen=True, kw_only=True)
class GptNeoX:
    """The whole model."""

    table: Floats32
    """Embeddings, (V, D)."""
    layers: tuple[Gpt2Layer, ...]
    beside: bool
    """Do both parts of a layer read what comes into it?"""
    last: Norm
    head: Dense
    act: str

    def body(
        self, graph: GraphBuilder, ids: "ir.Value", at: Attends, wanted: "ir.Value | None"
    ) -> "tuple[ir.Value, list[Read]]":
        """See `causal.Body`."""
        x = looked_up(graph, "embedding.weight", self.table, flat(graph, ids))
        reads: list[Read] = []
        for layer in self.layers:
            read = attention(graph, dense(graph, norm(graph, x, layer.before), layer.packed), at, layer.attends)
            reads.append(read)
            mixed = read.mixed
            if layer is self.layers[-1] and wanted is not None:  # behind here, no row sees another
                x, mixed = graph.add("Gather", x, wanted), graph.add("Gather", mixed, wanted)
            attended = dense(graph, mixed, layer.out, plus=x)
            read_next = norm(graph, x if self.beside else attended, layer.between)
            inner = activation(graph, dense(graph, read_next, layer.up), self.act)
            x = dense(graph, inner, layer.down, plus=attended)
        return norm(graph, x, self.last), reads


def emit_gpt_neox(checkpoint: Checkpoint) -> "dict[GraphName, ir.Model]":
    """The graphs of a causal model of this shape.

    Raises:
        CannotEmit: a setting or weight that these graphs do not have.
    """
    config, weights = checkpoint.config, checkpoint.weights
    if checkpoint.card.kind != "causal":
        raise CannotEmit(f"it is used as {checkpoint.card.kind}; as a causal model it is built")
    width = config.integer("hidden_size") // config.integer("num_attention_heads")
    cosines, sines = rotary_tables(config, width=width, positions=checkpoint.card.max_length_tokens)
    order = _order(width, rotated=2 * cosines.shape[1])
    rotary = Rotary(cosines=_widened(cosines, width, 1.0), sines=_widened(sines, width, 0.0))
    layers = tuple(
        _layer(config, weights, number, width=width, rotary=rotary, order=order)
        for number in range(config.integer("num_hidden_layers"))
    )
    table = weights.take("gpt_neox.embed_in.weight")
    model = GptNeoX(
        table=table,
        layers=layers,
        beside=config.flag("use_parallel_residual", True),
        last=_norm(config, weights, "gpt_neox.final_layer_norm"),
        head=projection(table, weights.take("lm_head.weight")),
        act=check_activation(config.text("hidden_act")),
    )
    weights.check_all_taken()
    shape = CausalShape(
        layers=len(layers),
        heads=layers[0].attends.heads,
        width=width,
        vocabulary=len(model.head.weight),
        projection=model.head,
        takes_positions=width % ROTATED_BY_ATTENTION != 0,
    )
    return causal_graphs(shape, model.body, checkpoint.heads)


def _layer(config: Config, weights: Weights, number: int, *, width: int, rotary: Rotary, order: Ints) -> Gpt2Layer:
    name = f"gpt_neox.layers.{number}"
    heads = config.integer("num_attention_heads")
    return Gpt2Layer(
        before=_norm(config, weights, f"{name}.input_layernorm"),
        packed=_apart(taken(weights, f"{name}.attention.query_key_value"), heads=heads, order=order),
        attends=CausalAttention(layer=number, heads=heads, cache_heads=heads, width=width, rotary=rotary),
        out=taken(weights, f"{name}.attention.dense"),
        between=_norm(config, weights, f"{name}.post_attention_layernorm"),
        up=taken(weights, f"{name}.mlp.dense_h_to_4h"),
        down=taken(weights, f"{name}.mlp.dense_4h_to_h"),
    )


def _order(width: int, *, rotated: int) -> Ints:
    """Where each number of a head comes from, (width,): pairs (i, i + rotated / 2) become pairs (i, i + width / 2).

    >>> _order(8, rotated=4).tolist()
    [0, 1, 4, 5, 2, 3, 6, 7]
    """
    half, rest = rotated // 2, np.arange(rotated, width)
    middle = len(rest) // 2
    return np.concatenate([np.arange(half), rest[:middle], np.arange(half, rotated), rest[middle:]])


def _widened(table: Floats32, width: int, value: float) -> Floats32:
    """(positions, rotated / 2) -> (positions, width / 2), by what rotates nothing."""
    missing = width // 2 - table.shape[1]
    return np.pad(table, ((0, 0), (0, missing)), constant_values=value)


def _apart(packed: Dense, *, heads: int, order: Ints) -> Dense:
    """Rows of queries, keys and values, which stand head by head, one kind behind the other."""

    def moved(rows: Floats32) -> Floats32:
        query, key, value = np.moveaxis(rows.reshape(heads, 3, len(order), *rows.shape[1:]), 1, 0)
        return np.concatenate([query[:, order], key[:, order], value]).reshape(rows.shape)

    bias = None if packed.bias is None else moved(packed.bias)
    return Dense(name=packed.name, weight=moved(packed.weight), bias=bias)


def _norm(config: Config, weights: Weights, name: str) -> Norm:
    epsilon = config.number("layer_norm_eps")
    return Norm(name=name, weight=weights.take(f"{name}.weight"), epsilon=epsilon, bias=weights.take(f"{name}.bias"))
