"""DistilBERT: BERT without segments, under names of its own. Sanh et al. 2019, arXiv:1910.01108."""

from lmtasks.export.checkpoint import Checkpoint, Config, HeadWeights, Weights
from lmtasks.export.emitters.architecture import Architecture, Graphs, encoder_operators
from lmtasks.export.emitters.attention import Attention
from lmtasks.export.emitters.blocks import EmbeddingTable, check_activation, dense_of, layer_norm_of, side_by_side
from lmtasks.export.emitters.encoder import (
    Encoder,
    OwnHead,
    backbone_prefix,
    check_encoder,
    encoder_graphs,
    token_head,
)
from lmtasks.export.emitters.transformer import Embeddings, FeedForward, Layer

EPSILON = 1e-12
"""Epsilon of all normalizations; the configuration has no name for it."""


def _emit(checkpoint: Checkpoint) -> Graphs:
    check_encoder(checkpoint)
    config, weights = checkpoint.config, checkpoint.weights
    prefix = backbone_prefix(weights, "embeddings.word_embeddings.weight", ("distilbert.",))
    name = f"{prefix}embeddings"
    model = Encoder(
        embeddings=Embeddings(
            tokens=EmbeddingTable(name="embedding.weight", rows=weights.take(f"{name}.word_embeddings.weight")),
            positions=EmbeddingTable(name="position.weight", rows=weights.take(f"{name}.position_embeddings.weight")),
            norm=layer_norm_of(weights, f"{name}.LayerNorm", EPSILON),
        ),
        layers=tuple(
            _layer(config, weights, f"{prefix}transformer.layer.{number}")
            for number in range(config.integer("n_layers"))
        ),
    )
    return encoder_graphs(checkpoint, model, lambda head: _own(weights, head))


def _layer(config: Config, weights: Weights, name: str) -> Layer:
    attention, heads = f"{name}.attention", config.integer("n_heads")
    return Layer(
        attention=Attention(
            packed=side_by_side(
                f"{attention}.qkv", *(dense_of(weights, f"{attention}.{part}_lin") for part in ("q", "k", "v"))
            ),
            out=dense_of(weights, f"{attention}.out_lin"),
            heads=heads,
            key_heads=heads,
            width=config.integer("dim") // heads,
        ),
        attention_norm=layer_norm_of(weights, f"{name}.sa_layer_norm", EPSILON),
        feed=FeedForward(
            up=dense_of(weights, f"{name}.ffn.lin1"),
            down=dense_of(weights, f"{name}.ffn.lin2"),
            act=check_activation(config.text("activation")),
        ),
        feed_norm=layer_norm_of(weights, f"{name}.output_layer_norm", EPSILON),
        norm_behind=True,
    )


def _own(weights: Weights, head: HeadWeights) -> OwnHead:
    if not head.per_text:
        return token_head(weights)
    return OwnHead(steps=(dense_of(weights, "pre_classifier"), dense_of(weights, "classifier")), act="relu")


DISTILBERT = Architecture(
    name="distilbert",
    version=1,
    emit=_emit,
    operators=lambda checkpoint: encoder_operators(checkpoint.config.integer("n_layers")),
)
