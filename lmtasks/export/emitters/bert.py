"""BERT and what is built like it: layers that normalize behind each part, learned positions, attention to the whole
text.

    x = LayerNorm(embedding(ids) + position(positions) [+ segment(types)])
    x = LayerNorm(x + out(attention(x)))
    x = LayerNorm(x + down(gelu(up(x))))

RoBERTa, XLM-R and CamemBERT count positions from behind the padding id; MiniLM is a BERT; ELECTRA has narrow
embeddings; DistilBERT has no segments, and names of its own. ALBERT has narrow embeddings, and all layers of a group
are one, whose weights are stored once. MPNet has no segments, and distances as T5 has them beside its positions.

Devlin et al. 2019, arXiv:1810.04805; Liu et al. 2019, arXiv:1907.11692; Clark et al. 2020, arXiv:2003.10555; Sanh et
al. 2019, arXiv:1910.01108; Lan et al. 2020, arXiv:1909.11942; Song et al. 2020, arXiv:2004.09297.
"""

from lmtasks.export.checkpoint import CannotEmit, Checkpoint, Config, HeadWeights, Weights
from lmtasks.export.emitters.architecture import Architecture, Graphs, encoder_operators
from lmtasks.export.emitters.attention import Attention
from lmtasks.export.emitters.blocks import (
    Dense,
    EmbeddingTable,
    check_activation,
    dense_of,
    layer_norm_of,
    side_by_side,
)
from lmtasks.export.emitters.encoder import (
    Encoder,
    OwnHead,
    backbone_prefix,
    check_encoder,
    encoder_graphs,
    token_head,
)
from lmtasks.export.emitters.positions import by_distance
from lmtasks.export.emitters.transformer import Embeddings, FeedForward, Layer

PREFIXES = ("bert.", "roberta.", "electra.")
AFTER_PADDING = frozenset({"roberta", "xlm-roberta", "camembert"})
"""Families whose positions start behind the padding id."""
MPNET_PADDING, MPNET_LONGEST = 1, 128
"""The id of padding that positions are counted behind, and the distance from which on all share a bucket; the
configuration has no names for them."""
DISTILBERT_EPSILON = 1e-12
"""Epsilon of all normalizations; the configuration has no name for it."""


def _emit(checkpoint: Checkpoint) -> Graphs:
    check_encoder(checkpoint)
    config, weights = checkpoint.config, checkpoint.weights
    prefix = backbone_prefix(weights, "embeddings.word_embeddings.weight", PREFIXES)
    model = Encoder(
        embeddings=_embeddings(config, weights, f"{prefix}embeddings", f"{prefix}embeddings_project"),
        layers=tuple(
            _layer(config, weights, f"{prefix}encoder.layer.{number}")
            for number in range(config.integer("num_hidden_layers"))
        ),
    )
    return encoder_graphs(checkpoint, model, lambda head: _own(config, weights, head, prefix))


def _embeddings(config: Config, weights: Weights, name: str, narrow: str) -> Embeddings:
    """
    Args:
        narrow: the product that brings narrow embeddings to the width of the layers, where there is one.
    """
    positions = weights.take(f"{name}.position_embeddings.weight")
    types = weights.take(f"{name}.token_type_embeddings.weight")
    return Embeddings(
        tokens=EmbeddingTable(name="embedding.weight", rows=weights.take(f"{name}.word_embeddings.weight")),
        types=EmbeddingTable(name="type.weight", rows=types) if len(types) > 1 else None,
        positions=EmbeddingTable(name="position.weight", rows=positions if len(types) > 1 else positions + types),
        first=config.integer("pad_token_id") + 1 if config.text("model_type") in AFTER_PADDING else 0,
        norm=layer_norm_of(weights, f"{name}.LayerNorm", config.number("layer_norm_eps")),
        project=dense_of(weights, narrow) if f"{narrow}.weight" in weights else None,
    )


def _layer(config: Config, weights: Weights, name: str) -> Layer:
    attention = f"{name}.attention"
    parts = (dense_of(weights, f"{attention}.self.{part}") for part in ("query", "key", "value"))
    return _bert_layer(
        config,
        weights,
        name,
        packed=side_by_side(f"{attention}.self.qkv", *parts),
        out=dense_of(weights, f"{attention}.output.dense"),
        norm=f"{attention}.output.LayerNorm",
    )


