"""Encoders of one step: the graphs of `lmtasks/backbone/average.py` (embeddings of tokens and of hashed pairs) and of
`lmtasks/backbone/cnn.py` (a convolution over embeddings). Rows are padded on the right.

All filters of a CNN are one product: behind each token stand the embeddings of the widest filter's window side by side,
and narrower filters have zeros where they do not look. So rounding reaches it as any other product.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from lmtasks.export.checkpoint import Checkpoint, Weights
from lmtasks.export.emitters.architecture import Architecture, Graphs, no_operators
from lmtasks.export.emitters.blocks import Dense, EmbeddingTable, Layout, dense, flat, ids_input, layout_of, looked_up
from lmtasks.export.emitters.encoder import check_encoder
from lmtasks.export.emitters.heads import GraphTokens, head_outputs
from lmtasks.export.graph import BOOL, GraphBuilder
from lmtasks.records import Floats32

if TYPE_CHECKING:
    import onnx_ir as ir

MULTIPLIER = 116_049_371
"""As in `lmtasks/backbone/average.py`."""
TO_THE_END = np.iinfo(np.int64).max

Hidden = Callable[[GraphBuilder, Weights, "ir.Value", "ir.Value", Layout], "ir.Value"]
"""(graph, weights, ids (B, S), mask (B, S), layout) -> hidden states (N, D)"""


def _emit(checkpoint: Checkpoint, hidden: Hidden) -> Graphs:
    check_encoder(checkpoint)
    graph = GraphBuilder("heads")
    ids = ids_input(graph)
    mask = graph.input("mask", dtype=BOOL, shape=["batch", "columns"])
    layout = layout_of(graph, ids)
    states = hidden(graph, checkpoint.weights, ids, mask, layout)
    head_outputs(graph, states, layout, GraphTokens(ids=ids, mask=mask), checkpoint.heads)
    checkpoint.weights.check_all_taken()
    return {"heads": graph.model()}


def _averaged(graph: GraphBuilder, weights: Weights, ids: "ir.Value", mask: "ir.Value", layout: Layout) -> "ir.Value":
    """Vectors that the heads average."""
    del mask
    table = weights.take("tokens.weight")
    x = graph.add("Gather", graph.constant("embedding.weight", table), ids)
    pairs = weights.find("pairs.weight")
    if pairs is not None:
        x = graph.add("Add", x, _pairs(graph, ids, pairs))
    return layout.together(graph, x, table.shape[1])


def _pairs(graph: GraphBuilder, ids: "ir.Value", table: Floats32) -> "ir.Value":
    """The vectors of the pairs that end at each token, (B, S, D); the first token ends none."""
    columns = graph.integers(1)
    before = graph.add("Slice", ids, graph.integers(0), graph.integers(-1), columns)
    behind = graph.add("Slice", ids, graph.integers(1), graph.integers(TO_THE_END), columns)
    spread = graph.add("Mul", before, graph.constant("multiplier", np.int64(MULTIPLIER)))
    mixed = graph.add("Add", spread, behind)
    buckets = graph.add("Mod", mixed, graph.constant("buckets", np.int64(len(table))))
    found = graph.add("Gather", graph.constant("pairs.weight", table), buckets)
    return graph.add("Pad", found, graph.integers(0, 1, 0, 0, 0, 0), graph.constant("nothing", np.float32(0)))


def _convolved(graph: GraphBuilder, weights: Weights, ids: "ir.Value", mask: "ir.Value", layout: Layout) -> "ir.Value":
    filters, before, after = _filters(weights)
    table = EmbeddingTable(name="embedding.weight", rows=weights.take("tokens.weight"))
    x = layout.apart(graph, looked_up(graph, table, flat(graph, ids)))
    nothing = graph.constant("nothing", np.float32(0))
    x = graph.add("Where", graph.add("Unsqueeze", mask, graph.integers(2)), x, nothing)
    x = graph.add("Pad", x, graph.integers(0, before, 0, 0, after, 0), nothing)
    last = before + after
    windows = [
        graph.add(
            "Slice",
            x,
            graph.integers(place),
            graph.integers(TO_THE_END if place == last else place - last),
            graph.integers(1),
        )
        for place in range(last + 1)
    ]
    wide = windows[0] if not last else graph.add("Concat", *windows, attributes={"axis": 2})
    rows = layout.together(graph, wide, (last + 1) * table.rows.shape[1])
    return graph.add("Relu", dense(graph, rows, filters))


def _filters(weights: Weights) -> tuple[Dense, int, int]:
    """All filters as one product, and how many tokens the widest window reaches back and ahead."""
    kernels: list[Floats32] = []  # (filters, D, width of a window) each
    while f"filters.{len(kernels)}.weight" in weights:
        kernels.append(weights.take(f"filters.{len(kernels)}.weight"))
    widths = [kernel.shape[2] for kernel in kernels]
    before, after = max((width - 1) // 2 for width in widths), max(width // 2 for width in widths)
    parts = []
    for kernel, width in zip(kernels, widths, strict=True):
        part = np.zeros((kernel.shape[0], before + 1 + after, kernel.shape[1]), dtype=np.float32)
        first = before - (width - 1) // 2
        part[:, first : first + width] = kernel.transpose(0, 2, 1)
        parts.append(part.reshape(len(part), -1))
    bias = np.concatenate([weights.take(f"filters.{number}.bias") for number in range(len(kernels))])
    return Dense(name="filters", weight=np.concatenate(parts), bias=bias), before, after


AVERAGE = Architecture(
    name="average", version=1, emit=lambda checkpoint: _emit(checkpoint, _averaged), operators=no_operators
)
CNN = Architecture(name="cnn", version=1, emit=lambda checkpoint: _emit(checkpoint, _convolved), operators=no_operators)
