"""OPT: GPT-2 with other names, products kept (out, in), and learned positions behind two rows that nothing reads.

Zhang et al. 2022, arXiv:2205.01068.
"""

from lmtasks.export.checkpoint import CannotEmit, Checkpoint, Config, Weights
from lmtasks.export.emitters.architecture import Architecture, Graphs, decoder_operators
from lmtasks.export.emitters.attention import Attention
from lmtasks.export.emitters.blocks import (
    EmbeddingTable,
    check_activation,
    dense_of,
    layer_norm_of,
    projection,
    side_by_side,
)
from lmtasks.export.emitters.decoder import Decoder, check_causal, decoder_graphs
from lmtasks.export.emitters.transformer import Embeddings, FeedForward, Layer

BODY = "model.decoder"
FIRST_POSITION = 2
"""The row of a text's first token in the table of positions."""
EPSILON = 1e-5
"""Epsilon of every LayerNorm; no setting changes it."""


def _emit(checkpoint: Checkpoint) -> Graphs:
    check_causal(checkpoint)
    config, weights = checkpoint.config, checkpoint.weights
    if not config.flag("do_layer_norm_before", True):
        raise CannotEmit("it normalizes behind each part; what normalizes before them is built")
    table, positions = (weights.take(f"{BODY}.embed_{name}.weight") for name in ("tokens", "positions"))
    model = Decoder(
        embeddings=Embeddings(
            tokens=EmbeddingTable(name="embedding.weight", rows=table),
            positions=EmbeddingTable(name="position.weight", rows=positions[FIRST_POSITION:]),
        ),
        layers=tuple(_layer(config, weights, number) for number in range(config.integer("num_hidden_layers"))),
        last=layer_norm_of(weights, f"{BODY}.final_layer_norm", EPSILON),
        head=projection(table, weights.take("lm_head.weight")),
    )
    weights.check_all_taken()
    return decoder_graphs(model, checkpoint.heads)


def _layer(config: Config, weights: Weights, number: int) -> Layer:
    name, heads = f"{BODY}.layers.{number}", config.integer("num_attention_heads")
    return Layer(
        attention=Attention(
            packed=side_by_side(
                f"{name}.self_attn.qkv", *(dense_of(weights, f"{name}.self_attn.{part}_proj") for part in "qkv")
            ),
            out=dense_of(weights, f"{name}.self_attn.out_proj"),
            heads=heads,
            key_heads=heads,
            width=config.integer("hidden_size") // heads,
        ),
        attention_norm=layer_norm_of(weights, f"{name}.self_attn_layer_norm", EPSILON),
        feed=FeedForward(
            up=dense_of(weights, f"{name}.fc1"),
            down=dense_of(weights, f"{name}.fc2"),
            act=check_activation(config.text("activation_function")),
        ),
        feed_norm=layer_norm_of(weights, f"{name}.final_layer_norm", EPSILON),
    )


OPT = Architecture(
    name="opt",
    version=1,
    emit=_emit,
    operators=lambda checkpoint: decoder_operators(checkpoint.config.integer("num_hidden_layers")),
)
