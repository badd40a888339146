"""ModernBERT: rotary positions, local attention in most layers, a gate in each feed-forward part, few biases.

    x = LayerNorm(embedding(ids))
    x = x + Wo attention(LayerNorm(x))                   the first layer reads x as it is
    x = x + Wo (gelu(gate(LayerNorm(x))) * up(...))
    hidden = LayerNorm(x)

Warner et al. 2024, arXiv:2412.13663. Layers of `full_attention` see the whole text, those of `sliding_attention` half
of `local_attention` to each side; both kinds rotate, with a base of their own.
"""

from collections.abc import Mapping

from lmtasks.export.checkpoint import CannotEmit, Checkpoint, Config, HeadWeights, Weights
from lmtasks.export.emitters.architecture import Architecture, Graphs, encoder_operators
from lmtasks.export.emitters.attention import Attention
from lmtasks.export.emitters.blocks import EmbeddingTable, check_activation, dense_of, layer_norm_of
from lmtasks.export.emitters.encoder import Encoder, OwnHead, backbone_prefix, check_encoder, encoder_graphs
from lmtasks.export.emitters.positions import Rotary, rotary_tables
from lmtasks.export.emitters.transformer import Embeddings, FeedForward, Layer
from lmtasks.export.package import Operators

WHOLE_TEXT, NEAR = "full_attention", "sliding_attention"
"""Kinds of layers."""
POOLING: Mapping[str, str] = {"cls": "first", "mean": "mean"}


def _emit(checkpoint: Checkpoint) -> Graphs:
    check_encoder(checkpoint)
    config, weights = checkpoint.config, checkpoint.weights
    prefix = backbone_prefix(weights, "embeddings.tok_embeddings.weight", ("model.",))
    epsilon = config.number("norm_eps")
    rotary = {kind: _rotary(config, kind, positions=checkpoint.card.max_length_tokens) for kind in (WHOLE_TEXT, NEAR)}
    model = Encoder(
        embeddings=Embeddings(
            tokens=EmbeddingTable(
                name="embedding.weight", rows=weights.take(f"{prefix}embeddings.tok_embeddings.weight")
            ),
            norm=layer_norm_of(weights, f"{prefix}embeddings.norm", epsilon),
        ),
        layers=tuple(
            _layer(config, weights, f"{prefix}layers.{number}", str(kind), rotary=rotary)
            for number, kind in enumerate(config.items("layer_types"))
        ),
        last=layer_norm_of(weights, f"{prefix}final_norm", epsilon),
    )
    return encoder_graphs(checkpoint, model, lambda head: _own(config, weights, head))


def _rotary(config: Config, kind: str, *, positions: int) -> Rotary:
    cosines, sines = rotary_tables(
        config,
        width=config.integer("hidden_size") // config.integer("num_attention_heads"),
        positions=positions,
        settings=config.part("rope_parameters").part(kind),
    )
    return Rotary(name=f"rotary.{kind}", cosines=cosines, sines=sines)


def _layer(config: Config, weights: Weights, name: str, kind: str, *, rotary: Mapping[str, Rotary]) -> Layer:
    if kind not in rotary:
        raise CannotEmit(f"it has a layer of {kind!r}; {' and '.join(rotary)} are built")
    heads, epsilon = config.integer("num_attention_heads"), config.number("norm_eps")
    normed = f"{name}.attn_norm.weight" in weights
    return Layer(
        attention=Attention(
            packed=dense_of(weights, f"{name}.attn.Wqkv"),
            out=dense_of(weights, f"{name}.attn.Wo"),
            heads=heads,
            key_heads=heads,
            width=config.integer("hidden_size") // heads,
            rotary=rotary[kind],
            window=config.integer("local_attention") // 2 + 1 if kind == NEAR else None,
        ),
        attention_norm=layer_norm_of(weights, f"{name}.attn_norm", epsilon) if normed else None,
        feed=FeedForward(
            up=dense_of(weights, f"{name}.mlp.Wi"),
            down=dense_of(weights, f"{name}.mlp.Wo"),
            act=check_activation(config.text("hidden_activation")),
            gated=True,
        ),
        feed_norm=layer_norm_of(weights, f"{name}.mlp_norm", epsilon),
    )


def _own(config: Config, weights: Weights, head: HeadWeights) -> OwnHead:
    """Every head has a product and a normalization before its last product."""
    del head
    return OwnHead(
        steps=(dense_of(weights, "head.dense"), dense_of(weights, "classifier")),
        act=check_activation(config.text("classifier_activation")),
        norm=layer_norm_of(weights, "head.norm", config.number("norm_eps")),
        pooling=POOLING[config.text("classifier_pooling")],
    )


def _operators(checkpoint: Checkpoint) -> Operators:
    """The first layer does without one normalization; a head of its own has one, and those of ours have none."""
    layers = checkpoint.config.integer("num_hidden_layers")
    own = sum(head.spec.pooling == "own" for head in checkpoint.heads)
    return encoder_operators(layers, norms=2 * layers - 1 + 2 + own)


MODERNBERT = Architecture(name="modernbert", version=1, emit=_emit, operators=_operators)
