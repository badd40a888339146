"""T5 and its relatives (v1.1, Flan, mT5): RMSNorm before each part, relative positions, products that are not scaled.

    encoder   x = x + out(attention(norm(x)) + distances); x = x + wo(activation(wi(norm(x))))
    decoder   the same, and between the two: x = x + out(attention(norm(x), source))

Raffel et al. 2020, arXiv:1910.10683; gated feed-forward layers: Shazeer 2020, arXiv:2002.05202. Where the checkpoint
scales what it projects by 1 / sqrt(D), the last normalization's weights hold that factor.
"""

from dataclasses import dataclass, replace
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
from lmtasks.export.emitters.encoder import both_ways
from lmtasks.export.emitters.relative import bias_backwards, bias_both_ways, by_distance
from lmtasks.export.emitters.seq2seq import Crosses, PairShape, cross_attention, pair_graphs
from lmtasks.export.graph import INT32, GraphBuilder
from lmtasks.export.package import GraphName
from lmtasks.records import Floats32

if TYPE_CHECKING:
    import onnx_ir as ir

SCALE = 1.0
"""Of the products of queries and keys."""


@dataclass(frozen=True, kw_only=True)
class Feed:
    """The feed-forward part of a layer."""

    before: Norm
    up: Dense
    gated: bool
    """Is the first half of `up` a gate for the second?"""
    down: Dense


@dataclass(frozen=True, kw_only=True)
class T5EncoderLayer:
    """One layer of the encoder."""

    before: Norm
    packed: Dense
    out: Dense
    feed: Feed


@dataclass(frozen=True, kw_only=True)
class T5DecoderLayer:
    """One layer of the decoder."""

    before: Norm
    packed: Dense
    attends: CausalAttention
    out: Dense
    between: Norm
    query: Dense
    source_out: Dense
    feed: Feed


@dataclass(frozen=True, kw_only=True)
class T5:
    """The whole model."""

    table: Floats32
    heads: int
    act: str
    encoder: tuple[T5EncoderLayer, ...]
    encoder_last: Norm
    encoder_distances: Floats32
    """(heads, distances both ways)"""
    decoder: tuple[T5DecoderLayer, ...]
    decoder_last: Norm
    decoder_distances: Floats32
    """(heads, distances backwards)"""

    def encode(self, graph: GraphBuilder, ids: "ir.Value", mask: "ir.Value", layout: Layout) -> "ir.Value":
        """See `pairs.Encode`. Distances are counted in columns: padding may stand on either side, not in between."""
        x = looked_up(graph, "embedding.weight", self.table, flat(graph, ids))
        real = graph.add("Cast", mask, attributes={"to": INT32})
        bias = bias_both_ways(graph, self.encoder_distances, ids)
        for layer in self.encoder:
            packed = dense(graph, norm(graph, x, layer.before), layer.packed)
            width = layer.out.weight.shape[1]
            mixed = both_ways(graph, packed, layout, real, heads=self.heads, width=width, bias=bias, scale=SCALE)
            x = self._feed(graph, dense(graph, mixed, layer.out, plus=x), layer.feed)
        return norm(graph, x, self.encoder_last)

    def decode(
        self, graph: GraphBuilder, ids: "ir.Value", at: Attends, crosses: Crosses, wanted: "ir.Value"
    ) -> "tuple[ir.Value, list[Read]]":
        """See `pairs.Decode`."""
        assert at.positions is not None  # every decoder of a pair has them as an input
        x = looked_up(graph, "embedding.weight", self.table, flat(graph, ids))
        at = replace(at, bias=bias_backwards(graph, self.decoder_distances, at.positions, at.total))
        reads: list[Read] = []
        for number, layer in enumerate(self.decoder):
            read = attention(graph, dense(graph, norm(graph, x, layer.before), layer.packed), at, layer.attends)
            reads.append(read)
            x = dense(graph, read.mixed, layer.out, plus=x)
            mixed = cross_attention(graph, dense(graph, norm(graph, x, layer.between), layer.query), crosses, number)
            if layer is self.decoder[-1]:  # behind here, no row sees another
                x, mixed = graph.add("Gather", x, wanted), graph.add("Gather", mixed, wanted)
            x = self._feed(graph, dense(graph, mixed, layer.source_out, plus=x), layer.feed)
        return norm(graph, x, self.decoder_last), reads

    def _feed(self, graph: GraphBuilder, x: "ir.Value", part: Feed) -> "ir.Value":
        inner = dense(graph, norm(graph, x, part.before), part.up)
        if part.gated:
            gate, inner = graph.add_many("Split", inner, outputs=2, attributes={"axis": -1, "num_outputs": 2})
            inner = graph.add("Mul", activation(graph, gate, self.act), inner)
        else:
            inner = activation(graph, inner, self.act)
        return dense(graph, inner, part.down, plus=x)


