"""What the graphs of all encoder-decoders share.

    encoder   reads the sources -> keys and values that every layer of the decoder attends to, computed once
    decoder   appends T tokens to each row's cache -> logits where they are wanted
    score     the same, -> log-probabilities of given tokens
    heads     reads texts with the encoder -> one output a head

Axes: B sources, S their columns, R rows of the decoder, T their new columns. R is a multiple of B, and rows that belong
to one source stand together: they are folded into the query axis of cross-attention, so that the source's keys and
values are neither repeated nor read more than once (81 against 173 us a layer for four beams).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lmtasks.export.checkpoint import HeadWeights
from lmtasks.export.emitters.blocks import Dense, Layout, dense, ids_input, layout_of
from lmtasks.export.emitters.causal import Attends, Read, cache_names, token_scores
from lmtasks.export.emitters.heads import head_outputs
from lmtasks.export.graph import BOOL, FLOAT, INT32, INT64, Attribute, GraphBuilder, Size
from lmtasks.export.package import GraphName

if TYPE_CHECKING:
    import onnx_ir as ir


@dataclass(frozen=True, kw_only=True)
class Crosses:
    """What cross-attention is told beside its queries."""

    real: "ir.Value"
    """int32 (B, S), 1 at the source's tokens."""
    shape: "ir.Value"
    """[B, -1, width of all heads]: all rows of a source behind each other."""
    sources: "Sequence[tuple[ir.Value, ir.Value]]"
    """Keys and values of the source by layer, (B, heads, S, width)."""
    heads: int
    scale: float | None
    """of the products of queries and keys; None: 1 / sqrt(width)"""


@dataclass(frozen=True, kw_only=True)
class PairShape:
    """What of an encoder-decoder its inputs, caches and outputs depend on."""

    layers: int
    """of the decoder"""
    heads: int
    width: int
    """of a head"""
    vocabulary: int
    projection: Dense
    """hidden states -> logits"""
    sources: tuple[tuple[Dense, Dense], ...]
    """The encoder's hidden states -> keys and values for each layer of the decoder."""
    scale: float | None = None


Encode = Callable[[GraphBuilder, "ir.Value", "ir.Value", Layout], "ir.Value"]
"""(graph, ids (B, S), mask bool (B, S), layout) -> hidden states (B x S, D)"""
Decode = Callable[[GraphBuilder, "ir.Value", Attends, Crosses, "ir.Value"], "tuple[ir.Value, list[Read]]"]
"""(graph, ids (R, T), attends, crosses, wanted (W,)) -> hidden states (W, D) that are projected, and what each layer's
attention to itself yielded."""


def pair_graphs(
    shape: PairShape, encode: Encode, decode: Decode, heads: Sequence[HeadWeights]
) -> "dict[GraphName, ir.Model]":
    """All graphs of an encoder-decoder."""
    graphs: dict[GraphName, ir.Model] = {
        "score": _score(shape, decode),
        "encoder": _encoder(shape, encode),
        "decoder": _decoder(shape, decode),
    }
    return {**graphs, "heads": _heads(encode, heads)} if heads else graphs


def cross_attention(graph: GraphBuilder, queries: "ir.Value", at: Crosses, layer: int) -> "ir.Value":
    """(R x T, heads x width) -> the same shape, mixed over the source."""
    folded = graph.add("Reshape", queries, at.shape)
    attributes: dict[str, Attribute] = {"num_heads": at.heads}
    if at.scale is not None:
        attributes["scale"] = at.scale
    mixed = graph.add("MultiHeadAttention", folded, *at.sources[layer], None, at.real, attributes=attributes)
    width = at.heads * int(at.sources[layer][0].shape[3])  # type: ignore[index, arg-type]  # declared as an input
    return graph.add("Reshape", mixed, graph.integers(-1, width))


def _encoder(shape: PairShape, encode: Encode) -> "ir.Model":
    graph = GraphBuilder("encoder")
    hidden, layout = _encoded(graph, encode, ids="source_ids", mask="source_mask", columns="source")
    apart = _sources(graph, shape, hidden, layout)
    axes: list[Size] = ["batch", shape.heads, "source", shape.width]
    for value, name in zip(apart, (name for pair in cache_names(shape.layers) for name in pair), strict=True):
        graph.output(f"cross_{name}", value, dtype=FLOAT, shape=axes)
    return graph.model()


