"""Marian and BART: encoder and decoder layers that normalize behind each part.

    encoder   x = LayerNorm(x + out(attention(x))); x = LayerNorm(x + fc2(activation(fc1(x))))
    decoder   the same, and between the two: x = LayerNorm(x + out(attention(x, source)))

Marian (Junczys-Dowmunt et al. 2018, arXiv:1804.00344) has sinusoidal positions, BART (Lewis et al. 2019,
arXiv:1910.13461) learned ones whose table starts two rows early, and a normalization behind its embeddings.

mBART (Liu et al. 2020, arXiv:2001.08210), Pegasus (Zhang et al. 2020, arXiv:1912.08777) and M2M100 with NLLB (Fan et
al. 2020, arXiv:2010.11125) normalize before each part, and once more behind the layers. mBART is else as BART, Pegasus
as Marian; the sinusoids of M2M100 start behind the padding id, and stand in no checkpoint.
"""

import math
from dataclasses import replace

import numpy as np

from lmtasks.export.checkpoint import CannotEmit, Checkpoint, Config, Weights
from lmtasks.export.emitters.architecture import Architecture, Graphs, seq2seq_operators
from lmtasks.export.emitters.blocks import EmbeddingTable, Norm, dense_of, layer_norm_of, projection
from lmtasks.export.emitters.decoder import Decoder
from lmtasks.export.emitters.encoder import Encoder
from lmtasks.export.emitters.seq2seq import Seq2Seq, check_seq2seq, seq2seq_graphs
from lmtasks.export.emitters.transformer import CrossAttention, Embeddings, Layer, fairseq_layer
from lmtasks.records import Floats32

EPSILON = 1e-5
"""Epsilon of all normalizations: torch's own, the configuration has no name for it."""
EARLY_ROWS = {"bart": 2, "mbart": 2}
"""So many rows stand before position 0 in the table of positions."""
BEFORE = frozenset({"m2m_100", "mbart", "pegasus"})
"""By model_type, those that normalize before each part."""


def _emit(checkpoint: Checkpoint) -> Graphs:
    check_seq2seq(checkpoint)
    config, weights = checkpoint.config, checkpoint.weights
    writes = _embeddings(config, weights, "decoder", name="embedding")
    bias = weights.find("final_logits_bias")
    model = Seq2Seq(
        encoder=Encoder(
            embeddings=_embeddings(config, weights, "encoder", name="source"),
            layers=_layers(config, weights, "encoder"),
            last=_last(config, weights, "encoder"),
        ),
        decoder=Decoder(
            embeddings=writes,
            layers=_layers(config, weights, "decoder"),
            last=_last(config, weights, "decoder"),
            head=projection(
                writes.tokens.rows,
                weights.take("lm_head.weight"),
                bias.reshape(-1) if bias is not None and bias.any() else None,
            ),
        ),
    )
    weights.skip("model.shared.weight")  # the tables of encoder and decoder, under a third name
    weights.check_all_taken()
    return seq2seq_graphs(model, checkpoint.heads)


def _embeddings(config: Config, weights: Weights, side: str, *, name: str) -> Embeddings:
    family = config.text("model_type")
    tokens, width = weights.take(f"model.{side}.embed_tokens.weight"), config.integer("d_model")
    positions, early = weights.find(f"model.{side}.embed_positions.weight"), EARLY_ROWS.get(family, 0)
    if positions is None and family == "m2m_100":
        early = config.integer("pad_token_id") + 1
        positions = _sinusoids(config.integer("max_position_embeddings") + early, width)
    if positions is None:
        raise CannotEmit("it has no table of positions")
    normed = f"model.{side}.layernorm_embedding"
    return Embeddings(
        tokens=EmbeddingTable(name=f"{name}.weight", rows=tokens),
        scale=math.sqrt(width) if config.flag("scale_embedding") else 1.0,
        positions=EmbeddingTable(name=f"{name}.positions", rows=positions[early:]),
        norm=layer_norm_of(weights, normed, EPSILON) if f"{normed}.weight" in weights else None,
    )


def _sinusoids(count: int, width: int) -> Floats32:
    """Sines, then cosines, of places x frequency, (count, D), as tensor2tensor has them."""
    half = width // 2
    frequencies = np.exp(np.arange(half, dtype=np.float32) * np.float32(-math.log(10000) / (half - 1)))
    angles = np.arange(count, dtype=np.float32)[:, None] * frequencies
    found = np.concatenate([np.sin(angles), np.cos(angles), np.zeros((count, width % 2))], axis=1)
    return found.astype(np.float32)


def _last(config: Config, weights: Weights, side: str) -> Norm | None:
    """Behind the layers, where they normalize before their parts."""
    before = config.text("model_type") in BEFORE
    return layer_norm_of(weights, f"model.{side}.layer_norm", EPSILON) if before else None


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
    return replace(layer, norm_behind=config.text("model_type") not in BEFORE, cross=cross)


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
