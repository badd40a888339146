"""BERT and what is built like it: layers that normalize behind each part, learned positions, attention to the whole
text.

    x = LayerNorm(embedding(ids) + position(positions) [+ segment(types)])
    x = LayerNorm(x + out(attention(x)))
    x = LayerNorm(x + down(gelu(up(x))))

RoBERTa, XLM-R and CamemBERT count positions from behind the padding id; MiniLM is a BERT; ELECTRA has narrow
embeddings; DistilBERT has no segments, and names of its own.

Devlin et al. 2019, arXiv:1810.04805; Liu et al. 2019, arXiv:1907.11692; Clark et al. 2020, arXiv:2003.10555; Sanh et
al. 2019, arXiv:1910.01108.
"""

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

PREFIXES = ("bert.", "roberta.", "electra.")
AFTER_PADDING = frozenset({"roberta", "xlm-roberta", "camembert"})
"""Families whose positions start behind the padding id."""
DISTILBERT_EPSILON = 1e-12
"""Epsilon of all normalizations; the configuration has no name for it."""


def _emit(checkpoint: Checkpoint) -> Graphs:
    check_encoder(checkpoint)
    config, weights = checkpoint.config, checkpoint.weights
    prefix = backbone_prefix(weights, "embeddings.word_embeddings.weight", PREFIXES)
    model = Encoder(
        embeddings=_embeddings(config, weights, f"{prefix}embeddings"),
        layers=tuple(
            _layer(config, weights, f"{prefix}encoder.layer.{number}")
            for number in range(config.integer("num_hidden_layers"))
        ),
    )
    return encoder_graphs(checkpoint, model, lambda head: _own(config, weights, head, prefix))


def _embeddings(config: Config, weights: Weights, name: str) -> Embeddings:
    positions = weights.take(f"{name}.position_embeddings.weight")
    types = weights.take(f"{name}.token_type_embeddings.weight")
    narrow = f"{name}_project"
    return Embeddings(
        tokens=EmbeddingTable(name="embedding.weight", rows=weights.take(f"{name}.word_embeddings.weight")),
        types=EmbeddingTable(name="type.weight", rows=types) if len(types) > 1 else None,
        positions=EmbeddingTable(name="position.weight", rows=positions if len(types) > 1 else positions + types),
        first=config.integer("pad_token_id") + 1 if config.text("model_type") in AFTER_PADDING else 0,
        norm=layer_norm_of(weights, f"{name}.LayerNorm", config.number("layer_norm_eps")),
        project=dense_of(weights, narrow) if f"{narrow}.weight" in weights else None,
    )


def _layer(config: Config, weights: Weights, name: str) -> Layer:
    attention, heads = f"{name}.attention", config.integer("num_attention_heads")
    epsilon = config.number("layer_norm_eps")
    return Layer(
        attention=Attention(
            packed=side_by_side(
                f"{attention}.self.qkv",
                *(dense_of(weights, f"{attention}.self.{part}") for part in ("query", "key", "value")),
            ),
            out=dense_of(weights, f"{attention}.output.dense"),
            heads=heads,
            key_heads=heads,
            width=config.integer("hidden_size") // heads,
        ),
        attention_norm=layer_norm_of(weights, f"{attention}.output.LayerNorm", epsilon),
        feed=FeedForward(
            up=dense_of(weights, f"{name}.intermediate.dense"),
            down=dense_of(weights, f"{name}.output.dense"),
            act=check_activation(config.text("hidden_act")),
        ),
        feed_norm=layer_norm_of(weights, f"{name}.output.LayerNorm", epsilon),
        norm_behind=True,
    )


def _own(config: Config, weights: Weights, head: HeadWeights, prefix: str) -> OwnHead:
    """BERT pools with the backbone's pooler, the others with a product of the head's own."""
    if not head.per_text:
        return token_head(weights)
    if "classifier.out_proj.weight" in weights:
        act = "gelu" if config.text("model_type") == "electra" else "tanh"
        return OwnHead(steps=(dense_of(weights, "classifier.dense"), dense_of(weights, "classifier.out_proj")), act=act)
    steps = (dense_of(weights, f"{prefix}pooler.dense"), dense_of(weights, "classifier"))
    return OwnHead(steps=steps, act="tanh")


def _emit_distilbert(checkpoint: Checkpoint) -> Graphs:
    check_encoder(checkpoint)
    config, weights = checkpoint.config, checkpoint.weights
    prefix = backbone_prefix(weights, "embeddings.word_embeddings.weight", ("distilbert.",))
    name = f"{prefix}embeddings"
    model = Encoder(
        embeddings=Embeddings(
            tokens=EmbeddingTable(name="embedding.weight", rows=weights.take(f"{name}.word_embeddings.weight")),
            positions=EmbeddingTable(name="position.weight", rows=weights.take(f"{name}.position_embeddings.weight")),
            norm=layer_norm_of(weights, f"{name}.LayerNorm", DISTILBERT_EPSILON),
        ),
        layers=tuple(
            _distilbert_layer(config, weights, f"{prefix}transformer.layer.{number}")
            for number in range(config.integer("n_layers"))
        ),
    )
    return encoder_graphs(checkpoint, model, lambda head: _distilbert_head(weights, head))


def _distilbert_layer(config: Config, weights: Weights, name: str) -> Layer:
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
        attention_norm=layer_norm_of(weights, f"{name}.sa_layer_norm", DISTILBERT_EPSILON),
        feed=FeedForward(
            up=dense_of(weights, f"{name}.ffn.lin1"),
            down=dense_of(weights, f"{name}.ffn.lin2"),
            act=check_activation(config.text("activation")),
        ),
        feed_norm=layer_norm_of(weights, f"{name}.output_layer_norm", DISTILBERT_EPSILON),
        norm_behind=True,
    )


def _distilbert_head(weights: Weights, head: HeadWeights) -> OwnHead:
    if not head.per_text:
        return token_head(weights)
    return OwnHead(steps=(dense_of(weights, "pre_classifier"), dense_of(weights, "classifier")), act="relu")


BERT = Architecture(
    name="bert",
    version=1,
    emit=_emit,
    operators=lambda checkpoint: encoder_operators(checkpoint.config.integer("num_hidden_layers")),
)
DISTILBERT = Architecture(
    name="distilbert",
    version=1,
    emit=_emit_distilbert,
    operators=lambda checkpoint: encoder_operators(checkpoint.config.integer("n_layers")),
)
