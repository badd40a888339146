"""What the graphs of all causal models share: their inputs, their caches, and what comes behind the last layer.

    decoder   appends S tokens to each row's cache -> logits where they are wanted
    score     reads packed rows (one context, several continuations behind it) -> log-probabilities of given tokens
    heads     reads whole rows -> one output a head

A cache holds keys or values, (B, heads, CAP, width of a head). The decoder's past and present may lie in one buffer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lmtasks.export.checkpoint import HeadWeights
from lmtasks.export.emitters.blocks import Dense, Layout, dense, ids_input, layout_of
from lmtasks.export.emitters.heads import head_outputs
from lmtasks.export.graph import BOOL, FLOAT, INT32, INT64, GraphBuilder, Size
from lmtasks.export.package import GraphName

if TYPE_CHECKING:
    import onnx_ir as ir

MASKED = -1e30
"""What is added to the score of a key that is not seen."""


@dataclass(frozen=True, kw_only=True)
class Attends:
    """What an attention layer of a graph is told beside queries, keys and values."""

    layout: Layout
    lengths: "ir.Value"
    """int32 (B,): tokens in the cache afterwards, less one."""
    total: "ir.Value"
    """int32 (): the largest number of columns in use afterwards."""
    new: "ir.Value | None" = None
    """int32 (B,): how many of the S columns are tokens, from the left; None: all."""
    positions: "ir.Value | None" = None
    """int64 (B, S), where positions are not counted by the cache."""
    bias: "ir.Value | None" = None
    """(B, 1, S, P + S)"""
    past: "Sequence[tuple[ir.Value, ir.Value]]" = ()
    """Keys and values before, by layer."""
    windowed: "ir.Value | None" = None
    """`bias` with the keys left out that lie further back than the model's window."""


@dataclass(frozen=True, kw_only=True)
class Read:
    """What a layer's attention yields."""

    mixed: "ir.Value"
    """(B, S, heads x width)"""
    present: "tuple[ir.Value, ir.Value]"


@dataclass(frozen=True, kw_only=True)
class CausalShape:
    """What of a causal model its inputs, caches and outputs depend on."""

    layers: int
    heads: int
    """of the cache"""
    width: int
    """of a head"""
    vocabulary: int
    projection: Dense
    """hidden states -> logits"""
    takes_positions: bool
    """Has the decoder positions as an input? Rotary ones are counted by the attention operator itself."""
    window: int | None = None
    """How far back some layers see, the token itself counted."""


Body = Callable[[GraphBuilder, "ir.Value", Attends, "ir.Value | None"], "tuple[ir.Value, list[Read]]"]
"""(graph, ids, attends, wanted rows (W,) or None for all) -> hidden states (W or N, D) behind the last normalization,
and what each layer's attention yielded."""


def causal_graphs(shape: CausalShape, body: Body, heads: Sequence[HeadWeights]) -> "dict[GraphName, ir.Model]":
    """All graphs of a causal model."""
    graphs: dict[GraphName, ir.Model] = {"score": _score(shape, body), "decoder": _decoder(shape, body)}
    return {**graphs, "heads": _heads(shape, body, heads)} if heads else graphs


def cache_names(layers: int) -> list[tuple[str, str]]:
    """Names of keys and values, by layer."""
    return [(f"key.{layer}", f"value.{layer}") for layer in range(layers)]


def _decoder(shape: CausalShape, body: Body) -> "ir.Model":
    graph = GraphBuilder("decoder")
    ids = ids_input(graph)
    positions = ids_input(graph, "positions") if shape.takes_positions else None
    attends = Attends(
        layout=layout_of(graph, ids),
        new=graph.input("new", dtype=INT32, shape=["batch"]),
        lengths=graph.input("seqlens_k", dtype=INT32, shape=["batch"]),
        total=graph.input("total_sequence_length", dtype=INT32, shape=[]),
        positions=positions,
        past=_past(graph, shape),
    )
    wanted = graph.input("wanted", dtype=INT64, shape=["wanted"])
    hidden, reads = body(graph, ids, attends, wanted)
    logits = dense(graph, hidden, shape.projection)
    graph.output("logits", logits, dtype=FLOAT, shape=["wanted", shape.vocabulary])
    for names, read in zip(cache_names(shape.layers), reads, strict=True):
        for name, value in zip(names, read.present, strict=True):
            graph.output(f"present_{name}", value, dtype=FLOAT, shape=["batch", shape.heads, "capacity", shape.width])
    return graph.model()


