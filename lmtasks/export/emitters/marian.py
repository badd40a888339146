"""Marian and BART: encoder and decoder layers that normalize behind each part.

    encoder   x = LayerNorm(x + out(attention(x))); x = LayerNorm(x + fc2(activation(fc1(x))))
    decoder   the same, and between the two: x = LayerNorm(x + out(attention(x, source)))

Marian (Junczys-Dowmunt et al. 2018, arXiv:1804.00344) has sinusoidal positions, BART (Lewis et al. 2019,
arXiv:1910.13461) learned ones whose table starts two rows early, and a normalization behind its embeddings.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lmtasks.export.checkpoint import CannotEmit, Checkpoint, Config, Weights
from lmtasks.export.emitters.attention import CausalAttention, attention
from lmtasks.export.emitters.blocks import (
    Dense,
    Layout,
    Norm,
    activation,
    check_activation,
    dense,
    flat,
    joined,
    looked_up,
    norm,
    projection,
)
from lmtasks.export.emitters.causal import Attends, Read
from lmtasks.export.emitters.encoder import EncoderLayer, counted, dense_of, encoded, norm_of
from lmtasks.export.emitters.seq2seq import Crosses, PairShape, cross_attention, pair_graphs
from lmtasks.export.graph import INT32, GraphBuilder
from lmtasks.export.package import GraphName
from lmtasks.records import Floats32

if TYPE_CHECKING:
    import onnx_ir as ir

EPSILON = 1e-5
"""Of all normalizations: torch's own, the configuration has no name for it."""
EARLY_ROWS = {"bart": 2}
"""So many rows stand before position 0 in the table of positions."""


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """What stands before the layers of an encoder or a decoder."""

    name: str
    table: Floats32
    """(V, D)"""
    positions: Floats32
    """(longest text, D)"""
    scale: float
    after: Norm | None


@dataclass(frozen=True, kw_only=True)
class MarianDecoderLayer:
    """One layer of the decoder."""

    packed: Dense
    attends: CausalAttention
    out: Dense
    after_own: Norm
    query: Dense
    source_out: Dense
    after_source: Norm
    up: Dense
    down: Dense
    after: Norm


@dataclass(frozen=True, kw_only=True)
class Marian:
    """The whole model."""

    reads: Embedded
    encoder: tuple[EncoderLayer, ...]
    encoder_heads: int
    writes: Embedded
    decoder: tuple[MarianDecoderLayer, ...]
    act: str

    def encode(self, graph: GraphBuilder, ids: "ir.Value", mask: "ir.Value", layout: Layout) -> "ir.Value":
        """See `pairs.Encode`. Positions are counted over tokens: padding may stand anywhere."""
        x = _embedded(graph, self.reads, ids, counted(graph, mask, first=0))
        real = graph.add("Cast", mask, attributes={"to": INT32})
        return encoded(graph, x, self.encoder, layout, real, heads=self.encoder_heads, act=self.act)

    def decode(
        self, graph: GraphBuilder, ids: "ir.Value", at: Attends, crosses: Crosses, wanted: "ir.Value"
    ) -> "tuple[ir.Value, list[Read]]":
        """See `pairs.Decode`."""
        assert at.positions is not None  # every decoder of a pair has them as an input
        x = _embedded(graph, self.writes, ids, at.positions)
        reads: list[Read] = []
        for number, layer in enumerate(self.decoder):
            read = attention(graph, dense(graph, x, layer.packed), at, layer.attends)
            reads.append(read)
            x = norm(graph, dense(graph, read.mixed, layer.out, plus=x), layer.after_own)
            mixed = cross_attention(graph, dense(graph, x, layer.query), crosses, number)
            if layer is self.decoder[-1]:  # behind here, no row sees another
                x, mixed = graph.add("Gather", x, wanted), graph.add("Gather", mixed, wanted)
            x = norm(graph, dense(graph, mixed, layer.source_out, plus=x), layer.after_source)
            inner = activation(graph, dense(graph, x, layer.up), self.act)
            x = norm(graph, dense(graph, inner, layer.down, plus=x), layer.after)
        return x, reads


