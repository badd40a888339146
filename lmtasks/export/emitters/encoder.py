"""What BERT and its relatives share: layers that normalize behind each part, attention both ways, and heads.

    x = LayerNorm(embedding(ids) + position(positions) [+ segment(types)])
    x = LayerNorm(x + out(attention(x)))
    x = LayerNorm(x + down(activation(up(x))))

Padding may stand on either side, or between tokens: positions are counted over tokens inside the graph, keys that are
padding are masked one by one, and what reads the first token reads the first that is one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lmtasks.export.checkpoint import CannotEmit, Checkpoint, Config, HeadWeights, Weights
from lmtasks.export.emitters.blocks import (
    Dense,
    Layout,
    Norm,
    activation,
    dense,
    flat,
    ids_input,
    layout_of,
    looked_up,
    norm,
)
from lmtasks.export.emitters.heads import head_outputs, name_head, token_at
from lmtasks.export.graph import BOOL, INT32, INT64, GraphBuilder
from lmtasks.export.package import GraphName
from lmtasks.records import Floats32

if TYPE_CHECKING:
    import onnx_ir as ir


@dataclass(frozen=True, kw_only=True)
class EncoderLayer:
    """One layer."""

    packed: Dense
    """queries, keys and values"""
    out: Dense
    between: Norm
    up: Dense
    down: Dense
    after: Norm


@dataclass(frozen=True, kw_only=True)
class OwnHead:
    """The head that a checkpoint carries."""

    steps: tuple[Dense, ...]
    """The products behind each other; the last yields the logits."""
    act: str
    """What stands between them."""


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """The whole model."""

    table: Floats32
    """Embeddings, (V, D)."""
    positions: Floats32
    """Embeddings of positions, (positions, D)."""
    first: int
    """The position of a text's first token."""
    types: Floats32 | None
    """Embeddings of segments, (segments, D); None: it has none, or one that is part of `positions`."""
    start: Norm
    project: Dense | None
    """From the width of embeddings to that of the layers."""
    layers: tuple[EncoderLayer, ...]
    heads: int
    """of attention"""
    act: str

    def body(self, graph: GraphBuilder, ids: "ir.Value", mask: "ir.Value", layout: Layout) -> "ir.Value":
        """See `EncoderBody`."""
        x = looked_up(graph, "embedding.weight", self.table, flat(graph, ids))
        if self.types is not None:
            types = graph.input("types", dtype=INT64, shape=["batch", "columns"])
            x = graph.add("Add", x, looked_up(graph, "type.weight", self.types, flat(graph, types)))
        places = flat(graph, counted(graph, mask, first=self.first))
        x = norm(graph, graph.add("Add", x, looked_up(graph, "position.weight", self.positions, places)), self.start)
        if self.project is not None:
            x = dense(graph, x, self.project)
        real = graph.add("Cast", mask, attributes={"to": INT32})
        return encoded(graph, x, self.layers, layout, real, heads=self.heads, act=self.act)


EncoderBody = Callable[[GraphBuilder, "ir.Value", "ir.Value", Layout], "ir.Value"]
"""(graph, ids (B, S), mask (B, S), layout) -> hidden states behind the last layer, (N, D)."""


def encoder_graphs(
    checkpoint: Checkpoint, body: EncoderBody, own: Callable[[HeadWeights], OwnHead]
) -> "dict[GraphName, ir.Model]":
    """The graph of all heads. Weights that no head needs may stay: a checkpoint's pooler.

    Raises:
        CannotEmit: a weight that the graph has no place for.
    """
    graph = GraphBuilder("heads")
    ids = ids_input(graph)
    mask = graph.input("mask", dtype=BOOL, shape=["batch", "columns"])
    layout = layout_of(graph, ids)
    hidden = body(graph, ids, mask, layout)
    ours = [head for head in checkpoint.heads if head.spec.pooling != "own"]
    head_outputs(graph, hidden, layout, mask, ours)
    for head in checkpoint.heads:
        if head.spec.pooling == "own":
            name_head(graph, _own(graph, hidden, layout, mask, head, own(head)), head)
    checkpoint.weights.skip("pooler.dense.weight", "pooler.dense.bias")
    checkpoint.weights.check_all_taken()
    return {"heads": graph.model()}


def check_encoder(checkpoint: Checkpoint) -> None:
    """Raises: CannotEmit: it is not used as an encoder."""
    if checkpoint.card.kind != "encoder":
        raise CannotEmit(f"it is used as {checkpoint.card.kind}; as an encoder it is built")
    kind = checkpoint.config.text("position_embedding_type", "absolute")
    if kind != "absolute":
        raise CannotEmit(f"its positions are of type {kind!r}; 'absolute' ones are built")


