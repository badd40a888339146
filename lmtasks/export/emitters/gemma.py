"""Gemma 3: a Llama that normalizes what each part yields as well, and sees near tokens in most layers.

    x = sqrt(D) embedding(ids)
    x = x + RMSNorm(O attention(RMSNorm(x)))             queries and keys normalized, rotary positions, grouped heads
    x = x + RMSNorm(down(gelu(gate(RMSNorm(x))) * up(...)))
    logits = embedding^T RMSNorm(x)

Its normalizations multiply by 1 + weight. Local layers have a window, and rotate by frequencies of their own. Gemma
team 2025, arXiv:2503.19786.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

from lmtasks.export.checkpoint import CannotEmit, Checkpoint, Config, Weights
from lmtasks.export.emitters.architecture import RMS, Architecture, Graphs, decoder_operators
from lmtasks.export.emitters.attention import Attention
from lmtasks.export.emitters.blocks import (
    EmbeddingTable,
    Norm,
    check_activation,
    dense_of,
    projection,
    rms_norm_of,
    side_by_side,
)
from lmtasks.export.emitters.decoder import Decoder, check_causal, decoder_graphs
from lmtasks.export.emitters.positions import Rotary, rotary_tables
from lmtasks.export.emitters.transformer import Embeddings, FeedForward, Layer

WHOLE_TEXT, NEAR = "full_attention", "sliding_attention"
NORMS_PER_LAYER = 6


def _emit(checkpoint: Checkpoint) -> Graphs:
    check_causal(checkpoint)
    config, weights = checkpoint.config, checkpoint.weights
    for setting in ("attn_logit_softcapping", "final_logit_softcapping"):
        if config.has(setting):
            raise CannotEmit(f"it caps its logits ({setting}); Gemma 3, which does not, is built")
    if config.flag("use_bidirectional_attention"):
        raise CannotEmit("its attention looks both ways; the causal model is built")
    table = weights.take("model.embed_tokens.weight")
    rotary = {kind: _rotary(config, kind, positions=checkpoint.card.max_length_tokens) for kind in (WHOLE_TEXT, NEAR)}
    model = Decoder(
        embeddings=Embeddings(
            tokens=EmbeddingTable(name="embedding.weight", rows=table), scale=math.sqrt(config.integer("hidden_size"))
        ),
        layers=tuple(
            _layer(config, weights, f"model.layers.{number}", str(kind), rotary=rotary)
            for number, kind in enumerate(config.items("layer_types"))
        ),
        last=_norm(config, weights, "model.norm"),
        head=projection(table, weights.take("lm_head.weight")),
    )
    weights.check_all_taken()
    return decoder_graphs(model, checkpoint.heads)


def _rotary(config: Config, kind: str, *, positions: int) -> Rotary:
    cosines, sines = rotary_tables(
        config,
        width=config.integer("head_dim"),
        positions=positions,
        settings=config.part("rope_parameters").part(kind),
    )
    return Rotary(name=f"rotary.{kind}", cosines=cosines, sines=sines)


def _layer(config: Config, weights: Weights, name: str, kind: str, *, rotary: Mapping[str, Rotary]) -> Layer:
    if kind not in rotary:
        raise CannotEmit(f"it has a layer of {kind!r}; {' and '.join(rotary)} are built")
    heads, own = config.integer("num_attention_heads"), f"{name}.self_attn"
    return Layer(
        attention=Attention(
            packed=side_by_side(f"{own}.qkv", *(dense_of(weights, f"{own}.{part}_proj") for part in "qkv")),
            out=dense_of(weights, f"{own}.o_proj"),
            heads=heads,
            key_heads=config.integer("num_key_value_heads", heads),
            width=config.integer("head_dim"),
            rotary=rotary[kind],
            query_norm=_norm(config, weights, f"{own}.q_norm"),
            key_norm=_norm(config, weights, f"{own}.k_norm"),
            window=config.integer("sliding_window") if kind == NEAR else None,
            scale=config.number("query_pre_attn_scalar") ** -0.5,
        ),
        attention_norm=_norm(config, weights, f"{name}.input_layernorm"),
        attention_after=_norm(config, weights, f"{name}.post_attention_layernorm"),
        feed=FeedForward(
            up=side_by_side(
                f"{name}.mlp.gate_up", *(dense_of(weights, f"{name}.mlp.{part}_proj") for part in ("gate", "up"))
            ),
            down=dense_of(weights, f"{name}.mlp.down_proj"),
            act=check_activation(config.text("hidden_activation")),
            gated=True,
        ),
        feed_norm=_norm(config, weights, f"{name}.pre_feedforward_layernorm"),
        feed_after=_norm(config, weights, f"{name}.post_feedforward_layernorm"),
    )


def _norm(config: Config, weights: Weights, name: str) -> Norm:
    found = rms_norm_of(weights, name, config.number("rms_norm_eps"))
    return replace(found, weight=found.weight + 1)


GEMMA3 = Architecture(
    name="gemma3",
    version=1,
    emit=_emit,
    operators=lambda checkpoint: decoder_operators(
        checkpoint.config.integer("num_hidden_layers"), norm=RMS, norms_per_layer=NORMS_PER_LAYER
    ),
)
