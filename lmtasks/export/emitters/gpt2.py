"""GPT-2: learned positions, LayerNorm before each part, biases everywhere, the embedding's table as head.

    x = embedding(ids) + position(positions)
    x = x + out(attention(LayerNorm(x)))
    x = x + down(gelu(up(LayerNorm(x))))
    logits = head(LayerNorm(x))

Radford et al. 2019. Its products are kept (in, out) on disk, and turned here, so that one form serves all.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lmtasks.export.checkpoint import CannotEmit, Checkpoint, Config, Weights
from lmtasks.export.emitters.attention import CausalAttention, attention
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
)
from lmtasks.export.emitters.causal import Attends, CausalShape, Read, causal_graphs
from lmtasks.export.graph import GraphBuilder
from lmtasks.export.package import GraphName
from lmtasks.records import Floats32

if TYPE_CHECKING:
    import onnx_ir as ir


@dataclass(frozen=True, kw_only=True)
class Gpt2Layer:
    """One layer of the model."""

    before: Norm
    packed: Dense
    """queries, keys and values"""
    attends: CausalAttention
    out: Dense
    between: Norm
    """Before the feed-forward part."""
    up: Dense
    down: Dense


@dataclass(frozen=True, kw_only=True)
class Gpt2:
    """The whole model."""

    table: Floats32
    """Embeddings, (V, D)."""
    positions: Floats32
    """Embeddings of positions, (longest input, D)."""
    layers: tuple[Gpt2Layer, ...]
    last: Norm
    head: Dense
    act: str

    def body(
        self, graph: GraphBuilder, ids: "ir.Value", at: Attends, wanted: "ir.Value | None"
    ) -> "tuple[ir.Value, list[Read]]":
        """See `causal.Body`."""
        assert at.positions is not None  # `CausalShape.takes_positions` asked for them
        x = graph.add(
            "Add",
            looked_up(graph, "embedding.weight", self.table, flat(graph, ids)),
            looked_up(graph, "position.weight", self.positions, flat(graph, at.positions)),
        )
        reads: list[Read] = []
        for layer in self.layers:
            read = attention(graph, dense(graph, norm(graph, x, layer.before), layer.packed), at, layer.attends)
            reads.append(read)
            mixed = read.mixed
            if layer is self.layers[-1] and wanted is not None:  # behind here, no row sees another
                x, mixed = graph.add("Gather", x, wanted), graph.add("Gather", mixed, wanted)
            x = dense(graph, mixed, layer.out, plus=x)
            inner = activation(graph, dense(graph, norm(graph, x, layer.between), layer.up), self.act)
            x = dense(graph, inner, layer.down, plus=x)
        return norm(graph, x, self.last), reads


def emit_gpt2(checkpoint: Checkpoint) -> "dict[GraphName, ir.Model]":
    """The graphs of a causal model of this shape.

    Raises:
        CannotEmit: a setting or weight that these graphs do not have.
    """
    config, weights = checkpoint.config, checkpoint.weights
    if checkpoint.card.kind != "causal":
        raise CannotEmit(f"it is used as {checkpoint.card.kind}; as a causal model it is built")
    if config.flag("add_cross_attention"):
        raise CannotEmit("it attends to a second text")
    layers = tuple(_layer(config, weights, number) for number in range(config.integer("n_layer")))
    table = weights.take("transformer.wte.weight")
    model = Gpt2(
        table=table,
        positions=weights.take("transformer.wpe.weight"),
        layers=layers,
        last=_norm(config, weights, "transformer.ln_f"),
        head=projection(table, weights.take("lm_head.weight")),
        act=check_activation(config.text("activation_function")),
    )
    weights.check_all_taken()
    shape = CausalShape(
        layers=len(layers),
        heads=layers[0].attends.heads,
        width=layers[0].attends.width,
        vocabulary=len(model.head.weight),
        projection=model.head,
        takes_positions=True,
    )
    return causal_graphs(shape, model.body, checkpoint.heads)


def _layer(config: Config, weights: Weights, number: int) -> Gpt2Layer:
    name = f"transformer.h.{number}"
    heads = config.integer("n_head")
    width = config.integer("n_embd") // heads
    scale = 1 / math.sqrt(width) if config.flag("scale_attn_weights", True) else 1.0
    if config.flag("scale_attn_by_inverse_layer_idx"):
        scale /= number + 1
    return Gpt2Layer(
        before=_norm(config, weights, f"{name}.ln_1"),
        packed=_dense(weights, f"{name}.attn.c_attn"),
        attends=CausalAttention(layer=number, heads=heads, cache_heads=heads, width=width, scale=scale),
        out=_dense(weights, f"{name}.attn.c_proj"),
        between=_norm(config, weights, f"{name}.ln_2"),
        up=_dense(weights, f"{name}.mlp.c_fc"),
        down=_dense(weights, f"{name}.mlp.c_proj"),
    )


def _norm(config: Config, weights: Weights, name: str) -> Norm:
    return Norm(
        name=name,
        weight=weights.take(f"{name}.weight"),
        epsilon=config.number("layer_norm_epsilon"),
        bias=weights.take(f"{name}.bias"),
    )


def _dense(weights: Weights, name: str) -> Dense:
    turned = np.ascontiguousarray(weights.take(f"{name}.weight").T)
    return Dense(name=name, weight=turned, bias=weights.take(f"{name}.bias"))
