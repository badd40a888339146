"""`fp16` and `bf16`: graphs in 16 bits for GPUs.

Weights, activations and caches are in 16 bits. What adds up many numbers or takes exponentials (softmax over a
vocabulary, sums, quotients) is computed in fp32 between two casts; norms and attention are operators that do so inside.
Answers (logits, log-probabilities) leave the graph in fp32. Weights beyond the range of fp16 are cut to its ends: they
are masks, -3.4e38 as much as -65504.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from lmtasks.errors import UsageError
from lmtasks.export.graph import FLOAT
from lmtasks.records import Floats32

if TYPE_CHECKING:
    import onnx_ir as ir

TYPES: Mapping[str, int] = {"fp16": 10, "bf16": 16}
"""onnx.TensorProto.DataType"""
IN_FP32 = frozenset(
    {"Div", "Exp", "Log", "LogSoftmax", "Pow", "ReduceMean", "ReduceSum", "Reciprocal", "Softmax", "Sqrt"}
)
NEVER_FLOAT = frozenset({"ArgMax", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "Shape", "Size"})
CACHES = ("past_", "present_", "cross_")
OVERFLOWING = frozenset({"t5", "mt5", "umt5"})
"""Families whose activations leave the range of fp16: T5 was trained in bf16 (CTranslate2 issue 1074)."""

CARRYING = frozenset({"rnn", "lstm", "gru"})
"""Families whose state goes from call to call in fp32."""


def check_half(precision: str, *, family: str, built: bool, name: str) -> None:
    """Raises: UsageError: no graph in 16 bits is made of this model."""
    if precision == "fp16" and family in OVERFLOWING:
        raise UsageError(f"{name} is a {family}, whose activations leave the range of fp16; export it in bf16 or fp32.")
    if family in CARRYING:
        raise UsageError(f"{name} is a {family}, whose state is carried in fp32; export it in fp32.")
    if not built:
        raise UsageError(
            f"{precision} is made of graphs that lmtasks builds itself, and those of {name} ({family}) were traced; "
            "export it in fp32."
        )


def to_half(model: "ir.Model", *, precision: str) -> int:
    """Rewrite a graph in place; the number of operators that compute in 16 bits now."""
    import onnx_ir as ir

    half = ir.DataType(TYPES[precision])
    floats = _floats(model)
    outputs = {value for value in model.graph.outputs if value in floats and not str(value.name).startswith(CACHES)}
    for value in floats:
        if value.const_value is not None:
            value.const_value = ir.tensor(_cut(value.const_value.numpy(), half), name=value.name)
        if value.type is not None:
            value.type = ir.TensorType(half)
    count = 0
    casts: dict[ir.Value, ir.Value] = {}
    for node in list(model.graph):
        if node.op_type == "Cast" and node.attributes.get_int("to", 0) == FLOAT:
            node.attributes["to"] = ir.AttrInt64("to", int(half))
        elif node.op_type in IN_FP32 and any(value in floats for value in node.outputs):
            _in_fp32(model, node, floats, casts, half)
        else:
            count += any(value in floats for value in node.outputs)
    for value in outputs:
        _answer_in_fp32(model, value, half)
    return count


def _floats(model: "ir.Model") -> "set[ir.Value]":
    """Every value that holds fp32 numbers."""
    found = {
        value
        for value in (*model.graph.inputs, *model.graph.initializers.values())
        if value.dtype is not None and value.dtype.value == FLOAT
    }
    for node in model.graph:
        if node.op_type in NEVER_FLOAT:
            continue
        if node.op_type in {"Cast", "ConstantOfShape", "Constant"}:
            yields = node.attributes.get_int("to", FLOAT) == FLOAT
        else:
            yields = node.inputs[1 if node.op_type == "Where" else 0] in found
        if yields:
            found.update(node.outputs)
    return found


def _cut(array: Floats32, half: "ir.DataType") -> "np.ndarray[tuple[int, ...], np.dtype[np.generic]]":
    if half.value == TYPES["fp16"]:
        ends = np.finfo(np.float16)
        return np.clip(array, ends.min, ends.max).astype(np.float16)
    cut: np.ndarray[tuple[int, ...], np.dtype[np.generic]] = array.astype(half.numpy())
    return cut


def _in_fp32(
    model: "ir.Model", node: "ir.Node", floats: "set[ir.Value]", casts: "dict[ir.Value, ir.Value]", half: "ir.DataType"
) -> None:
    """Casts before and behind a node."""
    import onnx_ir as ir

    for place, value in enumerate(node.inputs):
        if value is not None and value in floats:
            if value not in casts:
                casts[value] = _cast(model, value, FLOAT, before=node)
            node.replace_input_with(place, casts[value])
    for value in list(node.outputs):
        if value in floats:
            value.type = ir.TensorType(ir.DataType.FLOAT)
            uses, answers = list(value.uses()), value in model.graph.outputs
            cast = ir.node("Cast", [value], {"to": int(half)}, name=f"{value.name}.half")
            cast.outputs[0].name = f"{value.name}.half.value"
            model.graph.insert_after(node, cast)
            for use in uses:
                use.node.replace_input_with(use.idx, cast.outputs[0])
            if answers:
                model.graph.outputs[model.graph.outputs.index(value)] = cast.outputs[0]
                cast.outputs[0].name, value.name = value.name, f"{value.name}.whole"


def _answer_in_fp32(model: "ir.Model", value: "ir.Value", half: "ir.DataType") -> None:
    """An output in fp32 under its own name."""
    import onnx_ir as ir

    place = next(number for number, out in enumerate(model.graph.outputs) if out.name == value.name or out is value)
    given = model.graph.outputs[place]
    name, shape = given.name, given.shape
    given.name = f"{name}.half"
    given.type = ir.TensorType(half)
    cast = ir.node("Cast", [given], {"to": FLOAT}, name=f"{name}.fp32")
    out = cast.outputs[0]
    out.name, out.shape, out.type = name, shape, ir.TensorType(ir.DataType.FLOAT)
    model.graph.append(cast)
    model.graph.outputs[place] = out


def _cast(model: "ir.Model", value: "ir.Value", to: int, *, before: "ir.Node") -> "ir.Value":
    import onnx_ir as ir

    cast = ir.node("Cast", [value], {"to": to}, name=f"{value.name}.fp32")
    cast.outputs[0].name = f"{value.name}.fp32.value"
    model.graph.insert_before(before, cast)
    return cast.outputs[0]