def emit_marian(checkpoint: Checkpoint) -> "dict[GraphName, ir.Model]":
    """The graphs of an encoder-decoder of this shape.

    Raises:
        CannotEmit: a setting or weight that the graphs do not have.
    """
    config, weights = checkpoint.config, checkpoint.weights
    if checkpoint.card.kind != "encoder-decoder":
        raise CannotEmit(f"it is used as {checkpoint.card.kind}; as an encoder-decoder it is built")
    decoder = tuple(_decoder_layer(config, weights, number) for number in range(config.integer("decoder_layers")))
    model = Marian(
        reads=_embeddings(config, weights, "encoder"),
        encoder=tuple(_encoder_layer(weights, number) for number in range(config.integer("encoder_layers"))),
        encoder_heads=config.integer("encoder_attention_heads"),
        writes=_embeddings(config, weights, "decoder"),
        decoder=decoder,
        act=check_activation(config.text("activation_function")),
    )
    bias = weights.take("final_logits_bias").reshape(-1)
    head = projection(model.writes.table, weights.take("lm_head.weight"), bias if bias.any() else None)
    sources = tuple(
        (dense_of(weights, f"{name}.k_proj"), dense_of(weights, f"{name}.v_proj"))
        for name in (f"model.decoder.layers.{number}.encoder_attn" for number in range(len(decoder)))
    )
    weights.skip("model.shared.weight")  # the tables of encoder and decoder, under a third name
    weights.check_all_taken()
    shape = PairShape(
        layers=len(decoder),
        heads=decoder[0].attends.heads,
        width=decoder[0].attends.width,
        vocabulary=len(head.weight),
        projection=head,
        sources=sources,
    )
    return pair_graphs(shape, model.encode, model.decode, checkpoint.heads)


def _embedded(graph: GraphBuilder, part: Embedded, ids: "ir.Value", positions: "ir.Value") -> "ir.Value":
    x = looked_up(graph, f"{part.name}.weight", part.table, flat(graph, ids))
    if part.scale != 1.0:
        x = graph.add("Mul", x, graph.constant("embedding.scale", np.float32(part.scale)))
    x = graph.add("Add", x, looked_up(graph, f"{part.name}.positions", part.positions, flat(graph, positions)))
    return x if part.after is None else norm(graph, x, part.after)


def _embeddings(config: Config, weights: Weights, side: str) -> Embedded:
    name = f"model.{side}"
    early = EARLY_ROWS.get(config.text("model_type"), 0)
    normed = f"{name}.layernorm_embedding"
    return Embedded(
        name="embedding" if side == "decoder" else "source",
        table=weights.take(f"{name}.embed_tokens.weight"),
        positions=weights.take(f"{name}.embed_positions.weight")[early:],
        scale=math.sqrt(config.integer("d_model")) if config.flag("scale_embedding") else 1.0,
        after=norm_of(weights, normed, EPSILON) if f"{normed}.weight" in weights else None,
    )


def _packed(weights: Weights, name: str) -> Dense:
    return joined(f"{name}.qkv", *(dense_of(weights, f"{name}.{part}_proj") for part in ("q", "k", "v")))


def _encoder_layer(weights: Weights, number: int) -> EncoderLayer:
    name = f"model.encoder.layers.{number}"
    return EncoderLayer(
        packed=_packed(weights, f"{name}.self_attn"),
        out=dense_of(weights, f"{name}.self_attn.out_proj"),
        between=norm_of(weights, f"{name}.self_attn_layer_norm", EPSILON),
        up=dense_of(weights, f"{name}.fc1"),
        down=dense_of(weights, f"{name}.fc2"),
        after=norm_of(weights, f"{name}.final_layer_norm", EPSILON),
    )


def _decoder_layer(config: Config, weights: Weights, number: int) -> MarianDecoderLayer:
    name = f"model.decoder.layers.{number}"
    heads = config.integer("decoder_attention_heads")
    width = config.integer("d_model") // heads
    return MarianDecoderLayer(
        packed=_packed(weights, f"{name}.self_attn"),
        attends=CausalAttention(layer=number, heads=heads, cache_heads=heads, width=width),
        out=dense_of(weights, f"{name}.self_attn.out_proj"),
        after_own=norm_of(weights, f"{name}.self_attn_layer_norm", EPSILON),
        query=dense_of(weights, f"{name}.encoder_attn.q_proj"),
        source_out=dense_of(weights, f"{name}.encoder_attn.out_proj"),
        after_source=norm_of(weights, f"{name}.encoder_attn_layer_norm", EPSILON),
        up=dense_of(weights, f"{name}.fc1"),
        down=dense_of(weights, f"{name}.fc2"),
        after=norm_of(weights, f"{name}.final_layer_norm", EPSILON),
    )
