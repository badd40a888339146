"""Llama and what is built like it: Qwen2 (biases), Qwen3 (normalized queries and keys), Mistral (a window), Phi-3
(packed products), SmolLM; the same bodies behind a checkpoint's own head, which reads the last token or each; and
EuroBERT, which is a Llama read both ways.

    x = embedding(ids)
    x = x + O attention(RMSNorm(x))                      rotary positions, grouped heads
    x = x + down(swish(gate(RMSNorm(x))) * up(...))
    logits = head(RMSNorm(x))                            often the embedding's own table

Touvron et al. 2023, arXiv:2302.13971; Boizard et al. 2025, arXiv:2503.05500. Queries, keys and values are one product,
gate and up another. Read both ways, the operator takes a key and a value for each query (shared ones are repeated in
the graph, whose weights stay those of the causal ones); positions are counted over tokens, so that padding may stand
anywhere.
"""

from collections.abc import Sequence

from lmtasks.export.checkpoint import CannotEmit, Checkpoint, Config, HeadWeights, Weights
from lmtasks.export.emitters.architecture import RMS, Architecture, Graphs, decoder_operators, encoder_operators
from lmtasks.export.emitters.attention import Attention
from lmtasks.export.emitters.blocks import (
    Dense,
    EmbeddingTable,
    check_activation,
    dense_of,
    projection,
    rms_norm_of,
    side_by_side,
)
from lmtasks.export.emitters.decoder import Decoder, check_causal, decoder_graphs
from lmtasks.export.emitters.encoder import (
    Encoder,
    OwnHead,
    backbone_prefix,
    check_encoder,
    encoder_graphs,
    read_both_ways,
    read_forwards,
    token_head,
)
from lmtasks.export.emitters.positions import Rotary, rotary_tables
from lmtasks.export.emitters.transformer import Embeddings, FeedForward, Layer
from lmtasks.export.package import Operators


def _emit(checkpoint: Checkpoint) -> Graphs:
    check_causal(checkpoint)
    config, weights = checkpoint.config, checkpoint.weights
    table = weights.take("model.embed_tokens.weight")
    model = Decoder(
        embeddings=Embeddings(tokens=EmbeddingTable(name="embedding.weight", rows=table)),
        layers=_layers(checkpoint, "model."),
        last=rms_norm_of(weights, "model.norm", config.number("rms_norm_eps")),
        head=projection(table, weights.take("lm_head.weight"), weights.find("lm_head.bias")),
    )
    weights.check_all_taken()
    return decoder_graphs(model, checkpoint.heads)


