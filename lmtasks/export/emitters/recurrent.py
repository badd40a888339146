"""Recurrent networks: the graphs of `lmtasks/backbone/recurrent.py` (RNN, LSTM and GRU language models) and of
`lmtasks/backbone/bidirectional.py` (LSTM and GRU in both directions).

    x = embedding(ids)
    for each layer: x, state = cell(x, state)
    logits = x embedding^T + bias

    decoder   reads tokens behind a state -> logits where they are wanted, and the state behind each row's last token
    score     the same -> log-probabilities of given tokens, and the state
    heads     reads whole rows -> one output a head; of networks in both directions, the only graph

A state is each layer's last output, `hidden.<layer>`, and an LSTM's memory beside it, `memory.<layer>`, each (1, B, U).
Rows are padded on the right, and each has at least one token. ONNX's layers know the real length of each row: nothing
is packed, and the way back begins at a row's own last token. They read columns first, and nothing is brought into
another order for the places that are wanted (a place is column x B + row), nor for a maximum over time.

ONNX keeps the gates of an LSTM as i, o, f, c where torch has i, f, g, o, and those of a GRU as z, r, h where torch has
r, z, n. torch's GRU multiplies with the reset gate behind the product: `linear_before_reset`.

Axes: B batch, S columns, D width of what a layer reads, G gates, U units of a layer, W wanted places, V vocabulary.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from lmtasks.export.checkpoint import Checkpoint, HeadWeights, Weights
from lmtasks.export.emitters.architecture import Architecture, Graphs, counted_layers, in_each
from lmtasks.export.emitters.blocks import Dense, dense, ids_input, layout_of, projection
from lmtasks.export.emitters.decoder import check_causal, score_outputs
from lmtasks.export.emitters.encoder import check_encoder
from lmtasks.export.emitters.heads import LEAST, GraphOperators, GraphTokens, head_outputs, name_head
from lmtasks.export.graph import BOOL, FLOAT, INT32, INT64, Attribute, GraphBuilder
from lmtasks.export.package import Operators
from lmtasks.head import head_of
from lmtasks.records import Floats32

if TYPE_CHECKING:
    import onnx_ir as ir

GATES: Mapping[str, Sequence[int]] = {"rnn": (0,), "lstm": (0, 3, 1, 2), "gru": (1, 0, 2)}
"""By cell: which of torch's gates stands at each of ONNX's places."""
OPERATORS: Mapping[str, str] = {"rnn": "RNN", "lstm": "LSTM", "gru": "GRU"}
STATE_PARTS = ("hidden", "memory")
"""Parts of a layer's state; only an LSTM has the second."""


@dataclass(frozen=True, kw_only=True)
class RecurrentCell:
    """One layer, one way, its gates in ONNX's order."""

    kind: str
    """`rnn`, `lstm` or `gru`."""
    given: Floats32
    """(G x U, D)"""
    kept: Floats32
    """(G x U, U)"""
    bias: Floats32
    """(2 x G x U,): for what is given, then for what is kept."""

    @property
    def units(self) -> int:
        """U"""
        return int(self.kept.shape[1])

    @property
    def state_parts(self) -> tuple[str, ...]:
        """Names of the parts of its state."""
        return STATE_PARTS if self.kind == "lstm" else STATE_PARTS[:1]


@dataclass(frozen=True, kw_only=True)
class RecurrentModel:
    """A language model that reads from left to right."""

    table: Floats32
    """Embeddings, (V, U)."""
    layers: tuple[RecurrentCell, ...]
    head: Dense

    @property
    def units(self) -> int:
        """U"""
        return self.layers[0].units

    def outputs(
        self,
        graph: GraphBuilder,
        ids: "ir.Value",
        *,
        lengths: "ir.Value",
        before: "Sequence[Sequence[ir.Value]]",
    ) -> "tuple[ir.Value, list[Sequence[ir.Value]]]":
        """Outputs of the last layer, (S, 1, B, U), and the parts of each layer's state behind each row's last token.

        Args:
            before: the parts of each layer's state; none: zeros.
        """
        x = _columns_first(graph, self.table, ids)
        after: list[Sequence[ir.Value]] = []
        for number, cell in enumerate(self.layers):
            if number:
                x = graph.add("Squeeze", x, graph.integers(1))  # one way alone
            state = before[number] if before else ()
            x, *parts = _recurrent(graph, f"layers.{number}", x, (cell,), lengths=lengths, before=state)
            after.append(parts)
        return x, after


