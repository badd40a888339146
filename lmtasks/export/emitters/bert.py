"""BERT and what is named like it: RoBERTa, XLM-R and CamemBERT (positions from behind the padding id), MiniLM (BERT),
ELECTRA (narrow embeddings).

Devlin et al. 2019, arXiv:1810.04805; Liu et al. 2019, arXiv:1907.11692; Clark et al. 2020, arXiv:2003.10555.
"""

from typing import TYPE_CHECKING

from lmtasks.export.checkpoint import Checkpoint, Config, HeadWeights, Weights
from lmtasks.export.emitters.blocks import check_activation, joined
from lmtasks.export.emitters.encoder import (
    Encoder,
    EncoderLayer,
    OwnHead,
    check_encoder,
    dense_of,
    encoder_graphs,
    first_position,
    norm_of,
    prefix_of,
)
from lmtasks.export.package import GraphName

if TYPE_CHECKING:
    import onnx_ir as ir

PREFIXES = ("bert.", "roberta.", "electra.")
AFTER_PADDING = frozenset({"roberta", "xlm-roberta", "camembert"})
"""Families whose positions start behind the padding id."""


def emit_bert(checkpoint: Checkpoint) -> "dict[GraphName, ir.Model]":
    """The graph of an encoder of this shape.

    Raises:
        CannotEmit: a setting or weight that the graph does not have.
    """
    check_encoder(checkpoint)
    config, weights = checkpoint.config, checkpoint.weights
    prefix = prefix_of(weights, "embeddings.word_embeddings.weight", PREFIXES)
    positions = weights.take(f"{prefix}embeddings.position_embeddings.weight")
    types = weights.take(f"{prefix}embeddings.token_type_embeddings.weight")
    epsilon = config.number("layer_norm_eps")
    narrow = f"{prefix}embeddings_project"
    model = Encoder(
        table=weights.take(f"{prefix}embeddings.word_embeddings.weight"),
        positions=positions if len(types) > 1 else positions + types,
        first=first_position(config, after_padding=config.text("model_type") in AFTER_PADDING),
        types=types if len(types) > 1 else None,
        start=norm_of(weights, f"{prefix}embeddings.LayerNorm", epsilon),
        project=dense_of(weights, narrow) if f"{narrow}.weight" in weights else None,
        layers=tuple(
            _layer(weights, f"{prefix}encoder.layer.{number}", epsilon)
            for number in range(config.integer("num_hidden_layers"))
        ),
        heads=config.integer("num_attention_heads"),
        act=check_activation(config.text("hidden_act")),
    )
    return encoder_graphs(checkpoint, model.body, lambda head: _own(config, weights, head, prefix))


def _layer(weights: Weights, name: str, epsilon: float) -> EncoderLayer:
    attention = f"{name}.attention"
    return EncoderLayer(
        packed=joined(
            f"{attention}.self.qkv",
            *(dense_of(weights, f"{attention}.self.{part}") for part in ("query", "key", "value")),
        ),
        out=dense_of(weights, f"{attention}.output.dense"),
        between=norm_of(weights, f"{attention}.output.LayerNorm", epsilon),
        up=dense_of(weights, f"{name}.intermediate.dense"),
        down=dense_of(weights, f"{name}.output.dense"),
        after=norm_of(weights, f"{name}.output.LayerNorm", epsilon),
    )


def _own(config: Config, weights: Weights, head: HeadWeights, prefix: str) -> OwnHead:
    """BERT pools with the backbone's pooler, the others with a product of the head's own."""
    if head.spec.kind == "span":
        return OwnHead(steps=(dense_of(weights, "qa_outputs"),), act="")
    if head.spec.kind == "tagging":
        return OwnHead(steps=(dense_of(weights, "classifier"),), act="")
    if "classifier.out_proj.weight" in weights:
        act = "gelu" if config.text("model_type") == "electra" else "tanh"
        return OwnHead(steps=(dense_of(weights, "classifier.dense"), dense_of(weights, "classifier.out_proj")), act=act)
    steps = (dense_of(weights, f"{prefix}pooler.dense"), dense_of(weights, "classifier"))
    return OwnHead(steps=steps, act="tanh")
