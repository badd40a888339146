"""A convolution over embeddings: the graph of `lmtasks/backbone/cnn.py`.

All filters are one product: behind each token stand the embeddings of the widest filter's window side by side, and
narrower filters have zeros where they do not look. So rounding reaches it as any other product, a window by a window.

Rows are padded on the right.
"""

from typing import TYPE_CHECKING

import numpy as np

from lmtasks.export.checkpoint import Checkpoint, Weights
from lmtasks.export.emitters.blocks import Dense, dense, flat, ids_input, layout_of, looked_up
from lmtasks.export.emitters.encoder import check_encoder
from lmtasks.export.emitters.heads import head_outputs
from lmtasks.export.graph import BOOL, GraphBuilder
from lmtasks.export.package import GraphName
from lmtasks.records import Floats32

if TYPE_CHECKING:
    import onnx_ir as ir

TO_THE_END = np.iinfo(np.int64).max


def emit_cnn(checkpoint: Checkpoint) -> "dict[GraphName, ir.Model]":
    """The graph of all heads.

    Raises:
        CannotEmit: it is no encoder, or has a weight that the graph has no place for.
    """
    check_encoder(checkpoint)
    weights = checkpoint.weights
    filters, before, after = _filters(weights)
    graph = GraphBuilder("heads")
    ids = ids_input(graph)
    mask = graph.input("mask", dtype=BOOL, shape=["batch", "columns"])
    layout = layout_of(graph, ids)
    table = weights.take("tokens.weight")
    x = layout.apart(graph, looked_up(graph, "embedding.weight", table, flat(graph, ids)))
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
    rows = layout.together(graph, wide, (last + 1) * table.shape[1])
    hidden = graph.add("Relu", dense(graph, rows, filters))
    head_outputs(graph, hidden, layout, mask, checkpoint.heads)
    weights.check_all_taken()
    return {"heads": graph.model()}


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