def _layers(checkpoint: Checkpoint, prefix: str) -> tuple[Layer, ...]:
    """All layers; `prefix` stands before the names of the backbone's weights.

    Raises:
        CannotEmit: a way of rotating that is not built.
    """
    config = checkpoint.config
    width = config.integer("head_dim", config.integer("hidden_size") // config.integer("num_attention_heads"))
    cosines, sines = rotary_tables(config, width=width, positions=checkpoint.card.max_length_tokens)
    if cosines.shape[1] * 2 != width:
        raise CannotEmit("it rotates only a part of each head")
    rotary = Rotary(cosines=cosines, sines=sines)
    return tuple(
        _layer(config, checkpoint.weights, f"{prefix}layers.{number}", number, width=width, rotary=rotary)
        for number in range(config.integer("num_hidden_layers"))
    )


def _layer(config: Config, weights: Weights, name: str, number: int, *, width: int, rotary: Rotary) -> Layer:
    epsilon = config.number("rms_norm_eps")
    return Layer(
        attention=_attention(config, weights, f"{name}.self_attn", number, width=width, rotary=rotary),
        attention_norm=rms_norm_of(weights, f"{name}.input_layernorm", epsilon),
        feed=FeedForward(
            up=_packed(weights, f"{name}.mlp", "gate_up", ("gate", "up")),
            down=dense_of(weights, f"{name}.mlp.down_proj"),
            act=check_activation(config.text("hidden_act", "silu")),
            gated=True,
        ),
        feed_norm=rms_norm_of(weights, f"{name}.post_attention_layernorm", epsilon),
    )


def _attention(config: Config, weights: Weights, name: str, number: int, *, width: int, rotary: Rotary) -> Attention:
    heads, epsilon = config.integer("num_attention_heads"), config.number("rms_norm_eps")
    normed = f"{name}.q_norm.weight" in weights
    return Attention(
        packed=_packed(weights, name, "qkv", ("q", "k", "v")),
        out=dense_of(weights, f"{name}.o_proj"),
        heads=heads,
        key_heads=config.integer("num_key_value_heads", heads),
        width=width,
        rotary=rotary,
        query_norm=rms_norm_of(weights, f"{name}.q_norm", epsilon) if normed else None,
        key_norm=rms_norm_of(weights, f"{name}.k_norm", epsilon) if normed else None,
        window=_window(config, number),
    )


def _packed(weights: Weights, name: str, whole: str, parts: Sequence[str]) -> Dense:
    """Several products of the same rows as one, as Phi-3 has them anyway."""
    if f"{name}.{whole}_proj.weight" in weights:
        return dense_of(weights, f"{name}.{whole}_proj")
    return side_by_side(f"{name}.{whole}", *(dense_of(weights, f"{name}.{part}_proj") for part in parts))


def _window(config: Config, layer: int) -> int | None:
    """How far back a layer sees; None: to the start, or further than the longest text."""
    if not config.has("sliding_window") or config.text("model_type") == "llama":
        return None
    window = config.integer("sliding_window")
    kinds = config.items("layer_types")
    slides = kinds[layer] == "sliding_attention" if kinds else True
    return window if slides and window < config.integer("max_position_embeddings") else None


def _emit_encoder(checkpoint: Checkpoint) -> Graphs:
    check_encoder(checkpoint)
    config, weights = checkpoint.config, checkpoint.weights
    prefix = backbone_prefix(weights, "embed_tokens.weight", ("model.", "transformer."))
    layers = _layers(checkpoint, prefix)
    causal = config.flag("is_causal", default=config.text("model_type") != "eurobert")
    model = Encoder(
        embeddings=Embeddings(
            tokens=EmbeddingTable(name="embedding.weight", rows=weights.take(f"{prefix}embed_tokens.weight"))
        ),
        layers=read_forwards(layers) if causal else read_both_ways(layers),
        last=rms_norm_of(weights, f"{prefix}norm", config.number("rms_norm_eps")),
    )
    return encoder_graphs(checkpoint, model, lambda head: _own(config, weights, head))


def _own(config: Config, weights: Weights, head: HeadWeights) -> OwnHead:
    """Bodies of decoders have one product, over each token or the last one. EuroBERT pools logits of tokens."""
    if "score.weight" in weights:
        return OwnHead(steps=(dense_of(weights, "score"),), pooling="last")
    if config.text("model_type") == "eurobert" and (head.per_text or "qa_outputs.weight" in weights):
        raise CannotEmit(f"its own head for {head.spec.kind} pools logits; one for tagging is built")
    return token_head(weights)


def _operators(checkpoint: Checkpoint) -> Operators:
    return decoder_operators(
        checkpoint.config.integer("num_hidden_layers"), norm=RMS, norms_per_layer=_norms_per_layer(checkpoint.config)
    )


def _operators_of_encoder(checkpoint: Checkpoint) -> Operators:
    layers = checkpoint.config.integer("num_hidden_layers")
    return encoder_operators(layers, norm=RMS, norms=_norms_per_layer(checkpoint.config) * layers + 1)


def _norms_per_layer(config: Config) -> int:
    """Qwen3 normalizes queries and keys as well."""
    return 4 if config.text("model_type") == "qwen3" else 2


LLAMA = Architecture(name="llama", version=1, emit=_emit, operators=_operators)
EUROBERT = Architecture(
    name="eurobert",
    version=1,
    emit=_emit_encoder,
    operators=_operators_of_encoder,
)
