"""Averaged embeddings of tokens and of hashed pairs: the graph of `lmtasks/backbone/average.py`.

Rows are padded on the right.
"""

from typing import TYPE_CHECKING

import numpy as np

from lmtasks.export.checkpoint import Checkpoint
from lmtasks.export.emitters.blocks import ids_input, layout_of
from lmtasks.export.emitters.encoder import check_encoder
from lmtasks.export.emitters.heads import head_outputs
from lmtasks.export.graph import BOOL, GraphBuilder
from lmtasks.export.package import GraphName
from lmtasks.records import Floats32

if TYPE_CHECKING:
    import onnx_ir as ir

MULTIPLIER = 116_049_371
"""As in `lmtasks/backbone/average.py`."""
TO_THE_END = np.iinfo(np.int64).max


def emit_average(checkpoint: Checkpoint) -> "dict[GraphName, ir.Model]":
    """The graph of all heads.

    Raises:
        CannotEmit: it is no encoder, or has a weight that the graph has no place for.
    """
    check_encoder(checkpoint)
    weights = checkpoint.weights
    graph = GraphBuilder("heads")
    ids = ids_input(graph)
    mask = graph.input("mask", dtype=BOOL, shape=["batch", "columns"])
    layout = layout_of(graph, ids)
    table = weights.take("tokens.weight")
    x = graph.add("Gather", graph.constant("embedding.weight", table), ids)
    pairs = weights.find("pairs.weight")
    if pairs is not None:
        x = graph.add("Add", x, _pairs(graph, ids, pairs))
    hidden = layout.together(graph, x, table.shape[1])
    head_outputs(graph, hidden, layout, mask, checkpoint.heads)
    weights.check_all_taken()
    return {"heads": graph.model()}


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