def _score(shape: CausalShape, body: Body) -> "ir.Model":
    graph = GraphBuilder("score")
    ids = ids_input(graph)
    positions = ids_input(graph, "positions")
    new = graph.input("new", dtype=INT32, shape=["batch"])
    lengths = graph.input("seqlens_k", dtype=INT32, shape=["batch"])
    total = graph.input("total_sequence_length", dtype=INT32, shape=[])
    bias = graph.input("bias", dtype=FLOAT, shape=["batch", 1, "columns", "total"])
    attends = Attends(
        layout=layout_of(graph, ids),
        new=new,
        lengths=lengths,
        total=total,
        positions=positions,
        bias=bias,
        past=_past(graph, shape),
        windowed=None if shape.window is None else _windowed(graph, shape.window, positions, bias, total),
    )
    wanted = graph.input("wanted", dtype=INT64, shape=["wanted"])
    index = graph.input("index", dtype=INT64, shape=["targets"])
    targets = graph.input("targets", dtype=INT64, shape=["targets"])
    hidden, _ = body(graph, ids, attends, wanted)
    logprob, greedy = token_scores(graph, dense(graph, hidden, shape.projection), index, targets)
    graph.output("logprob", logprob, dtype=FLOAT, shape=["targets"])
    graph.output("greedy", greedy, dtype=BOOL, shape=["targets"])
    return graph.model()


def _heads(shape: CausalShape, body: Body, heads: Sequence[HeadWeights]) -> "ir.Model":
    """Rows are padded on the right: no column sees what comes behind it, so attention needs no mask."""
    graph = GraphBuilder("heads")
    ids = ids_input(graph)
    mask = graph.input("mask", dtype=BOOL, shape=["batch", "columns"])
    batch, columns = (
        graph.add(
            "Cast", graph.add("Shape", ids, attributes={"start": axis, "end": axis + 1}), attributes={"to": INT32}
        )
        for axis in (0, 1)
    )
    total = graph.add("Reshape", columns, graph.integers())
    last = graph.add("Sub", columns, graph.constant("one", np.array([1], dtype=np.int32)))
    rows = graph.add("Cast", batch, attributes={"to": INT64})
    attends = Attends(
        layout=layout_of(graph, ids),
        lengths=graph.add("Expand", last, rows),
        total=total,
        positions=_counted(graph, ids, columns) if shape.takes_positions else None,
    )
    hidden, _ = body(graph, ids, attends, None)
    head_outputs(graph, hidden, attends.layout, mask, heads)
    return graph.model()


def token_scores(
    graph: GraphBuilder, logits: "ir.Value", index: "ir.Value", targets: "ir.Value"
) -> "tuple[ir.Value, ir.Value]":
    """Logits (W, V), places (N,) among W, tokens (N,) -> log-probability of each token, and is none likelier?"""
    logprobs = graph.add("LogSoftmax", logits, attributes={"axis": -1})
    last = graph.integers(-1)
    where = graph.add(
        "Concat", graph.add("Unsqueeze", index, last), graph.add("Unsqueeze", targets, last), attributes={"axis": -1}
    )
    logprob = graph.add("GatherND", logprobs, where)
    best = graph.add("ReduceMax", logprobs, last, attributes={"keepdims": 0})
    return logprob, graph.add("GreaterOrEqual", logprob, graph.add("Gather", best, index))


def _past(graph: GraphBuilder, shape: CausalShape) -> "list[tuple[ir.Value, ir.Value]]":
    axes: list[Size] = ["batch", shape.heads, "past", shape.width]
    return [
        (
            graph.input(f"past_{key}", dtype=FLOAT, shape=axes),
            graph.input(f"past_{value}", dtype=FLOAT, shape=axes),
        )
        for key, value in cache_names(shape.layers)
    ]


def _counted(graph: GraphBuilder, ids: "ir.Value", columns: "ir.Value") -> "ir.Value":
    """Positions 0, 1, ..., (B, S)."""
    zero, one = (graph.constant(f"int64.scalar.{number}", np.int64(number)) for number in (0, 1))
    whole = graph.add("Reshape", graph.add("Cast", columns, attributes={"to": INT64}), graph.integers())
    return graph.add("Expand", graph.add("Range", zero, whole, one), graph.add("Shape", ids))


def _windowed(
    graph: GraphBuilder, window: int, positions: "ir.Value", bias: "ir.Value", total: "ir.Value"
) -> "ir.Value":
    """The bias, with keys masked that lie `window` positions back or more. Keys of the past stand at 0, 1, ..."""
    whole = graph.add("Cast", total, attributes={"to": INT64})
    zero, one = (graph.constant(f"int64.scalar.{number}", np.int64(number)) for number in (0, 1))
    columns = graph.add("Shape", positions, attributes={"start": 1, "end": 2})
    before = graph.add("Sub", whole, graph.add("Reshape", columns, graph.integers()))
    past = graph.add("Unsqueeze", graph.add("Range", zero, before, one), graph.integers(0))
    rows = graph.add("Shape", positions, attributes={"start": 0, "end": 1})
    every = graph.add("Expand", past, graph.add("Concat", rows, graph.integers(1), attributes={"axis": 0}))
    keys = graph.add("Concat", every, positions, attributes={"axis": 1})
    back = graph.add(
        "Sub", graph.add("Unsqueeze", positions, graph.integers(2)), graph.add("Unsqueeze", keys, graph.integers(1))
    )
    near = graph.add("Less", back, graph.constant("window", np.int64(window)))
    masked = graph.constant("masked", np.float32(MASKED))
    return graph.add("Where", graph.add("Unsqueeze", near, graph.integers(1)), bias, masked)
