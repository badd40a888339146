"""Llama and what is built like it: Qwen2 (biases), Qwen3 (normalized queries and keys), Mistral (a window), SmolLM.

    x = embedding(ids)
    x = x + O attention(RMSNorm(x))                      rotary positions, grouped heads
    x = x + down(swish(gate(RMSNorm(x))) * up(...))
    logits = head(RMSNorm(x))                            often the embedding's own table

Touvron et al. 2023, arXiv:2302.13971. Queries, keys and values are one product, gate and up another.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmtasks.export.checkpoint import CannotEmit, Checkpoint, Config, Weights
from lmtasks.export.emitters.attention import CausalAttention, Rotary, attention
from lmtasks.export.emitters.blocks import (
    Dense,
    Norm,
    activation,
    check_activation,
    dense,
    flat,
    joined,
    looked_up,
    norm,
    projection,
    taken,
)
from lmtasks.export.emitters.causal import Attends, CausalShape, Read, causal_graphs
from lmtasks.export.graph import GraphBuilder
from lmtasks.export.package import GraphName
from lmtasks.export.rotary import rotary_tables
from lmtasks.records import Floats32

if TYPE_CHECKING:
    import onnx_ir as ir

ROTATED_BY_ATTENTION = 16
"""GroupQueryAttention rotates heads whose width is a multiple of this; others are rotated before it."""


@dataclass(frozen=True, kw_only=True)
class LlamaLayer:
    """One layer of the model."""

    before: Norm
    packed: Dense
    """queries, keys and values"""
    attends: CausalAttention
    out: Dense
    between: Norm
    gate_up: Dense
    down: Dense


@dataclass(frozen=True, kw_only=True)
class Llama:
    """The whole model."""

    table: Floats32
    """Embeddings, (V, D)."""
    layers: tuple[LlamaLayer, ...]
    last: Norm
    head: Dense
    act: str

    def body(
        self, graph: GraphBuilder, ids: "ir.Value", at: Attends, wanted: "ir.Value | None"
    ) -> "tuple[ir.Value, list[Read]]":
        """See `causal.Body`."""
        x = looked_up(graph, "embedding.weight", self.table, flat(graph, ids))
        reads: list[Read] = []
        for layer in self.layers:
            read = attention(graph, dense(graph, norm(graph, x, layer.before), layer.packed), at, layer.attends)
            reads.append(read)
            mixed = read.mixed
            if layer is self.layers[-1] and wanted is not None:  # behind here, no row sees another
                x, mixed = graph.add("Gather", x, wanted), graph.add("Gather", mixed, wanted)
            x = fed_forward(graph, dense(graph, mixed, layer.out, plus=x), layer, self.act)
        return norm(graph, x, self.last), reads


def emit_llama(checkpoint: Checkpoint) -> "dict[GraphName, ir.Model]":
    """The graphs of a causal model of this shape.

    Raises:
        CannotEmit: a setting or weight that these graphs do not have.
    """
    if checkpoint.card.kind != "causal":
        raise CannotEmit(f"it is used as {checkpoint.card.kind}; as a causal model it is built")
    layers = layers_of(checkpoint, "model.")
    model = _model(checkpoint.config, checkpoint.weights, layers)
    checkpoint.weights.check_all_taken()
    width = layers[0].attends.width
    shape = CausalShape(
        layers=len(layers),
        heads=layers[0].attends.cache_heads,
        width=width,
        vocabulary=len(model.head.weight),
        projection=model.head,
        takes_positions=width % ROTATED_BY_ATTENTION != 0,
        window=next((layer.attends.window for layer in layers if layer.attends.window is not None), None),
    )
    return causal_graphs(shape, model.body, checkpoint.heads)


def layers_of(checkpoint: Checkpoint, prefix: str) -> tuple[LlamaLayer, ...]:
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


def fed_forward(graph: GraphBuilder, x: "ir.Value", layer: LlamaLayer, act: str) -> "ir.Value":
    """The second half of a layer, (N, D) -> (N, D)."""
    gate, up = graph.add_many(
        "Split",
        dense(graph, norm(graph, x, layer.between), layer.gate_up),
        outputs=2,
        attributes={"axis": -1, "num_outputs": 2},
    )
    return dense(graph, graph.add("Mul", activation(graph, gate, act), up), layer.down, plus=x)


def norm_at(config: Config, weights: Weights, name: str) -> Norm:
    """A normalization without a bias."""
    return Norm(name=name, weight=weights.take(f"{name}.weight"), epsilon=config.number("rms_norm_eps"))


def _model(config: Config, weights: Weights, layers: tuple[LlamaLayer, ...]) -> Llama:
    table = weights.take("model.embed_tokens.weight")
    return Llama(
        table=table,
        layers=layers,
        last=norm_at(config, weights, "model.norm"),
        head=projection(table, weights.take("lm_head.weight"), weights.find("lm_head.bias")),
        act=check_activation(config.text("hidden_act", "silu")),
    )


def _layer(config: Config, weights: Weights, name: str, number: int, *, width: int, rotary: Rotary) -> LlamaLayer:
    heads = config.integer("num_attention_heads")
    normed = f"{name}.self_attn.q_norm.weight" in weights
    return LlamaLayer(
        before=norm_at(config, weights, f"{name}.input_layernorm"),
        packed=joined(
            f"{name}.self_attn.qkv", *(taken(weights, f"{name}.self_attn.{part}_proj") for part in ("q", "k", "v"))
        ),
        attends=CausalAttention(
            layer=number,
            heads=heads,
            cache_heads=config.integer("num_key_value_heads", heads),
            width=width,
            rotary=rotary,
            query_norm=norm_at(config, weights, f"{name}.self_attn.q_norm") if normed else None,
            key_norm=norm_at(config, weights, f"{name}.self_attn.k_norm") if normed else None,
            window=_window(config, number),
        ),
        out=taken(weights, f"{name}.self_attn.o_proj"),
        between=norm_at(config, weights, f"{name}.post_attention_layernorm"),
        gate_up=joined(f"{name}.mlp.gate_up", *(taken(weights, f"{name}.mlp.{part}_proj") for part in ("gate", "up"))),
        down=taken(weights, f"{name}.mlp.down_proj"),
    )


def _window(config: Config, layer: int) -> int | None:
    """How far back a layer sees; None: to the start, or further than the longest text."""
    if not config.has("sliding_window") or config.text("model_type") == "llama":
        return None
    window = config.integer("sliding_window")
    kinds = config.items("layer_types")
    slides = kinds[layer] == "sliding_attention" if kinds else True
    return window if slides and window < config.integer("max_position_embeddings") else None
