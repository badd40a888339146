"""RNN, LSTM and GRU language models: the graphs of `lmtasks/backbone/recurrent.py`.

    x = embedding(ids)
    for each layer: x, state = cell(x, state)
    logits = x embedding^T + bias

    decoder   reads tokens behind a state -> logits where they are wanted, and the state behind each row's last token
    score     the same -> log-probabilities of given tokens, and the state
    heads     reads whole rows -> one output a head

A state is what each layer says last, `hidden.<layer>`, and what an LSTM keeps beside it, `memory.<layer>`, each
(1, B, U). Rows are padded on the right, and each has at least one token. Layers read columns first, and nothing is
brought into another order for the places that are wanted: a place is column x B + row.

Axes: B batch, S columns, W wanted places, N targets, U units, V vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmtasks.export.checkpoint import CannotEmit, Checkpoint, HeadWeights, Weights
from lmtasks.export.emitters.bidirectional import rows_first
from lmtasks.export.emitters.blocks import Dense, dense, ids_input, layout_of, projection
from lmtasks.export.emitters.causal import token_scores
from lmtasks.export.emitters.cells import RecurrentCell, cell_of, columns_first, lengths_of, recurrent
from lmtasks.export.emitters.heads import head_outputs
from lmtasks.export.graph import BOOL, FLOAT, INT32, INT64, GraphBuilder
from lmtasks.export.package import GraphName
from lmtasks.records import Floats32

if TYPE_CHECKING:
    import onnx_ir as ir

PARTS = ("hidden", "memory")
"""Of a layer's state; only an LSTM has the second."""


@dataclass(frozen=True, kw_only=True)
class RecurrentEmitter:
    """The whole model."""

    table: Floats32
    """Embeddings, (V, U)."""
    layers: tuple[RecurrentCell, ...]
    head: Dense

    @property
    def units(self) -> int:
        """U"""
        return self.layers[0].units

    def said(
        self,
        graph: GraphBuilder,
        ids: "ir.Value",
        *,
        lengths: "ir.Value",
        before: "Sequence[Sequence[ir.Value]]",
    ) -> "tuple[ir.Value, list[Sequence[ir.Value]]]":
        """What the last layer says, (S, 1, B, U), and the parts of each layer's state behind each row's last token.

        Args:
            before: the parts of each layer's state; none: zeros.
        """
        x = columns_first(graph, "embedding.weight", self.table, ids)
        after: list[Sequence[ir.Value]] = []
        for number, cell in enumerate(self.layers):
            if number:
                x = graph.add("Squeeze", x, graph.integers(1))  # one way alone
            state = before[number] if before else ()
            x, *parts = recurrent(graph, f"layers.{number}", x, (cell,), lengths=lengths, before=state)
            after.append(parts)
        return x, after


def emit_recurrent(checkpoint: Checkpoint) -> "dict[GraphName, ir.Model]":
    """The graphs of a recurrent language model.

    Raises:
        CannotEmit: it is used as another kind of model, or has a weight that the graphs have no place for.
    """
    weights = checkpoint.weights
    if checkpoint.card.kind != "causal":
        raise CannotEmit(f"it is used as {checkpoint.card.kind}; as a causal model it is built")
    table = weights.take("tokens.weight")
    model = RecurrentEmitter(
        table=table,
        layers=_layers(weights, checkpoint.card.family),
        head=projection(table, table, weights.take("bias")),
    )
    weights.check_all_taken()
    graphs: dict[GraphName, ir.Model] = {
        "score": _reading("score", model, _scores),
        "decoder": _reading("decoder", model, _logits),
    }
    return {**graphs, "heads": _heads(model, checkpoint.heads)} if checkpoint.heads else graphs


def _layers(weights: Weights, kind: str) -> tuple[RecurrentCell, ...]:
    layers: list[RecurrentCell] = []
    while f"layers.{len(layers)}.weight_ih_l0" in weights:
        layers.append(cell_of(weights, f"layers.{len(layers)}", kind))
    return tuple(layers)


def _reading(
    name: str, model: RecurrentEmitter, answers: "Callable[[GraphBuilder, RecurrentEmitter, ir.Value], None]"
) -> "ir.Model":
    """A graph that reads on from a state.

    Args:
        answers: adds the outputs beside the state, given what the last layer says where it is wanted, (W, U).
    """
    graph = GraphBuilder(name)
    ids = ids_input(graph)
    lengths = graph.input("new", dtype=INT32, shape=["batch"])
    names = [[f"{part}.{number}" for part in _parts(cell)] for number, cell in enumerate(model.layers)]
    before = [
        [graph.input(f"past_{part}", dtype=FLOAT, shape=[1, "batch", model.units]) for part in parts] for parts in names
    ]
    wanted = graph.input("wanted", dtype=INT64, shape=["wanted"])
    said, after = model.said(graph, ids, lengths=lengths, before=before)
    flat = graph.add("Reshape", said, graph.integers(-1, model.units))
    answers(graph, model, graph.add("Gather", flat, wanted))
    for parts, values in zip(names, after, strict=True):
        for part, value in zip(parts, values, strict=True):
            graph.output(f"present_{part}", value, dtype=FLOAT, shape=[1, "batch", model.units])
    return graph.model()


def _parts(cell: RecurrentCell) -> tuple[str, ...]:
    return PARTS if cell.kind == "lstm" else PARTS[:1]


def _logits(graph: GraphBuilder, model: RecurrentEmitter, hidden: "ir.Value") -> None:
    logits = dense(graph, hidden, model.head)
    graph.output("logits", logits, dtype=FLOAT, shape=["wanted", len(model.head.weight)])


def _scores(graph: GraphBuilder, model: RecurrentEmitter, hidden: "ir.Value") -> None:
    index = graph.input("index", dtype=INT64, shape=["targets"])
    targets = graph.input("targets", dtype=INT64, shape=["targets"])
    logprob, greedy = token_scores(graph, dense(graph, hidden, model.head), index, targets)
    graph.output("logprob", logprob, dtype=FLOAT, shape=["targets"])
    graph.output("greedy", greedy, dtype=BOOL, shape=["targets"])


def _heads(model: RecurrentEmitter, heads: Sequence[HeadWeights]) -> "ir.Model":
    graph = GraphBuilder("heads")
    ids = ids_input(graph)
    mask = graph.input("mask", dtype=BOOL, shape=["batch", "columns"])
    said, _ = model.said(graph, ids, lengths=lengths_of(graph, mask), before=())
    head_outputs(graph, rows_first(graph, said, width=model.units), layout_of(graph, ids), mask, heads)
    return graph.model()
