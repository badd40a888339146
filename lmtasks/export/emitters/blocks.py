"""The blocks that graphs are built of.

Axes: B batch, S columns, N = B x S rows, D width, F width of a feed-forward layer, V vocabulary.
Activations are kept in two axes, (N, D): ONNX Runtime would fuse an addition and a normalization over three axes into
`SkipLayerNormalization`, which is 8 times slower on a CPU than the two apart, and over two axes it does not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lmtasks.export.checkpoint import CannotEmit, Weights
from lmtasks.export.graph import INT64, Attribute, GraphBuilder
from lmtasks.records import Floats32

if TYPE_CHECKING:
    import onnx_ir as ir

TANH_GELU: tuple[str, Mapping[str, Attribute]] = ("FastGelu", {})
SWISH: tuple[str, Mapping[str, Attribute]] = ("QuickGelu", {"alpha": 1.0})
ACTIVATIONS: Mapping[str, tuple[str, Mapping[str, Attribute]]] = {
    "gelu": ("Gelu", {}),
    "gelu_new": TANH_GELU,
    "gelu_pytorch_tanh": TANH_GELU,
    "gelu_fast": TANH_GELU,
    "quick_gelu": ("QuickGelu", {"alpha": 1.702}),
    "relu": ("Relu", {}),
    "silu": SWISH,
    "swish": SWISH,
}
"""By transformers' name: operator and attributes."""


@dataclass(frozen=True, kw_only=True)
class Dense:
    """A product with a constant: x -> x W^T + b."""

    name: str
    weight: Floats32
    """W, (out, in), as torch keeps it."""
    bias: Floats32 | None = None
    """(out,)"""


@dataclass(frozen=True, kw_only=True)
class Norm:
    """Normalization of rows: LayerNorm, or RMSNorm."""

    name: str
    weight: Floats32
    epsilon: float
    bias: Floats32 | None = None
    rms: bool = False


@dataclass(frozen=True, kw_only=True)
class EmbeddingTable:
    """Rows that are looked up."""

    name: str
    rows: Floats32
    """(V, D)"""


def dense_of(weights: Weights, name: str) -> Dense:
    """A product that is kept (out, in), with its bias where it has one."""
    return Dense(name=name, weight=weights.take(f"{name}.weight"), bias=weights.find(f"{name}.bias"))


def layer_norm_of(weights: Weights, name: str, epsilon: float) -> Norm:
    """A LayerNorm, with its bias where it has one."""
    return Norm(name=name, weight=weights.take(f"{name}.weight"), epsilon=epsilon, bias=weights.find(f"{name}.bias"))


def rms_norm_of(weights: Weights, name: str, epsilon: float) -> Norm:
    """An RMSNorm."""
    return Norm(name=name, weight=weights.take(f"{name}.weight"), epsilon=epsilon, rms=True)


def side_by_side(name: str, *parts: Dense) -> Dense:
    """Several products of the same rows as one, their results side by side."""
    biases = [part.bias for part in parts]
    bias = None
    if any(given is not None for given in biases):
        bias = np.concatenate(
            [np.zeros(len(part.weight), dtype=np.float32) if part.bias is None else part.bias for part in parts]
        )
    return Dense(name=name, weight=np.concatenate([part.weight for part in parts]), bias=bias)


def projection(table: Floats32, head: Floats32, bias: Floats32 | None = None) -> Dense:
    """Hidden states to logits. A head that is the table of embeddings is stored under its name, "embedding", once."""
    tied = table.shape == head.shape and bool(np.may_share_memory(table, head))
    return Dense(name="embedding" if tied else "head", weight=table if tied else head, bias=bias)


def dense(graph: GraphBuilder, x: "ir.Value", part: Dense, *, plus: "ir.Value | None" = None) -> "ir.Value":
    """(N, in) -> (N, out); `plus`, (N, out), is added, by the product itself where it has no bias."""
    weight = graph.constant(f"{part.name}.weight", part.weight)
    if part.bias is None:
        return graph.add("Gemm", x, weight, *(() if plus is None else (plus,)), attributes={"transB": 1})
    bias = graph.constant(f"{part.name}.bias", part.bias)
    y = graph.add("Gemm", x, weight, bias, attributes={"transB": 1})
    return y if plus is None else graph.add("Add", y, plus)


def norm(graph: GraphBuilder, x: "ir.Value", part: Norm) -> "ir.Value":
    """(N, D) -> (N, D)"""
    weight = graph.constant(f"{part.name}.weight", part.weight)
    attributes: Mapping[str, Attribute] = {"axis": -1, "epsilon": part.epsilon}
    if part.rms:
        return graph.add("SimplifiedLayerNormalization", x, weight, attributes=attributes)
    bias = () if part.bias is None else (graph.constant(f"{part.name}.bias", part.bias),)
    return graph.add("LayerNormalization", x, weight, *bias, attributes=attributes)


def check_activation(name: str) -> str:
    """Raises: CannotEmit: there is no operator for an activation of that name."""
    if name not in ACTIVATIONS:
        raise CannotEmit(f"its activation is {name!r}; {', '.join(ACTIVATIONS)} are built")
    return name


def activation(graph: GraphBuilder, x: "ir.Value", name: str) -> "ir.Value":
    """One of `ACTIVATIONS`, number by number."""
    kind, attributes = ACTIVATIONS[name]
    return graph.add(kind, x, attributes=attributes)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How rows become columns of a batch again. Made once a graph."""

    shape: "ir.Value"
    """[B, S, -1]"""

    def apart(self, graph: GraphBuilder, x: "ir.Value") -> "ir.Value":
        """(N, D) -> (B, S, D)"""
        return graph.add("Reshape", x, self.shape)

    def together(self, graph: GraphBuilder, x: "ir.Value", width: int) -> "ir.Value":
        """(B, S, D) -> (N, D)"""
        return graph.add("Reshape", x, graph.integers(-1, width))


def layout_of(graph: GraphBuilder, ids: "ir.Value") -> Layout:
    """The layout of token ids, (B, S)."""
    return Layout(shape=graph.add("Concat", graph.add("Shape", ids), graph.integers(-1), attributes={"axis": 0}))


def flat(graph: GraphBuilder, ids: "ir.Value") -> "ir.Value":
    """(B, S) -> (N,)"""
    return graph.add("Reshape", ids, graph.integers(-1))


def looked_up(graph: GraphBuilder, table: EmbeddingTable, places: "ir.Value") -> "ir.Value":
    """Rows of a table at places (N,): (N, D)."""
    return graph.add("Gather", graph.constant(table.name, table.rows), places)


def ids_input(graph: GraphBuilder, name: str = "ids", *, columns: str = "columns") -> "ir.Value":
    """Token ids or positions, int64 (B, S)."""
    return graph.input(name, dtype=INT64, shape=["batch", columns])
