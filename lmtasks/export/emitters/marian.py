"""Marian and BART: encoder and decoder layers that normalize behind each part.

    encoder   x = LayerNorm(x + out(attention(x))); x = LayerNorm(x + fc2(activation(fc1(x))))
    decoder   the same, and between the two: x = LayerNorm(x + out(attention(x, source)))

Marian (Junczys-Dowmunt et al. 2018, arXiv:1804.00344) has sinusoidal positions, BART (Lewis et al. 2019,
arXiv:1910.13461) learned ones whose table starts two rows early, and a normalization behind its embeddings.
"""

import math
from dataclasses import replace

from lmtasks.export.checkpoint import Checkpoint, Config, Weights
from lmtasks.export.emitters.architecture import Architecture, Graphs, seq2seq_operators
from lmtasks.export.emitters.blocks import (
    EmbeddingTable,
    dense_of,
    layer_norm_of,
    projection,
)
from lmtasks.export.emitters.decoder import Decoder
from lmtasks.export.emitters.encoder import Encoder
from lmtasks.export.emitters.seq2seq import Seq2Seq, check_seq2seq, seq2seq_graphs
from lmtasks.export.emitters.transformer import CrossAttention, Embeddings, Layer, fairseq_layer

EPSILON = 1e-5
"""Epsilon of all normalizations: torch's own, the configuration has no name for it."""
EARLY_ROWS = {"bart": 2}
"""So many rows stand before position 0 in the table of positions."""


def _emit(checkpoint: Checkpoint) -> Graphs:
    check_seq2seq(checkpoint)
    config, weights = checkpoint.config, checkpoint.weights
    writes = _embeddings(config, weights, "decoder", name="embedding")
    bias = weights.take("final_logits_bias").reshape(-1)
    model = Seq2Seq(
        encoder=Encoder(
            embeddings=_embeddings(config, weights, "encoder", name="source"),
            layers=_layers(config, weights, "encoder"),
        ),
        decoder=Decoder(
            embeddings=writes,
            layers=_layers(config, weights, "decoder"),
            last=None,
            head=projection(writes.tokens.rows, weights.take("lm_head.weight"), bias if bias.any() else None),
        ),
    )
    weights.skip("model.shared.weight")  # the tables of encoder and decoder, under a third name
    weights.check_all_taken()
    return seq2seq_graphs(model, checkpoint.heads)


def _embeddings(config: Config, weights: Weights, side: str, *, name: str) -> Embeddings:
    tokens, positions = (weights.take(f"model.{side}.embed_{part}.weight") for part in ("tokens", "positions"))
    normed = f"model.{side}.layernorm_embedding"
    return Embeddings(
        tokens=EmbeddingTable(name=f"{name}.weight", rows=tokens),
        scale=math.sqrt(config.integer("d_model")) if config.flag("scale_embedding") else 1.0,
        positions=EmbeddingTable(
            name=f"{name}.positions", rows=positions[EARLY_ROWS.get(config.text("model_type"), 0) :]
        ),
        norm=layer_norm_of(weights, normed, EPSILON) if f"{normed}.weight" in weights else None,
    )


def _layers(config: Config, weights: Weights, side: str) -> tuple[Layer, ...]:
    names = (f"model.{side}.layers.{number}" for number in range(config.integer(f"{side}_layers")))
    return tuple(_layer(config, weights, name, side) for name in names)


def _layer(config: Config, weights: Weights, name: str, side: str) -> Layer:
    layer = fairseq_layer(
        weights,
        name,
        heads=config.integer(f"{side}_attention_heads"),
        width=config.integer("d_model"),
        act=config.text("activation_function"),
        epsilon=EPSILON,
    )
    cross = _cross(weights, f"{name}.encoder_attn") if side == "decoder" else None
    return replace(layer, norm_behind=True, cross=cross)


def _cross(weights: Weights, name: str) -> CrossAttention:
    return CrossAttention(
        query=dense_of(weights, f"{name}.q_proj"),
        key=dense_of(weights, f"{name}.k_proj"),
        value=dense_of(weights, f"{name}.v_proj"),
        out=dense_of(weights, f"{name}.out_proj"),
        norm=layer_norm_of(weights, f"{name}_layer_norm", EPSILON),
    )


MARIAN = Architecture(
    name="marian",
    version=1,
    emit=_emit,
    operators=lambda checkpoint: seq2seq_operators(
        checkpoint.config.integer("encoder_layers"), checkpoint.config.integer("decoder_layers")
    ),
)
