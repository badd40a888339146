"""DistilBERT: BERT without segments, under names of its own. Sanh et al. 2019, arXiv:1910.01108."""

from typing import TYPE_CHECKING

from lmtasks.export.checkpoint import Checkpoint, HeadWeights, Weights
from lmtasks.export.emitters.blocks import check_activation, joined
from lmtasks.export.emitters.encoder import (
    Encoder,
    EncoderLayer,
    OwnHead,
    check_encoder,
    dense_of,
    encoder_graphs,
    norm_of,
    prefix_of,
)
from lmtasks.export.package import GraphName

if TYPE_CHECKING:
    import onnx_ir as ir

EPSILON = 1e-12
"""Of all normalizations; the configuration has no name for it."""


def emit_distilbert(checkpoint: Checkpoint) -> "dict[GraphName, ir.Model]":
    """The graph of an encoder of this shape.

    Raises:
        CannotEmit: a setting or weight that the graph does not have.
    """
    check_encoder(checkpoint)
    config, weights = checkpoint.config, checkpoint.weights
    prefix = prefix_of(weights, "embeddings.word_embeddings.weight", ("distilbert.",))
    model = Encoder(
        table=weights.take(f"{prefix}embeddings.word_embeddings.weight"),
        positions=weights.take(f"{prefix}embeddings.position_embeddings.weight"),
        first=0,
        types=None,
        start=norm_of(weights, f"{prefix}embeddings.LayerNorm", EPSILON),
        project=None,
        layers=tuple(
            _layer(weights, f"{prefix}transformer.layer.{number}") for number in range(config.integer("n_layers"))
        ),
        heads=config.integer("n_heads"),
        act=check_activation(config.text("activation")),
    )
    return encoder_graphs(checkpoint, model.body, lambda head: _own(weights, head))


def _layer(weights: Weights, name: str) -> EncoderLayer:
    attention = f"{name}.attention"
    return EncoderLayer(
        packed=joined(f"{attention}.qkv", *(dense_of(weights, f"{attention}.{part}_lin") for part in ("q", "k", "v"))),
        out=dense_of(weights, f"{attention}.out_lin"),
        between=norm_of(weights, f"{name}.sa_layer_norm", EPSILON),
        up=dense_of(weights, f"{name}.ffn.lin1"),
        down=dense_of(weights, f"{name}.ffn.lin2"),
        after=norm_of(weights, f"{name}.output_layer_norm", EPSILON),
    )


def _own(weights: Weights, head: HeadWeights) -> OwnHead:
    if head.spec.kind == "classification":
        return OwnHead(steps=(dense_of(weights, "pre_classifier"), dense_of(weights, "classifier")), act="relu")
    name = "qa_outputs" if head.spec.kind == "span" else "classifier"
    return OwnHead(steps=(dense_of(weights, name),), act="")
