"""T5 and its relatives (v1.1, Flan, mT5): RMSNorm before each part, relative positions, products that are not scaled.

    encoder   x = x + out(attention(norm(x)) + distances); x = x + wo(activation(wi(norm(x))))
    decoder   the same, and between the two: x = x + out(attention(norm(x), source))

Raffel et al. 2020, arXiv:1910.10683; gated feed-forward layers: Shazeer 2020, arXiv:2002.05202. Where the checkpoint
scales what it projects by 1 / sqrt(D), the last normalization's weights hold that factor.
"""

from dataclasses import replace

import numpy as np

from lmtasks.export.checkpoint import Checkpoint, Config, Weights
from lmtasks.export.emitters.architecture import Architecture, Graphs, seq2seq_operators
from lmtasks.export.emitters.attention import Attention
from lmtasks.export.emitters.blocks import (
    EmbeddingTable,
    Norm,
    check_activation,
    dense_of,
    projection,
    rms_norm_of,
    side_by_side,
)
from lmtasks.export.emitters.decoder import Decoder
from lmtasks.export.emitters.encoder import Encoder
from lmtasks.export.emitters.positions import by_distance
from lmtasks.export.emitters.seq2seq import Seq2Seq, check_seq2seq, seq2seq_graphs
from lmtasks.export.emitters.transformer import CrossAttention, Embeddings, FeedForward, Layer
from lmtasks.export.package import Operators
from lmtasks.records import Floats32

SCALE = 1.0
"""Factor of the products of queries and keys."""


def _emit(checkpoint: Checkpoint) -> Graphs:
    check_seq2seq(checkpoint)
    config, weights = checkpoint.config, checkpoint.weights
    table = weights.take("shared.weight")
    embeddings = Embeddings(tokens=EmbeddingTable(name="embedding.weight", rows=table))
    last = _norm(config, weights, "decoder.final_layer_norm")
    if config.flag("scale_decoder_outputs"):
        last = replace(last, weight=last.weight * np.float32(config.integer("d_model") ** -0.5))
    model = Seq2Seq(
        encoder=Encoder(
            embeddings=embeddings,
            layers=_layers(config, weights, "encoder", config.integer("num_layers")),
            last=_norm(config, weights, "encoder.final_layer_norm"),
            distances=_distances(config, weights, "encoder"),
        ),
        decoder=Decoder(
            embeddings=embeddings,
            layers=_layers(config, weights, "decoder", config.integer("num_decoder_layers")),
            last=last,
            head=projection(table, weights.take("lm_head.weight")),
            distances=_distances(config, weights, "decoder"),
        ),
    )
    weights.skip("coder.embed_tokens.weight")  # the table, under two more names
    weights.check_all_taken()
    return seq2seq_graphs(model, checkpoint.heads)


def _distances(config: Config, weights: Weights, side: str) -> Floats32:
    table = weights.take(f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight")
    longest = config.integer("relative_attention_max_distance", 128)
    return by_distance(table, longest=longest, both_ways=side == "encoder")


def _layers(config: Config, weights: Weights, side: str, count: int) -> tuple[Layer, ...]:
    return tuple(_layer(config, weights, f"{side}.block.{number}.layer", side) for number in range(count))


def _layer(config: Config, weights: Weights, name: str, side: str) -> Layer:
    heads, own = config.integer("num_heads"), f"{name}.0.SelfAttention"
    crosses = side == "decoder"
    feed = f"{name}.{2 if crosses else 1}"
    return Layer(
        attention=Attention(
            packed=side_by_side(f"{own}.qkv", *(dense_of(weights, f"{own}.{part}") for part in "qkv")),
            out=dense_of(weights, f"{own}.o"),
            heads=heads,
            key_heads=heads,
            width=config.integer("d_kv"),
            scale=SCALE,
        ),
        attention_norm=_norm(config, weights, f"{name}.0.layer_norm"),
        feed=_feed_forward(config, weights, f"{feed}.DenseReluDense"),
        feed_norm=_norm(config, weights, f"{feed}.layer_norm"),
        cross=_cross(config, weights, f"{name}.1") if crosses else None,
    )


def _cross(config: Config, weights: Weights, name: str) -> CrossAttention:
    query, key, value, out = (dense_of(weights, f"{name}.EncDecAttention.{part}") for part in "qkvo")
    return CrossAttention(query=query, key=key, value=value, out=out, norm=_norm(config, weights, f"{name}.layer_norm"))


def _feed_forward(config: Config, weights: Weights, name: str) -> FeedForward:
    gated = f"{name}.wi_0.weight" in weights
    parts = [dense_of(weights, f"{name}.{part}") for part in (("wi_0", "wi_1") if gated else ("wi",))]
    return FeedForward(
        up=side_by_side(f"{name}.wi", *parts),
        down=dense_of(weights, f"{name}.wo"),
        act=check_activation(config.text("dense_act_fn")),
        gated=gated,
    )


def _norm(config: Config, weights: Weights, name: str) -> Norm:
    return rms_norm_of(weights, name, config.number("layer_norm_epsilon"))


def _operators(checkpoint: Checkpoint) -> Operators:
    layers = checkpoint.config.integer("num_layers")
    return seq2seq_operators(layers, checkpoint.config.integer("num_decoder_layers", layers))


T5 = Architecture(name="t5", version=1, emit=_emit, operators=_operators)
