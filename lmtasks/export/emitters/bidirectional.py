"""LSTM and GRU in both directions: the graphs of `lmtasks/backbone/bidirectional.py`.

Rows are padded on the right. Heads that take the maximum over time take it of what the last layer says as it lies,
(S, ways, B, U), and nothing is brought into another order for them.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lmtasks.export.checkpoint import Checkpoint, Weights
from lmtasks.export.emitters.blocks import Dense, dense, ids_input, layout_of
from lmtasks.export.emitters.cells import RecurrentCell, cell_of, columns_first, lengths_of, recurrent
from lmtasks.export.emitters.encoder import check_encoder
from lmtasks.export.emitters.heads import LEAST, head_outputs, name_head
from lmtasks.export.graph import BOOL, GraphBuilder
from lmtasks.export.package import GraphName

if TYPE_CHECKING:
    import onnx_ir as ir

Layers = Sequence[tuple[RecurrentCell, RecurrentCell]]
"""Forth and back."""


def emit_bidirectional(checkpoint: Checkpoint) -> "dict[GraphName, ir.Model]":
    """The graph of all heads.

    Raises:
        CannotEmit: it is no encoder, or has a weight that the graph has no place for.
    """
    check_encoder(checkpoint)
    weights = checkpoint.weights
    layers = layers_of(weights, checkpoint.card.family.removeprefix("bi"))
    graph = GraphBuilder("heads")
    ids = ids_input(graph)
    mask = graph.input("mask", dtype=BOOL, shape=["batch", "columns"])
    x = columns_first(graph, "embedding.weight", weights.take("tokens.weight"), ids)
    said = both_ways(graph, x, layers, lengths=lengths_of(graph, mask))
    width = 2 * layers[-1][0].units
    highest = [head for head in checkpoint.heads if head.spec.pooling == "max" and head.spec.kind == "classification"]
    others = [head for head in checkpoint.heads if head not in highest]
    if highest:
        pooled = _maximum(graph, said, mask, width=width)
        for head in highest:
            output = Dense(
                name=f"head.{head.spec.name}.output",
                weight=head.weights["output.weight"],
                bias=head.weights["output.bias"],
            )
            name_head(graph, dense(graph, pooled, output), head)
    if others:
        hidden = rows_first(graph, said, width=width)
        head_outputs(graph, hidden, layout_of(graph, ids), mask, others)
    weights.check_all_taken()
    return {"heads": graph.model()}


def layers_of(weights: Weights, kind: str) -> Layers:
    """Of `BothWays`, whose weights alone tell how many there are."""
    layers: list[tuple[RecurrentCell, RecurrentCell]] = []
    while f"reader.forth.{len(layers)}.weight_ih_l0" in weights:
        number = len(layers)
        layers.append(
            (cell_of(weights, f"reader.forth.{number}", kind), cell_of(weights, f"reader.back.{number}", kind))
        )
    return layers


def both_ways(graph: GraphBuilder, x: "ir.Value", layers: Layers, *, lengths: "ir.Value") -> "ir.Value":
    """(S, B, D) -> what the last layer says, (S, 2, B, U)"""
    for number, cells in enumerate(layers):
        if number:
            beside = graph.add("Transpose", x, attributes={"perm": (0, 2, 1, 3)})
            x = graph.add("Reshape", beside, graph.integers(0, 0, 2 * layers[number - 1][0].units))
        x = recurrent(graph, f"reader.{number}", x, cells, lengths=lengths)[0]
    return x


def rows_first(graph: GraphBuilder, said: "ir.Value", *, width: int) -> "ir.Value":
    """(S, 2, B, U) -> (N, D)"""
    return graph.add(
        "Reshape", graph.add("Transpose", said, attributes={"perm": (2, 0, 1, 3)}), graph.integers(-1, width)
    )


def _maximum(graph: GraphBuilder, said: "ir.Value", mask: "ir.Value", *, width: int) -> "ir.Value":
    """Over the tokens of each row, (S, 2, B, U) -> (B, D)"""
    seen = graph.add(
        "Unsqueeze", graph.add("Transpose", mask, attributes={"perm": (1, 0)}), graph.integers(1, 3)
    )  # (S, 1, B, 1)
    real = graph.add("Where", seen, said, graph.constant("least", np.float32(LEAST)))
    best = graph.add("ReduceMax", real, graph.integers(0), attributes={"keepdims": 0})
    return graph.add("Reshape", graph.add("Transpose", best, attributes={"perm": (1, 0, 2)}), graph.integers(-1, width))