def _emit_language_model(checkpoint: Checkpoint) -> Graphs:
    weights = checkpoint.weights
    check_causal(checkpoint)
    table = weights.take("tokens.weight")
    model = RecurrentModel(
        table=table,
        layers=tuple(
            _cell(weights, f"layers.{number}", checkpoint.card.family)
            for number in range(counted_layers(weights, "layers"))
        ),
        head=projection(table, table, weights.take("bias")),
    )
    weights.check_all_taken()
    graphs: Graphs = {
        "score": _reading("score", model, score_outputs),
        "decoder": _reading("decoder", model, partial(_logits_output, vocabulary=len(table))),
    }
    return {**graphs, "heads": _heads(model, checkpoint.heads)} if checkpoint.heads else graphs


def _emit_bidirectional(checkpoint: Checkpoint) -> Graphs:
    check_encoder(checkpoint)
    weights, kind = checkpoint.weights, checkpoint.card.family.removeprefix("bi")
    layers = [
        (_cell(weights, f"reader.forth.{number}", kind), _cell(weights, f"reader.back.{number}", kind))
        for number in range(counted_layers(weights, "reader.forth"))
    ]
    graph = GraphBuilder("heads")
    ids = ids_input(graph)
    mask = graph.input("mask", dtype=BOOL, shape=["batch", "columns"])
    x = _columns_first(graph, weights.take("tokens.weight"), ids)
    lengths = _lengths(graph, mask)
    for number, cells in enumerate(layers):
        if number:
            beside = graph.add("Transpose", x, attributes={"perm": (0, 2, 1, 3)})
            x = graph.add("Reshape", beside, graph.integers(0, 0, 2 * layers[number - 1][0].units))
        x = _recurrent(graph, f"reader.{number}", x, cells, lengths=lengths)[0]
    width = 2 * layers[-1][0].units
    highest = [head for head in checkpoint.heads if head.per_text and head.spec.pooling == "max"]
    others = [head for head in checkpoint.heads if head not in highest]
    if highest:
        pooled = _maximum(graph, x, mask, width=width)
        for head in highest:
            operators = GraphOperators(
                graph, head, tokens=GraphTokens(ids=ids, mask=mask), pool=lambda states, pooling: states
            )
            name_head(graph, head_of(head.spec).logits(operators, pooled, head.spec), head)
    if others:
        head_outputs(
            graph, _rows_first(graph, x, width=width), layout_of(graph, ids), GraphTokens(ids=ids, mask=mask), others
        )
    weights.check_all_taken()
    return {"heads": graph.model()}


def _cell(weights: Weights, name: str, kind: str) -> RecurrentCell:
    """A layer of torch's."""

    def gates(part: str) -> Floats32:
        torch_order = np.split(weights.take(f"{name}.{part}_l0"), len(GATES[kind]))
        return np.concatenate([torch_order[place] for place in GATES[kind]])

    return RecurrentCell(
        kind=kind,
        given=gates("weight_ih"),
        kept=gates("weight_hh"),
        bias=np.concatenate([gates("bias_ih"), gates("bias_hh")]),
    )


def _recurrent(
    graph: GraphBuilder,
    name: str,
    x: "ir.Value",
    cells: Sequence[RecurrentCell],
    *,
    lengths: "ir.Value",
    before: "Sequence[ir.Value]" = (),
) -> "Sequence[ir.Value]":
    """One layer, one way or both.

    Args:
        name: of its weights.
        x: (S, B, D)
        cells: forth, or forth and back.
        lengths: int32 (B,), each at least 1.
        before: the state that each row begins with, one value a part of it, (ways, B, U); none: zeros.

    Returns:
        Its outputs, (S, ways, B, U), zeros behind a row's end; then the parts of the state behind each row's last
        token, (ways, B, U).
    """
    kind = cells[0].kind
    attributes: dict[str, Attribute] = {
        "hidden_size": cells[0].units,
        "direction": "bidirectional" if len(cells) == 2 else "forward",
    }
    if kind == "gru":
        attributes["linear_before_reset"] = 1
    return graph.add_many(
        OPERATORS[kind],
        x,
        graph.constant(f"{name}.given", np.stack([cell.given for cell in cells])),
        graph.constant(f"{name}.kept", np.stack([cell.kept for cell in cells])),
        graph.constant(f"{name}.bias", np.stack([cell.bias for cell in cells])),
        lengths,
        *before,
        outputs=1 + len(cells[0].state_parts),
        attributes=attributes,
    )