def _bert_layer(config: Config, weights: Weights, name: str, *, packed: Dense, out: Dense, norm: str) -> Layer:
    """
    Args:
        packed, out: products of its attention.
        norm: the name of the normalization behind that.
    """
    heads, epsilon = config.integer("num_attention_heads"), config.number("layer_norm_eps")
    return Layer(
        attention=Attention(
            packed=packed, out=out, heads=heads, key_heads=heads, width=config.integer("hidden_size") // heads
        ),
        attention_norm=layer_norm_of(weights, norm, epsilon),
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


def _emit_albert(checkpoint: Checkpoint) -> Graphs:
    check_encoder(checkpoint)
    config, weights = checkpoint.config, checkpoint.weights
    prefix = backbone_prefix(weights, "embeddings.word_embeddings.weight", ("albert.",))
    if config.integer("inner_group_num", 1) != 1:
        raise CannotEmit("a group of its layers holds several; groups of one are built")
    layers, count = config.integer("num_hidden_layers"), config.integer("num_hidden_groups", 1)
    groups = [
        _albert_layer(config, weights, f"{prefix}encoder.albert_layer_groups.{group}.albert_layers.0")
        for group in range(count)
    ]
    model = Encoder(
        embeddings=_embeddings(config, weights, f"{prefix}embeddings", f"{prefix}encoder.embedding_hidden_mapping_in"),
        layers=tuple(groups[number * count // layers] for number in range(layers)),
    )
    weights.skip("pooler.weight", "pooler.bias")
    return encoder_graphs(checkpoint, model, lambda head: _albert_head(weights, head, prefix))


def _albert_layer(config: Config, weights: Weights, name: str) -> Layer:
    attention, heads = f"{name}.attention", config.integer("num_attention_heads")
    epsilon = config.number("layer_norm_eps")
    return Layer(
        attention=Attention(
            packed=side_by_side(
                f"{attention}.qkv", *(dense_of(weights, f"{attention}.{part}") for part in ("query", "key", "value"))
            ),
            out=dense_of(weights, f"{attention}.dense"),
            heads=heads,
            key_heads=heads,
            width=config.integer("hidden_size") // heads,
        ),
        attention_norm=layer_norm_of(weights, f"{attention}.LayerNorm", epsilon),
        feed=FeedForward(
            up=dense_of(weights, f"{name}.ffn"),
            down=dense_of(weights, f"{name}.ffn_output"),
            act=check_activation(config.text("hidden_act")),
        ),
        feed_norm=layer_norm_of(weights, f"{name}.full_layer_layer_norm", epsilon),
        norm_behind=True,
    )


def _albert_head(weights: Weights, head: HeadWeights, prefix: str) -> OwnHead:
    if not head.per_text:
        return token_head(weights)
    return OwnHead(steps=(dense_of(weights, f"{prefix}pooler"), dense_of(weights, "classifier")), act="tanh")


def _emit_mpnet(checkpoint: Checkpoint) -> Graphs:
    check_encoder(checkpoint)
    config, weights = checkpoint.config, checkpoint.weights
    prefix = backbone_prefix(weights, "embeddings.word_embeddings.weight", ("mpnet.",))
    name = f"{prefix}embeddings"
    model = Encoder(
        embeddings=Embeddings(
            tokens=EmbeddingTable(name="embedding.weight", rows=weights.take(f"{name}.word_embeddings.weight")),
            positions=EmbeddingTable(name="position.weight", rows=weights.take(f"{name}.position_embeddings.weight")),
            first=MPNET_PADDING + 1,
            norm=layer_norm_of(weights, f"{name}.LayerNorm", config.number("layer_norm_eps")),
        ),
        layers=tuple(
            _mpnet_layer(config, weights, f"{prefix}encoder.layer.{number}")
            for number in range(config.integer("num_hidden_layers"))
        ),
        distances=by_distance(
            weights.take(f"{prefix}encoder.relative_attention_bias.weight"), longest=MPNET_LONGEST, both_ways=True
        ),
    )
    return encoder_graphs(checkpoint, model, lambda head: _mpnet_head(weights, head))


def _mpnet_layer(config: Config, weights: Weights, name: str) -> Layer:
    attention = f"{name}.attention.attn"
    parts = (dense_of(weights, f"{attention}.{part}") for part in "qkv")
    return _bert_layer(
        config,
        weights,
        name,
        packed=side_by_side(f"{attention}.qkv", *parts),
        out=dense_of(weights, f"{attention}.o"),
        norm=f"{name}.attention.LayerNorm",
    )


def _mpnet_head(weights: Weights, head: HeadWeights) -> OwnHead:
    if not head.per_text:
        return token_head(weights)
    return OwnHead(steps=(dense_of(weights, "classifier.dense"), dense_of(weights, "classifier.out_proj")), act="tanh")


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
ALBERT = Architecture(
    name="albert",
    version=1,
    emit=_emit_albert,
    operators=lambda checkpoint: encoder_operators(checkpoint.config.integer("num_hidden_layers")),
)
MPNET = Architecture(
    name="mpnet",
    version=1,
    emit=_emit_mpnet,
    operators=lambda checkpoint: encoder_operators(checkpoint.config.integer("num_hidden_layers")),
)
