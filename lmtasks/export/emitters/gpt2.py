"""GPT-2: learned positions, LayerNorm before each part, biases everywhere, the embedding's table as head.

    x = embedding(ids) + position(positions)
    x = x + out(attention(LayerNorm(x)))
    x = x + down(gelu(up(LayerNorm(x))))
    logits = head(LayerNorm(x))

Radford et al. 2019. Its products are kept (in, out) on disk, and turned here, so that one form serves all.
"""

import math

import numpy as np

from lmtasks.export.checkpoint import CannotEmit, Checkpoint, Config, Weights
from lmtasks.export.emitters.architecture import Architecture, Graphs, decoder_operators
from lmtasks.export.emitters.attention import Attention
from lmtasks.export.emitters.blocks import Dense, EmbeddingTable, check_activation, layer_norm_of, projection
from lmtasks.export.emitters.decoder import Decoder, check_causal, decoder_graphs
from lmtasks.export.emitters.transformer import Embeddings, FeedForward, Layer


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


GPT2 = Architecture(
    name="gpt2",
    version=1,
    emit=_emit,
    operators=lambda checkpoint: decoder_operators(checkpoint.config.integer("n_layer")),
)
