"""Heads of ours behind hidden states: the operators that `lmtasks/head` builds them of. One named output each.

Axes: B batch, S columns, N = B x S rows, D width, C outputs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lmtasks.export.checkpoint import HeadWeights
from lmtasks.export.emitters.blocks import Dense, Layout, activation, dense
from lmtasks.export.graph import FLOAT, INT32, INT64, GraphBuilder
from lmtasks.head import head_of
from lmtasks.head.base import SHUT_OUT
from lmtasks.head.words import FIRST, MULTIPLIERS, PRIME, WordTable

if TYPE_CHECKING:
    import onnx_ir as ir

TO_THE_END = np.iinfo(np.int64).max
LEAST = np.finfo(np.float32).min
"""Value at padding for a maximum over the tokens of a row."""


@dataclass(frozen=True, kw_only=True)
class GraphTokens:
    """The rows that heads answer, as their graph is given them."""

    ids: "ir.Value"
    """int64 (B, S)"""
    mask: "ir.Value"
    """bool (B, S), True at tokens."""


def head_outputs(
    graph: GraphBuilder, hidden: "ir.Value", layout: Layout, tokens: GraphTokens, heads: Sequence[HeadWeights]
) -> None:
    """Add the heads to a graph, each as an output `head.<name>`.

    Args:
        hidden: (N, D)
    """
    mask = tokens.mask
    for head in heads:
        kind = head_of(head.spec)
        operators = GraphOperators(
            graph, head, tokens=tokens, pool=lambda states, pooling: pooled(graph, states, layout, mask, pooling)
        )
        logits = kind.logits(operators, hidden, head.spec)
        if kind.per_token:
            logits = layout.apart(graph, logits)
        if kind.over_tokens:
            unseen = graph.constant("unseen", np.float32(SHUT_OUT))
            logits = graph.add("Where", graph.add("Unsqueeze", mask, graph.integers(2)), logits, unseen)
        name_head(graph, logits, head)


def name_head(graph: GraphBuilder, logits: "ir.Value", head: HeadWeights) -> None:
    """Declare logits, (B, C) or (B, S, C), as the output of a head."""
    axes: list[int | str] = ["batch"] if head.per_text else ["batch", "columns"]
    classes = head_of(head.spec).outputs(head.spec)
    graph.output(f"head.{head.spec.name}", logits, dtype=FLOAT, shape=[*axes, classes])


class GraphOperators:
    """`lmtasks.head.base.HeadOperators` over values of a graph: rows (N, D), and (B, D) once they are pooled.

    Args:
        tokens: of the same rows.
        pool: (hidden states, pooling) -> one state a row.
    """

    def __init__(
        self,
        graph: GraphBuilder,
        head: HeadWeights,
        *,
        tokens: GraphTokens,
        pool: Callable[["ir.Value", str], "ir.Value"],
    ) -> None:
        self._graph = graph
        self._head = head
        self._tokens = tokens
        self._pool = pool

    def dense(self, layer: str, x: "ir.Value") -> "ir.Value":
        """See `HeadOperators`."""
        return dense(self._graph, x, layer_of(self._head, layer))

    def dropout(self, x: "ir.Value") -> "ir.Value":
        """Nothing: a graph has learned."""
        return x

    def gelu(self, x: "ir.Value") -> "ir.Value":
        """See `HeadOperators`."""
        return activation(self._graph, x, "gelu")

    def pool(self, hidden: "ir.Value", pooling: str) -> "ir.Value":
        """See `HeadOperators`."""
        return self._pool(hidden, pooling)

    def words(self, logits: "ir.Value") -> "ir.Value":
        """See `HeadOperators`."""
        assert self._head.words is not None  # a head with words has their table
        name = f"head.{self._head.spec.name}.words"
        return self._graph.add("Add", logits, _words(self._graph, name, self._head.words, self._tokens))


def _words(graph: GraphBuilder, name: str, table: WordTable, tokens: GraphTokens) -> "ir.Value":
    """What the n-grams of each row weigh, (B, C), as `lmtasks.head.module.WordsModule` has it."""
    ids, mask = tokens.ids, tokens.mask

    def number(value: int) -> "ir.Value":
        return graph.constant(f"whole.{value}", np.int64(value))

    def columns(value: "ir.Value", first: int, end: int) -> "ir.Value":
        return graph.add("Slice", value, graph.integers(first), graph.integers(end), graph.integers(1))

    before = graph.add("Add", columns(ids, 0, -1), number(1))
    alone = graph.add("Mul", ids, number(0))
    first = graph.add("Concat", alone, before, attributes={"axis": 1})
    last = graph.add("Concat", ids, columns(ids, 1, TO_THE_END), attributes={"axis": 1})
    neighbours = graph.add("And", columns(mask, 0, -1), columns(mask, 1, TO_THE_END))
    real = graph.add("Concat", mask, neighbours, attributes={"axis": 1})
    ngram = graph.add("Add", graph.add("Mul", first, number(FIRST)), last)
    wanted = graph.add("Where", real, ngram, number(-1))
    rows = graph.add("Mul", wanted, number(0))
    for one, other in MULTIPLIERS:
        mixed = graph.add("Add", graph.add("Mul", first, number(one)), graph.add("Mul", last, number(other)))
        place = graph.add("Mod", graph.add("Mod", mixed, number(PRIME)), number(len(table.slots)))
        slot = graph.add("Gather", graph.constant(f"{name}.slots", table.slots), place)
        row = graph.add("Cast", slot, attributes={"to": INT64})
        found = graph.add("Gather", graph.constant(f"{name}.ngrams", table.ngrams), row)
        rows = graph.add("Where", graph.add("Equal", found, wanted), row, rows)
    weights = graph.add("Gather", graph.constant(f"{name}.weight", table.weights), rows)
    squares = graph.add("Gather", graph.constant(f"{name}.squares", table.squares), rows)
    total = graph.add("ReduceSum", weights, graph.integers(1), attributes={"keepdims": 0})
    square = graph.add("ReduceSum", squares, graph.integers(1), attributes={"keepdims": 1})
    some = graph.add("Max", square, graph.constant("float.1", np.float32(1)))
    return graph.add("Div", total, graph.add("Sqrt", some))


def pooled(graph: GraphBuilder, hidden: "ir.Value", layout: Layout, mask: "ir.Value", pooling: str) -> "ir.Value":
    """Hidden states of a text as one, (N, D) -> (B, D).

    Args:
        pooling: `mean` or `max` of the tokens, or the `first` or `last` one.
    """
    if pooling == "mean":
        real = graph.add("Cast", mask, attributes={"to": FLOAT})
        # One product a row instead of a masked copy of all hidden states.
        total = graph.add("MatMul", graph.add("Unsqueeze", real, graph.integers(1)), layout.apart(graph, hidden))
        count = graph.add("ReduceSum", real, graph.integers(1), attributes={"keepdims": 1})
        some = graph.add("Max", count, graph.constant("float.1", np.float32(1)))
        return graph.add("Div", graph.add("Squeeze", total, graph.integers(1)), some)
    if pooling == "max":
        seen = graph.add("Unsqueeze", mask, graph.integers(2))
        real = graph.add("Where", seen, layout.apart(graph, hidden), graph.constant("least", np.float32(LEAST)))
        return graph.add("ReduceMax", real, graph.integers(1), attributes={"keepdims": 0})
    real = graph.add("Cast", mask, attributes={"to": INT32})
    last = int(pooling == "last")
    place = graph.add("ArgMax", real, attributes={"axis": 1, "keepdims": 1, "select_last_index": last})
    return graph.add("GatherND", layout.apart(graph, hidden), place, attributes={"batch_dims": 1})


def layer_of(head: HeadWeights, layer: str) -> Dense:
    """One of the linear layers of a head."""
    return Dense(
        name=f"head.{head.spec.name}.{layer}",
        weight=head.weights[f"{layer}.weight"],
        bias=head.weights[f"{layer}.bias"],
    )
