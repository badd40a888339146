"""LSTM layers with weights in 8 bits (`int8-tensor`): onnxruntime's `DynamicQuantizeLSTM`.

It measures one scale for all that it is given, and one for all that it keeps at a step, so a row's answer depends on
its neighbours: it is part of `int8-tensor` alone, and in `int8` an LSTM stays in fp32. A GRU or an Elman network has no
such operator, and stays in fp32 everywhere.

Axes: W ways, D width of what is read, U units.
"""

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lmtasks.export.columns import column_scales, rounded
from lmtasks.export.graph import FUSED
from lmtasks.export.weights import stored
from lmtasks.records import Floats32

if TYPE_CHECKING:
    import onnx_ir as ir

GIVEN, KEPT = 1, 2
"""Where an LSTM's weights stand among its inputs: (W, 4U, D) and (W, 4U, U)."""
INPUTS = 8
"""Inputs of the rounded operator before the scales; its own peepholes are the last of them, and nobody here has any."""


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


def _columns(weight: Floats32) -> tuple[NDArray[np.int8], Floats32]:
    """(W, 4U, D) -> 8 bits as the operator has them, (W, D, 4U), and scales, (W, 4U)."""
    turned = [np.ascontiguousarray(way.T) for way in weight]
    scales = [column_scales(way) for way in turned]
    return np.stack([rounded(way, scale) for way, scale in zip(turned, scales, strict=True)]), np.stack(scales)
