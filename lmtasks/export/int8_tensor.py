"""Parts of `int8-tensor` that no other precision has: one activation scale serves all rows of a tensor, so that a row's
answer depends on its neighbours.

LSTMs become onnxruntime's `DynamicQuantizeLSTM`, which measures one scale for all that it is given, and one for all
that it keeps at a step; in `int8` they stay in fp32. GRUs and Elman networks have no such operator, and stay in fp32
everywhere. Attention over a cache leaves the rows unwritten that stand behind the new tokens of a text, whatever lay in
that memory: they are set to zero, or one such number would decide the scale. Traced graphs go through onnxruntime's own
`quantize_dynamic`.

Axes: W ways, D width of what is read, U units.
"""

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lmtasks.export.graph import FUSED, INT64, stored
from lmtasks.export.weight_rounding import column_scales, rounded
from lmtasks.records import Floats32

if TYPE_CHECKING:
    import onnx_ir as ir
GIVEN, KEPT = 1, 2
"""Where an LSTM's weights stand among its inputs: (W, 4U, D) and (W, 4U, U)."""
INPUTS = 8
"""Inputs of the rounded operator before the scales; its own peepholes are the last of them, and nobody here has any."""
NEW = 16
"""`query_seqlens` among the inputs of GroupQueryAttention."""


def lstm_weights(model: "ir.Model") -> tuple[tuple[str, ...], ...]:
    """Names of the weights of each LSTM that `round_lstms` would round; they are rounded, or kept, together."""
    found = []
    for node in model.graph:
        if node.op_type == "LSTM" and node.domain == "":
            weights = [node.inputs[GIVEN], node.inputs[KEPT]]
            if all(value is not None and value.const_value is not None for value in weights):
                found.append(tuple(str(value.name) for value in weights if value is not None))
    return tuple(found)


def round_lstms(model: "ir.Model", *, keep: Collection[str] = ()) -> int:
    """Rewrite the LSTMs of a graph in place; how many there were.

    Args:
        keep: names of weights whose layers stay as they are.
    """
    import onnx_ir as ir

    count = 0
    for node in list(model.graph):
        if node.op_type != "LSTM" or node.domain != "":
            continue
        weights = [node.inputs[GIVEN], node.inputs[KEPT]]
        if any(value is None or value.const_value is None or str(value.name) in keep for value in weights):
            continue
        inputs = [*node.inputs, *[None] * (INPUTS - len(node.inputs))]
        for place, value in zip((GIVEN, KEPT), weights, strict=True):
            assert value is not None
            assert value.const_value is not None  # it was asked above
            columns, scales = _columns(value.const_value.numpy())
            zeros = np.zeros(scales.shape, dtype=np.int8)
            parts: dict[str, NDArray[np.generic]] = {"int8": columns, "scales": scales, "zeros": zeros}
            made = [stored(f"{value.name}.{name}", array) for name, array in parts.items()]
            for each in made:
                model.graph.initializers.add(each)
            inputs[place] = made[0]
            inputs += made[1:]
        new = ir.node(
            "DynamicQuantizeLSTM",
            inputs,
            {
                "direction": node.attributes.get_string("direction", "forward"),
                "hidden_size": node.attributes.get_int("hidden_size", 0),
            },
            domain=FUSED,
            num_outputs=len(node.outputs),
            name=f"rounded.{node.name}",
        )
        model.graph.insert_before(node, new)
        for old, made_output in zip(node.outputs, new.outputs, strict=True):
            made_output.name, made_output.type, made_output.shape = old.name, old.type, old.shape
            ir.convenience.replace_all_uses_with(old, made_output, replace_graph_outputs=True)
        model.graph.remove(node, safe=True)
        count += 1
    model.graph.opset_imports[FUSED] = 1
    return count


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


def quantize_tensors(model: "ir.Model", *, folder: Path, keep: Collection[str] = ()) -> "ir.Model":
    """Rewrite a traced graph by onnxruntime's `quantize_dynamic`.

    Args:
        folder: for the files that it reads and writes; they are removed.
        keep: names of weights that stay as they are.
    """
    import logging

    import onnx_ir as ir
    from onnxruntime.quantization import QuantType, quantize_dynamic

    source, target = folder / "before.onnx", folder / "after.onnx"
    logger = logging.getLogger()
    level = logger.level
    try:
        ir.save(model, source, external_data="before.bin")
        logger.setLevel(logging.ERROR)  # it warns on the root logger that a float model could be prepared first
        quantize_dynamic(
            source,
            target,
            weight_type=QuantType.QInt8,
            per_channel=True,
            use_external_data_format=True,
            nodes_to_exclude=[
                str(node.name)
                for node in model.graph
                if any(value is not None and value.name in keep for value in node.inputs)
            ],
        )
        quantized = ir.load(target)
        for value in quantized.graph.initializers.values():
            if value.const_value is not None:
                value.const_value = ir.tensor(value.const_value.numpy().copy(), name=value.name)
        return quantized
    finally:
        logger.setLevel(level)
        for file in folder.glob("before.*"):
            file.unlink()
        for file in folder.glob("after.*"):
            file.unlink()


def _columns(weight: Floats32) -> tuple[NDArray[np.int8], Floats32]:
    """(W, 4U, D) -> 8 bits as the operator has them, (W, D, 4U), and scales, (W, 4U)."""
    turned = [np.ascontiguousarray(way.T) for way in weight]
    scales = [column_scales(way) for way in turned]
    return np.stack([rounded(way, scale) for way, scale in zip(turned, scales, strict=True)]), np.stack(scales)


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