def _sources(graph: GraphBuilder, shape: PairShape, hidden: "ir.Value", layout: Layout) -> "Sequence[ir.Value]":
    """Keys and values of all layers by one product, (B, heads, S, width) each, in the order of the caches' names."""
    parts = [part for pair in shape.sources for part in pair]
    biases = [part.bias for part in parts if part.bias is not None]
    whole = Dense(
        name="sources",
        weight=np.concatenate([part.weight for part in parts]),
        bias=np.concatenate(biases) if len(biases) == len(parts) else None,
    )
    sizes = graph.integers(len(parts), shape.heads, shape.width)
    start = graph.add("Slice", layout.shape, graph.integers(0), graph.integers(2))
    split = graph.add("Reshape", dense(graph, hidden, whole), graph.add("Concat", start, sizes, attributes={"axis": 0}))
    turned = graph.add("Transpose", split, attributes={"perm": (2, 0, 3, 1, 4)})
    pieces = graph.add_many("Split", turned, outputs=len(parts), attributes={"axis": 0, "num_outputs": len(parts)})
    return [graph.add("Squeeze", piece, graph.integers(0)) for piece in pieces]


def _decoder(shape: PairShape, decode: Decode) -> "ir.Model":
    graph = GraphBuilder("decoder")
    logits, reads = _logits(graph, shape, decode)
    graph.output("logits", logits, dtype=FLOAT, shape=["wanted", shape.vocabulary])
    for names, read in zip(cache_names(shape.layers), reads, strict=True):
        for name, value in zip(names, read.present, strict=True):
            graph.output(f"present_{name}", value, dtype=FLOAT, shape=["rows", shape.heads, "capacity", shape.width])
    return graph.model()


def _score(shape: PairShape, decode: Decode) -> "ir.Model":
    graph = GraphBuilder("score")
    logits, _ = _logits(graph, shape, decode)
    index = graph.input("index", dtype=INT64, shape=["targets"])
    targets = graph.input("targets", dtype=INT64, shape=["targets"])
    logprob, greedy = token_scores(graph, logits, index, targets)
    graph.output("logprob", logprob, dtype=FLOAT, shape=["targets"])
    graph.output("greedy", greedy, dtype=BOOL, shape=["targets"])
    return graph.model()


def _logits(graph: GraphBuilder, shape: PairShape, decode: Decode) -> "tuple[ir.Value, list[Read]]":
    """The decoder and its inputs: logits (W, V)."""
    ids = graph.input("ids", dtype=INT64, shape=["rows", "columns"])
    attends = Attends(
        layout=layout_of(graph, ids),
        positions=graph.input("positions", dtype=INT64, shape=["rows", "columns"]),
        new=graph.input("new", dtype=INT32, shape=["rows"]),
        lengths=graph.input("seqlens_k", dtype=INT32, shape=["rows"]),
        total=graph.input("total_sequence_length", dtype=INT32, shape=[]),
        past=_caches(graph, shape, part="past", axes=("rows", "past")),
    )
    mask = graph.input("source_mask", dtype=BOOL, shape=["batch", "source"])
    width = graph.integers(-1, shape.heads * shape.width)
    crosses = Crosses(
        real=graph.add("Cast", mask, attributes={"to": INT32}),
        shape=graph.add(
            "Concat", graph.add("Shape", mask, attributes={"start": 0, "end": 1}), width, attributes={"axis": 0}
        ),
        sources=_caches(graph, shape, part="cross", axes=("batch", "source")),
        heads=shape.heads,
        scale=shape.scale,
    )
    wanted = graph.input("wanted", dtype=INT64, shape=["wanted"])
    hidden, reads = decode(graph, ids, attends, crosses, wanted)
    return dense(graph, hidden, shape.projection), reads


def _heads(encode: Encode, heads: Sequence[HeadWeights]) -> "ir.Model":
    graph = GraphBuilder("heads")
    ids = ids_input(graph)
    mask = graph.input("mask", dtype=BOOL, shape=["batch", "columns"])
    layout = layout_of(graph, ids)
    head_outputs(graph, encode(graph, ids, mask, layout), layout, mask, heads)
    return graph.model()


def _encoded(graph: GraphBuilder, encode: Encode, *, ids: str, mask: str, columns: str) -> "tuple[ir.Value, Layout]":
    given = ids_input(graph, ids, columns=columns)
    real = graph.input(mask, dtype=BOOL, shape=["batch", columns])
    layout = layout_of(graph, given)
    return encode(graph, given, real, layout), layout


def _caches(
    graph: GraphBuilder, shape: PairShape, *, part: str, axes: tuple[str, str]
) -> "list[tuple[ir.Value, ir.Value]]":
    sizes: list[Size] = [axes[0], shape.heads, axes[1], shape.width]
    return [
        (
            graph.input(f"{part}_{key}", dtype=FLOAT, shape=sizes),
            graph.input(f"{part}_{value}", dtype=FLOAT, shape=sizes),
        )
        for key, value in cache_names(shape.layers)
    ]
