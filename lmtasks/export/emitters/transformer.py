"""Layers of encoders and decoders, by their parts.

    normalized before each part                        behind each part
    x = x + out(attention(norm(x)))                    x = norm(x + out(attention(x)))
    x = x + out(attention(norm(x), source))            x = norm(x + out(attention(x, source)))      with a source only
    x = x + down(activation(up(norm(x))))              x = norm(x + down(activation(up(x))))

Gemma normalizes what a part yields as well, before it is added. Before the layers stand embeddings, behind them may
stand one normalization more. An architecture is a mapping of its weights to these parts; what reads the text, and over
what, is given by whoever runs the layers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lmtasks.export.checkpoint import Weights
from lmtasks.export.emitters.attention import Attention
from lmtasks.export.emitters.blocks import (
    Dense,
    EmbeddingTable,
    Norm,
    activation,
    check_activation,
    dense,
    dense_of,
    flat,
    layer_norm_of,
    looked_up,
    norm,
    side_by_side,
)
from lmtasks.export.graph import INT64, GraphBuilder

if TYPE_CHECKING:
    import onnx_ir as ir


@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """Embeddings of tokens, and what is added to them before the layers."""

    tokens: EmbeddingTable
    scale: float = 1.0
    types: EmbeddingTable | None = None
    """Embeddings of segments; None: there are none, or one that is part of `positions`."""
    positions: EmbeddingTable | None = None
    first: int = 0
    """The position of a text's first token."""
    norm: Norm | None = None
    project: Dense | None = None
    """From the width of embeddings to that of the layers."""


@dataclass(frozen=True, kw_only=True)
class FeedForward:
    """The second part of a layer."""

    up: Dense
    down: Dense
    act: str
    """A name of `blocks.ACTIVATIONS`."""
    gated: bool = False
    """Does the activation of the first half of `up` scale the second?"""


@dataclass(frozen=True, kw_only=True)
class CrossAttention:
    """Attention of a decoder's layer to the source."""

    query: Dense
    key: Dense
    value: Dense
    out: Dense
    norm: Norm


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer."""

    attention: Attention
    attention_norm: Norm | None
    """None: attention reads what comes into the layer."""
    feed: FeedForward
    feed_norm: Norm
    norm_behind: bool = False
    """Does each part's normalization stand behind it, and not before?"""
    parallel: bool = False
    """Do both parts read what comes into the layer?"""
    cross: CrossAttention | None = None
    attention_after: Norm | None = None
    """Of what attention yields, before it is added."""
    feed_after: Norm | None = None


Attend = Callable[[int, Attention, "ir.Value"], "ir.Value"]
"""(number of the layer, its attention, queries, keys and values (N, ...)) -> (N, heads x width)"""
AttendSource = Callable[[int, "ir.Value"], "ir.Value"]
"""(number of the layer, queries (N, heads x width)) -> the same shape, mixed over the source."""


def embedded(graph: GraphBuilder, part: Embeddings, ids: "ir.Value", positions: "ir.Value | None") -> "ir.Value":
    """Token ids (B, S) at positions int64 (B, S): (N, D). Adds the input `types` where there are segments."""
    x = looked_up(graph, part.tokens, flat(graph, ids))
    if part.scale != 1.0:
        x = graph.add("Mul", x, graph.constant("embedding.scale", np.float32(part.scale)))
    if part.types is not None:
        types = graph.input("types", dtype=INT64, shape=["batch", "columns"])
        x = graph.add("Add", x, looked_up(graph, part.types, flat(graph, types)))
    if part.positions is not None:
        assert positions is not None  # whoever runs the layers gives them where they are asked for
        x = graph.add("Add", x, looked_up(graph, part.positions, flat(graph, positions)))
    if part.norm is not None:
        x = norm(graph, x, part.norm)
    return x if part.project is None else dense(graph, x, part.project)


def run_layers(
    graph: GraphBuilder,
    x: "ir.Value",
    layers: Sequence[Layer],
    attend: Attend,
    *,
    attend_source: AttendSource | None = None,
    wanted: "ir.Value | None" = None,
) -> "ir.Value":
    """(N, D) -> (N, D); (W, D) where rows are wanted, (W,): behind the last attention, no row sees another."""
    for number, layer in enumerate(layers):
        part, behind = layer.attention, layer.norm_behind
        cut = wanted if number == len(layers) - 1 else None
        read = x if behind or layer.attention_norm is None else norm(graph, x, layer.attention_norm)
        mixed = attend(number, part, dense(graph, read, part.packed))
        if layer.cross is None or attend_source is None:
            x, mixed = _picked(graph, cut, x, mixed)
            after = _added(
                graph, mixed, part.out, x, layer.attention_norm if behind else None, before=layer.attention_after
            )
        else:
            x = _added(graph, mixed, part.out, x, layer.attention_norm if behind else None)
            read = x if behind else norm(graph, x, layer.cross.norm)
            x, mixed = _picked(graph, cut, x, attend_source(number, dense(graph, read, layer.cross.query)))
            after = _added(graph, mixed, layer.cross.out, x, layer.cross.norm if behind else None)
        read = after if behind else norm(graph, x if layer.parallel else after, layer.feed_norm)
        inner = fed_forward(graph, read, layer.feed)
        x = _added(graph, inner, layer.feed.down, after, layer.feed_norm if behind else None, before=layer.feed_after)
    return x


def fed_forward(graph: GraphBuilder, x: "ir.Value", part: FeedForward) -> "ir.Value":
    """(N, D) -> (N, F), before the product `down`."""
    inner = dense(graph, x, part.up)
    if not part.gated:
        return activation(graph, inner, part.act)
    gate, rest = graph.add_many("Split", inner, outputs=2, attributes={"axis": -1, "num_outputs": 2})
    return graph.add("Mul", activation(graph, gate, part.act), rest)


def _added(
    graph: GraphBuilder, x: "ir.Value", out: Dense, to: "ir.Value", behind: Norm | None, *, before: Norm | None = None
) -> "ir.Value":
    """`to` + out(x), normalized where a normalization stands behind, or before the sum."""
    if before is None:
        total = dense(graph, x, out, plus=to)
    else:
        total = graph.add("Add", to, norm(graph, dense(graph, x, out), before))
    return total if behind is None else norm(graph, total, behind)


def _picked(graph: GraphBuilder, wanted: "ir.Value | None", *values: "ir.Value") -> "list[ir.Value]":
    """The wanted rows of each value; all rows where none are named."""
    return [value if wanted is None else graph.add("Gather", value, wanted) for value in values]


def fairseq_layer(weights: Weights, name: str, *, heads: int, width: int, act: str, epsilon: float) -> Layer:
    """A layer by the names of fairseq, which OPT, BART and Marian keep; normalized before each part.

    Args:
        width: of the layer, all heads together.
        act: of the configuration.

    Raises:
        CannotEmit: a weight is missing, or the activation is unknown.
    """
    return Layer(
        attention=Attention(
            packed=side_by_side(
                f"{name}.self_attn.qkv", *(dense_of(weights, f"{name}.self_attn.{part}_proj") for part in "qkv")
            ),
            out=dense_of(weights, f"{name}.self_attn.out_proj"),
            heads=heads,
            key_heads=heads,
            width=width // heads,
        ),
        attention_norm=layer_norm_of(weights, f"{name}.self_attn_layer_norm", epsilon),
        feed=FeedForward(
            up=dense_of(weights, f"{name}.fc1"), down=dense_of(weights, f"{name}.fc2"), act=check_activation(act)
        ),
        feed_norm=layer_norm_of(weights, f"{name}.final_layer_norm", epsilon),
    )