def dense_of(weights: Weights, name: str) -> Dense:
    """A product with its bias."""
    return Dense(name=name, weight=weights.take(f"{name}.weight"), bias=weights.take(f"{name}.bias"))


def norm_of(weights: Weights, name: str, epsilon: float) -> Norm:
    """A normalization."""
    return Norm(name=name, weight=weights.take(f"{name}.weight"), bias=weights.take(f"{name}.bias"), epsilon=epsilon)


def prefix_of(weights: Weights, probe: str, names: Sequence[str]) -> str:
    """What stands before the names of a backbone's weights: one of `names`, or nothing."""
    return next((name for name in ("", *names) if f"{name}{probe}" in weights), "")


def first_position(config: Config, *, after_padding: bool) -> int:
    """RoBERTa counts positions from behind the padding token's id."""
    return config.integer("pad_token_id") + 1 if after_padding else 0


def encoded(
    graph: GraphBuilder,
    x: "ir.Value",
    layers: Sequence[EncoderLayer],
    layout: Layout,
    real: "ir.Value",
    *,
    heads: int,
    act: str,
) -> "ir.Value":
    """Layers that normalize behind each part, (N, D) -> (N, D). `real`: int32 (B, S), 1 at tokens."""
    for layer in layers:
        width = layer.out.weight.shape[1]
        mixed = both_ways(graph, dense(graph, x, layer.packed), layout, real, heads=heads, width=width)
        x = norm(graph, dense(graph, mixed, layer.out, plus=x), layer.between)
        inner = activation(graph, dense(graph, x, layer.up), act)
        x = norm(graph, dense(graph, inner, layer.down, plus=x), layer.after)
    return x


def both_ways(
    graph: GraphBuilder,
    packed: "ir.Value",
    layout: Layout,
    real: "ir.Value",
    *,
    heads: int,
    width: int,
    bias: "ir.Value | None" = None,
    scale: float | None = None,
) -> "ir.Value":
    """Queries, keys and values side by side, (N, 3 x D) -> (N, D), each mixed over all tokens of its row.

    Args:
        real: int32 (B, S), 1 at tokens.
        width: D
        bias: of positions, (1, heads, S, S), where a model has one.
        scale: of the products of queries and keys; None: 1 / sqrt(width of a head).
    """
    parts = graph.add_many("Split", layout.apart(graph, packed), outputs=3, attributes={"axis": -1, "num_outputs": 3})
    return attended(graph, parts, layout, real, heads=heads, width=width, bias=bias, scale=scale)


def attended(
    graph: GraphBuilder,
    parts: "Sequence[ir.Value]",
    layout: Layout,
    real: "ir.Value",
    *,
    heads: int,
    width: int,
    bias: "ir.Value | None" = None,
    scale: float | None = None,
) -> "ir.Value":
    """Queries, keys and values, (B, S, D) each, as `both_ways` mixes them: (N, D)."""
    inputs = [*parts, None, real] if bias is None else [*parts, None, real, bias]
    attributes: dict[str, int | float] = {"num_heads": heads}
    if scale is not None:
        attributes["scale"] = scale
    mixed = graph.add("MultiHeadAttention", *inputs, attributes=attributes)
    return layout.together(graph, mixed, width)


def counted(graph: GraphBuilder, mask: "ir.Value", *, first: int) -> "ir.Value":
    """Positions of the tokens, counted from `first`, int64 (B, S); some position that exists, at padding."""
    order = graph.add("CumSum", graph.add("Cast", mask, attributes={"to": INT64}), graph.integers(1))
    places = graph.add("Sub", order, graph.constant("int64.scalar.1", np.int64(1)))
    places = graph.add("Max", places, graph.constant("int64.scalar.0", np.int64(0)))
    return graph.add("Add", places, graph.constant("first", np.int64(first))) if first else places


def _own(
    graph: GraphBuilder, hidden: "ir.Value", layout: Layout, mask: "ir.Value", head: HeadWeights, own: OwnHead
) -> "ir.Value":
    per_text = head.spec.kind == "classification"
    x = token_at(graph, hidden, layout, mask, last=False) if per_text else hidden
    for number, step in enumerate(own.steps):
        if number:
            x = graph.add("Tanh", x) if own.act == "tanh" else activation(graph, x, own.act)
        x = dense(graph, x, step)
    return x if per_text else layout.apart(graph, x)
