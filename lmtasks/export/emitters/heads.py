"""Heads of ours behind hidden states: what `lmtasks/head` computes, as operators. One named output each."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lmtasks.export.checkpoint import HeadWeights
from lmtasks.export.emitters.blocks import Dense, Layout, activation, dense
from lmtasks.export.graph import FLOAT, INT32, GraphBuilder

if TYPE_CHECKING:
    import onnx_ir as ir

LEAST = np.finfo(np.float32).min
"""What a maximum over the tokens of a row sees at padding."""
SPAN_PADDING = -1e4
"""Logit of a padded position in a span head's answer, as in `lmtasks/head/span.py`."""


def head_outputs(
    graph: GraphBuilder, hidden: "ir.Value", layout: Layout, mask: "ir.Value", heads: Sequence[HeadWeights]
) -> None:
    """Add the heads to a graph, each as an output `head.<name>`.

    Args:
        hidden: (N, D)
        mask: bool (B, S), True at tokens.
    """
    for head in heads:
        value = KINDS[head.spec.kind](graph, hidden, layout, mask, head)
        name_head(graph, value, head)


def name_head(graph: GraphBuilder, logits: "ir.Value", head: HeadWeights) -> None:
    """Declare logits as the output of a head."""
    axes: list[int | str] = ["batch"] if head.per_text else ["batch", "columns"]
    classes = 2 if head.spec.kind == "span" else len(head.spec.labels)
    graph.output(f"head.{head.spec.name}", logits, dtype=FLOAT, shape=[*axes, classes])


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


def _classification(
    graph: GraphBuilder, hidden: "ir.Value", layout: Layout, mask: "ir.Value", head: HeadWeights
) -> "ir.Value":
    return dense(graph, pooled(graph, hidden, layout, mask, head.spec.pooling), _part(head, "output"))


def _span(graph: GraphBuilder, hidden: "ir.Value", layout: Layout, mask: "ir.Value", head: HeadWeights) -> "ir.Value":
    inner = activation(graph, dense(graph, hidden, _part(head, "inner")), "gelu")
    logits = layout.apart(graph, dense(graph, inner, _part(head, "output")))
    unseen = graph.constant("unseen", np.float32(SPAN_PADDING))
    return graph.add("Where", graph.add("Unsqueeze", mask, graph.integers(2)), logits, unseen)


def _tagging(
    graph: GraphBuilder, hidden: "ir.Value", layout: Layout, mask: "ir.Value", head: HeadWeights
) -> "ir.Value":
    return layout.apart(graph, dense(graph, hidden, _part(head, "output")))


KINDS: Mapping[str, Callable[[GraphBuilder, "ir.Value", Layout, "ir.Value", HeadWeights], "ir.Value"]] = {
    "classification": _classification,
    "span": _span,
    "tagging": _tagging,
}


def _part(head: HeadWeights, name: str) -> Dense:
    return Dense(
        name=f"head.{head.spec.name}.{name}",
        weight=head.weights[f"{name}.weight"],
        bias=head.weights[f"{name}.bias"],
    )