def _reading(name: str, model: RecurrentModel, answers: "Callable[[GraphBuilder, ir.Value], None]") -> "ir.Model":
    """A graph that reads on from a state.

    Args:
        answers: adds the outputs beside the state, given the logits where they are wanted, (W, V).
    """
    graph = GraphBuilder(name)
    ids = ids_input(graph)
    lengths = graph.input("new", dtype=INT32, shape=["batch"])
    names = [[f"{part}.{number}" for part in cell.state_parts] for number, cell in enumerate(model.layers)]
    before = [
        [graph.input(f"past_{part}", dtype=FLOAT, shape=[1, "batch", model.units]) for part in parts] for parts in names
    ]
    wanted = graph.input("wanted", dtype=INT64, shape=["wanted"])
    outputs, after = model.outputs(graph, ids, lengths=lengths, before=before)
    flat = graph.add("Reshape", outputs, graph.integers(-1, model.units))
    answers(graph, dense(graph, graph.add("Gather", flat, wanted), model.head))
    for parts, values in zip(names, after, strict=True):
        for part, value in zip(parts, values, strict=True):
            graph.output(f"present_{part}", value, dtype=FLOAT, shape=[1, "batch", model.units])
    return graph.model()


def _logits_output(graph: GraphBuilder, logits: "ir.Value", *, vocabulary: int) -> None:
    graph.output("logits", logits, dtype=FLOAT, shape=["wanted", vocabulary])


def _heads(model: RecurrentModel, heads: Sequence[HeadWeights]) -> "ir.Model":
    graph = GraphBuilder("heads")
    ids = ids_input(graph)
    mask = graph.input("mask", dtype=BOOL, shape=["batch", "columns"])
    outputs, _ = model.outputs(graph, ids, lengths=_lengths(graph, mask), before=())
    head_outputs(
        graph,
        _rows_first(graph, outputs, width=model.units),
        layout_of(graph, ids),
        GraphTokens(ids=ids, mask=mask),
        heads,
    )
    return graph.model()


def _lengths(graph: GraphBuilder, mask: "ir.Value") -> "ir.Value":
    """Lengths of right-padded rows, bool (B, S) -> int32 (B,). A row without any token reads one column of padding:
    the operators take no empty rows."""
    real = graph.add("Cast", mask, attributes={"to": INT32})
    counted = graph.add("ReduceSum", real, graph.integers(1), attributes={"keepdims": 0})
    return graph.add("Max", counted, graph.constant("int32.1", np.int32(1)))


def _columns_first(graph: GraphBuilder, table: Floats32, ids: "ir.Value") -> "ir.Value":
    """Embeddings of ids (B, S) as recurrent layers read them, (S, B, D)."""
    turned = graph.add("Transpose", ids, attributes={"perm": (1, 0)})
    return graph.add("Gather", graph.constant("embedding.weight", table), turned)


def _rows_first(graph: GraphBuilder, outputs: "ir.Value", *, width: int) -> "ir.Value":
    """(S, ways, B, U) -> (N, D)"""
    turned = graph.add("Transpose", outputs, attributes={"perm": (2, 0, 1, 3)})
    return graph.add("Reshape", turned, graph.integers(-1, width))


def _maximum(graph: GraphBuilder, outputs: "ir.Value", mask: "ir.Value", *, width: int) -> "ir.Value":
    """Over the tokens of each row, (S, 2, B, U) -> (B, D)"""
    seen = graph.add(
        "Unsqueeze", graph.add("Transpose", mask, attributes={"perm": (1, 0)}), graph.integers(1, 3)
    )  # (S, 1, B, 1)
    real = graph.add("Where", seen, outputs, graph.constant("least", np.float32(LEAST)))
    best = graph.add("ReduceMax", real, graph.integers(0), attributes={"keepdims": 0})
    return graph.add("Reshape", graph.add("Transpose", best, attributes={"perm": (1, 0, 2)}), graph.integers(-1, width))


def _operators_of_language_model(checkpoint: Checkpoint) -> Operators:
    kind = OPERATORS[checkpoint.card.family]
    return in_each({kind: counted_layers(checkpoint.weights, "layers")}, "score", "decoder", "heads")


def _operators_of_bidirectional(checkpoint: Checkpoint) -> Operators:
    kind = OPERATORS[checkpoint.card.family.removeprefix("bi")]
    return {"heads": {kind: counted_layers(checkpoint.weights, "reader.forth")}}


RECURRENT = Architecture(name="recurrent", version=1, emit=_emit_language_model, operators=_operators_of_language_model)
BIDIRECTIONAL = Architecture(
    name="bidirectional", version=1, emit=_emit_bidirectional, operators=_operators_of_bidirectional
)
