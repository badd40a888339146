"""GPT-2 and OPT: learned positions, LayerNorm before each part, biases everywhere, the embedding's table as head.

    x = embedding(ids) + position(positions)
    x = x + out(attention(LayerNorm(x)))
    x = x + down(gelu(up(LayerNorm(x))))
    logits = head(LayerNorm(x))

Radford et al. 2019; Zhang et al. 2022, arXiv:2205.01068. GPT-2's products are kept (in, out) on disk, and turned here,
so that one form serves all. OPT keeps them (out, in), and has two rows before its positions that nothing reads.
"""

import math

import numpy as np

from lmtasks.export.checkpoint import CannotEmit, Checkpoint, Config, Weights
from lmtasks.export.emitters.architecture import Architecture, Graphs, decoder_operators
from lmtasks.export.emitters.attention import Attention
from lmtasks.export.emitters.blocks import (
    Dense,
    EmbeddingTable,
    check_activation,
    layer_norm_of,
    projection,
)
from lmtasks.export.emitters.decoder import Decoder, check_causal, decoder_graphs
from lmtasks.export.emitters.transformer import Embeddings, FeedForward, Layer, fairseq_layer

OPT_BODY = "model.decoder"
OPT_FIRST_POSITION = 2
"""The row of a text's first token in the table of positions."""
OPT_EPSILON = 1e-5
"""Epsilon of every LayerNorm; no setting changes it."""


def _emit(checkpoint: Checkpoint) -> Graphs:
    check_causal(checkpoint)
    config, weights = checkpoint.config, checkpoint.weights
    if config.flag("add_cross_attention"):
        raise CannotEmit("it attends to a second text")
    table = weights.take("transformer.wte.weight")
    model = Decoder(
        embeddings=Embeddings(
            tokens=EmbeddingTable(name="embedding.weight", rows=table),
            positions=EmbeddingTable(name="position.weight", rows=weights.take("transformer.wpe.weight")),
        ),
        layers=tuple(_layer(config, weights, number) for number in range(config.integer("n_layer"))),
        last=layer_norm_of(weights, "transformer.ln_f", config.number("layer_norm_epsilon")),
        head=projection(table, weights.take("lm_head.weight")),
    )
    weights.check_all_taken()
    return decoder_graphs(model, checkpoint.heads)


def _layer(config: Config, weights: Weights, number: int) -> Layer:
    name, heads, epsilon = f"transformer.h.{number}", config.integer("n_head"), config.number("layer_norm_epsilon")
    width = config.integer("n_embd") // heads
    scale = 1 / math.sqrt(width) if config.flag("scale_attn_weights", True) else 1.0
    if config.flag("scale_attn_by_inverse_layer_idx"):
        scale /= number + 1
    return Layer(
        attention=Attention(
            packed=_turned(weights, f"{name}.attn.c_attn"),
            out=_turned(weights, f"{name}.attn.c_proj"),
            heads=heads,
            key_heads=heads,
            width=width,
            scale=scale,
        ),
        attention_norm=layer_norm_of(weights, f"{name}.ln_1", epsilon),
        feed=FeedForward(
            up=_turned(weights, f"{name}.mlp.c_fc"),
            down=_turned(weights, f"{name}.mlp.c_proj"),
            act=check_activation(config.text("activation_function")),
        ),
        feed_norm=layer_norm_of(weights, f"{name}.ln_2", epsilon),
    )


def _turned(weights: Weights, name: str) -> Dense:
    turned = np.ascontiguousarray(weights.take(f"{name}.weight").T)
    return Dense(name=name, weight=turned, bias=weights.take(f"{name}.bias"))


def _emit_opt(checkpoint: Checkpoint) -> Graphs:
    check_causal(checkpoint)
    config, weights = checkpoint.config, checkpoint.weights
    if not config.flag("do_layer_norm_before", True):
        raise CannotEmit("it normalizes behind each part; what normalizes before them is built")
    table, positions = (weights.take(f"{OPT_BODY}.embed_{name}.weight") for name in ("tokens", "positions"))
    model = Decoder(
        embeddings=Embeddings(
            tokens=EmbeddingTable(name="embedding.weight", rows=table),
            positions=EmbeddingTable(name="position.weight", rows=positions[OPT_FIRST_POSITION:]),
        ),
        layers=tuple(_opt_layer(config, weights, number) for number in range(config.integer("num_hidden_layers"))),
        last=layer_norm_of(weights, f"{OPT_BODY}.final_layer_norm", OPT_EPSILON),
        head=projection(table, weights.take("lm_head.weight")),
    )
    weights.check_all_taken()
    return decoder_graphs(model, checkpoint.heads)


def _opt_layer(config: Config, weights: Weights, number: int) -> Layer:
    return fairseq_layer(
        weights,
        f"{OPT_BODY}.layers.{number}",
        heads=config.integer("num_attention_heads"),
        width=config.integer("hidden_size"),
        act=config.text("activation_function"),
        epsilon=OPT_EPSILON,
    )


GPT2 = Architecture(
    name="gpt2",
    version=1,
    emit=_emit,
    operators=lambda checkpoint: decoder_operators(checkpoint.config.integer("n_layer")),
)
OPT = Architecture(
    name="opt",
    version=1,
    emit=_emit_opt,
    operators=lambda checkpoint: decoder_operators(checkpoint.config.integer("num_hidden_layers")),
)