def emit_t5(checkpoint: Checkpoint) -> "dict[GraphName, ir.Model]":
    """The graphs of an encoder-decoder of this shape.

    Raises:
        CannotEmit: a setting or weight that the graphs do not have.
    """
    config, weights = checkpoint.config, checkpoint.weights
    if checkpoint.card.kind != "encoder-decoder":
        raise CannotEmit(f"it is used as {checkpoint.card.kind}; as an encoder-decoder it is built")
    decoder = tuple(_decoder_layer(config, weights, number) for number in range(config.integer("num_decoder_layers")))
    last = _norm(config, weights, "decoder.final_layer_norm")
    if config.flag("scale_decoder_outputs"):
        last = replace(last, weight=last.weight * np.float32(config.integer("d_model") ** -0.5))
    longest = config.integer("relative_attention_max_distance", 128)
    distances = "block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    model = T5(
        table=weights.take("shared.weight"),
        heads=config.integer("num_heads"),
        act=check_activation(config.text("dense_act_fn")),
        encoder=tuple(_encoder_layer(config, weights, number) for number in range(config.integer("num_layers"))),
        encoder_last=_norm(config, weights, "encoder.final_layer_norm"),
        encoder_distances=by_distance(weights.take(f"encoder.{distances}"), longest=longest, both_ways=True),
        decoder=decoder,
        decoder_last=last,
        decoder_distances=by_distance(weights.take(f"decoder.{distances}"), longest=longest, both_ways=False),
    )
    head = projection(model.table, weights.take("lm_head.weight"))
    sources = tuple(
        (_dense(weights, f"{name}.k"), _dense(weights, f"{name}.v"))
        for name in (f"decoder.block.{number}.layer.1.EncDecAttention" for number in range(len(decoder)))
    )
    weights.skip("coder.embed_tokens.weight")  # the table, under two more names
    weights.check_all_taken()
    shape = PairShape(
        layers=len(decoder),
        heads=model.heads,
        width=config.integer("d_kv"),
        vocabulary=len(head.weight),
        projection=head,
        sources=sources,
        scale=SCALE,
    )
    return pair_graphs(shape, model.encode, model.decode, checkpoint.heads)


def _encoder_layer(config: Config, weights: Weights, number: int) -> T5EncoderLayer:
    name = f"encoder.block.{number}.layer"
    return T5EncoderLayer(
        before=_norm(config, weights, f"{name}.0.layer_norm"),
        packed=_packed(weights, f"{name}.0.SelfAttention"),
        out=_dense(weights, f"{name}.0.SelfAttention.o"),
        feed=_feed_forward(config, weights, f"{name}.1"),
    )


def _decoder_layer(config: Config, weights: Weights, number: int) -> T5DecoderLayer:
    name = f"decoder.block.{number}.layer"
    heads = config.integer("num_heads")
    return T5DecoderLayer(
        before=_norm(config, weights, f"{name}.0.layer_norm"),
        packed=_packed(weights, f"{name}.0.SelfAttention"),
        attends=CausalAttention(
            layer=number, heads=heads, cache_heads=heads, width=config.integer("d_kv"), scale=SCALE
        ),
        out=_dense(weights, f"{name}.0.SelfAttention.o"),
        between=_norm(config, weights, f"{name}.1.layer_norm"),
        query=_dense(weights, f"{name}.1.EncDecAttention.q"),
        source_out=_dense(weights, f"{name}.1.EncDecAttention.o"),
        feed=_feed_forward(config, weights, f"{name}.2"),
    )


def _feed_forward(config: Config, weights: Weights, name: str) -> Feed:
    part = f"{name}.DenseReluDense"
    gated = f"{part}.wi_0.weight" in weights
    up = (
        joined(f"{part}.wi", _dense(weights, f"{part}.wi_0"), _dense(weights, f"{part}.wi_1"))
        if gated
        else _dense(weights, f"{part}.wi")
    )
    return Feed(
        before=_norm(config, weights, f"{name}.layer_norm"), up=up, gated=gated, down=_dense(weights, f"{part}.wo")
    )


def _packed(weights: Weights, name: str) -> Dense:
    return joined(f"{name}.qkv", *(_dense(weights, f"{name}.{part}") for part in ("q", "k", "v")))


def _norm(config: Config, weights: Weights, name: str) -> Norm:
    return Norm(name=name, weight=weights.take(f"{name}.weight"), epsilon=config.number("layer_norm_epsilon"))


def _dense(weights: Weights, name: str) -> Dense:
    return Dense(name=name, weight=weights.take(f"{name}.weight"))
