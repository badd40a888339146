"""Attention leaves the rows unwritten that stand behind the new tokens of a text: whatever lay in that memory.

Rows are apart in all that follows, but for a scale that is taken over all of them: there one such number would decide.
"""

from typing import TYPE_CHECKING

import numpy as np

from lmtasks.export.graph import INT64
from lmtasks.export.weights import stored

if TYPE_CHECKING:
    import onnx_ir as ir

NEW = 16
"""`query_seqlens` among the inputs of GroupQueryAttention."""


def clear_unread_rows(model: "ir.Model") -> int:
    """Set to zero what attention yields behind the new tokens, in place.

    Returns:
        How many layers have such rows.
    """
    count = 0
    seen: dict[ir.Value, tuple[ir.Value, ir.Value]] = {}
    for node in list(model.graph):
        new = node.inputs[NEW] if len(node.inputs) > NEW else None
        if node.op_type != "GroupQueryAttention" or new is None:
            continue
        if new not in seen:
            seen[new] = _tokens(model.graph, node, new)
        _clear(model.graph, node, *seen[new], number=count)
        count += 1
    return count


def _tokens(graph: "ir.Graph", before: "ir.Node", new: "ir.Value") -> "tuple[ir.Value, ir.Value]":
    """Where there are tokens, bool (B, S, 1), and the number zero."""
    import onnx_ir as ir

    numbers: dict[str, object] = {"shape": np.array([], np.int64), "0": np.int64(0), "1": np.int64(1)}
    numbers |= {"axis": np.array([1]), "last": np.array([2]), "nothing": np.float32(0)}
    given = {name: stored(f"unread.{name}", np.asarray(value)) for name, value in numbers.items()}
    for value in given.values():
        graph.initializers.add(value)
    columns = ir.node("Shape", [before.inputs[0]], {"start": 1, "end": 2}, name="unread.columns")
    whole = ir.node("Reshape", [columns.outputs[0], given["shape"]], name="unread.count")
    places = ir.node("Range", [given["0"], whole.outputs[0], given["1"]], name="unread.places")
    wide = ir.node("Cast", [new], {"to": INT64}, name="unread.new")
    apart = ir.node("Unsqueeze", [wide.outputs[0], given["axis"]], name="unread.rows")
    less = ir.node("Less", [places.outputs[0], apart.outputs[0]], name="unread.less")
    tokens = ir.node("Unsqueeze", [less.outputs[0], given["last"]], name="unread.tokens")
    for node in (columns, whole, places, wide, apart, less, tokens):
        node.outputs[0].name = f"{node.name}.value"
        graph.insert_before(before, node)
    return tokens.outputs[0], given["nothing"]


def _clear(graph: "ir.Graph", node: "ir.Node", tokens: "ir.Value", nothing: "ir.Value", *, number: int) -> None:
    import onnx_ir as ir

    mixed = node.outputs[0]
    users = [(use.node, use.idx) for use in mixed.uses()]
    where = ir.node("Where", [tokens, mixed, nothing], name=f"unread.where.{number}")
    where.outputs[0].name = f"{where.name}.value"
    graph.insert_after(node, where)
    for user, index in users:
        user.replace_input_with(index, where.outputs[0])
