"""What rounding reaches in a graph: products with stored weights, and large tables."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lmtasks.export.graph import FLOAT
from lmtasks.records import Floats32

if TYPE_CHECKING:
    import onnx_ir as ir

LEAST_SIDE = 16
"""A weight with a shorter side (a classifier's two columns) stays in fp32: nothing is gained there, and much lost."""
LEAST_ROWS = 1024
"""A table with fewer rows (token types, short positions) stays in fp32."""


def products(model: "ir.Model") -> tuple[str, ...]:
    """Names of the weights that rounding would reach, products and tables, in the order of the graph."""
    names: list[str] = []
    for node in model.graph:
        reached = {"MatMul": (weight_of, 1), "Gemm": (weight_of, 1), "Gather": (table_of, 0)}.get(node.op_type)
        if node.domain == "" and reached is not None:
            look, place = reached
            value = node.inputs[place]
            names += [str(value.name)] if value is not None and look(value) is not None else []
    return tuple(dict.fromkeys(names))


def product_inputs(model: "ir.Model") -> Mapping[str, Sequence[Floats32]]:
    """What the products are given, by name, and the weights (K, N) that it is multiplied with."""
    found: dict[str, list[Floats32]] = {}
    for node in model.graph:
        if node.domain == "" and node.op_type in {"MatMul", "Gemm"} and node.inputs[0] is not None:
            weight = weight_of(node.inputs[1])
            if weight is not None:
                turned = node.op_type == "Gemm" and node.attributes.get_int("transB", 0) == 1
                found.setdefault(str(node.inputs[0].name), []).append(weight.T if turned else weight)
    return found


def weight_of(value: "ir.Value | None") -> Floats32 | None:
    """A stored matrix that is large enough to be rounded."""
    array = _matrix(value)
    return None if array is None or min(array.shape) < LEAST_SIDE else array


def table_of(value: "ir.Value | None") -> Floats32 | None:
    """A stored table that is large enough to be rounded."""
    array = _matrix(value)
    return None if array is None or array.shape[0] < LEAST_ROWS else array


def _matrix(value: "ir.Value | None") -> Floats32 | None:
    """The value of a stored fp32 matrix; None for anything else."""
    tensor = None if value is None else value.const_value
    if tensor is None or tensor.dtype.value != FLOAT or len(tensor.shape) != 2:
        return None
    array: Floats32 = tensor.numpy()
    return array
