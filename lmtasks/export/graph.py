"""A graph under construction: operators are added one behind another, constants once by name."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lmtasks.export.weights import stored

if TYPE_CHECKING:
    import onnx_ir as ir

OPSET = 21
FUSED = "com.microsoft"
FUSED_OPERATORS = frozenset(
    {
        "BiasGelu",
        "DynamicQuantizeMatMul",
        "FastGelu",
        "GroupQueryAttention",
        "MatMulIntegerToFloat",
        "MatMulNBits",
        "MultiHeadAttention",
        "QuickGelu",
        "RotaryEmbedding",
    }
)
"""Operators that only ONNX Runtime has. All others are ONNX's own, or live among them."""
FLOAT, BOOL, INT32, INT64 = 1, 9, 6, 7
"""onnx.TensorProto.DataType"""

Attribute = int | float | str | Sequence[int]
Size = int | str
"""Size of an axis: a number, or the name of a free one."""


class GraphBuilder:
    """One graph.

    Args:
        name: of the graph, for people who look into it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._inputs: list[ir.Value] = []
        self._outputs: list[ir.Value] = []
        self._nodes: list[ir.Node] = []
        self._constants: dict[str, ir.Value] = {}

    def input(self, name: str, *, dtype: int, shape: Sequence[Size]) -> "ir.Value":
        """Declare an input."""
        import onnx_ir as ir

        value = ir.val(name, dtype=ir.DataType(dtype), shape=list(shape))
        self._inputs.append(value)
        return value

    def output(self, name: str, value: "ir.Value", *, dtype: int, shape: Sequence[Size]) -> None:
        """Declare what stands in a value as an output. A value is one output at most."""
        import onnx_ir as ir

        value.name = name
        value.type, value.shape = ir.TensorType(ir.DataType(dtype)), ir.Shape(list(shape))
        self._outputs.append(value)

    def constant(self, name: str, array: "NDArray[np.generic] | np.generic") -> "ir.Value":
        """A stored value; the second call with a name yields what the first one stored."""
        if name not in self._constants:
            self._constants[name] = stored(name, array)
        return self._constants[name]

    def integers(self, *values: int) -> "ir.Value":
        """A small vector of int64: axes and shapes."""
        return self.constant(f"int64.{'.'.join(map(str, values))}", np.array(values, dtype=np.int64))

    def add(
        self, kind: str, *inputs: "ir.Value | None", attributes: Mapping[str, Attribute] | None = None
    ) -> "ir.Value":
        """Add an operator with one output, and yield that."""
        return self.add_many(kind, *inputs, outputs=1, attributes=attributes)[0]

    def add_many(
        self,
        kind: str,
        *inputs: "ir.Value | None",
        outputs: int,
        attributes: Mapping[str, Attribute] | None = None,
    ) -> "Sequence[ir.Value]":
        """Add an operator with several outputs. Inputs that it goes without are None."""
        import onnx_ir as ir

        node = ir.node(
            kind,
            inputs,
            dict(attributes or {}),
            domain=FUSED if kind in FUSED_OPERATORS else "",
            num_outputs=outputs,
            name=f"{kind}.{len(self._nodes)}",
        )
        for number, value in enumerate(node.outputs):
            value.name = f"{node.name}.{number}"
        self._nodes.append(node)
        return node.outputs

    def model(self) -> "ir.Model":
        """The finished graph."""
        import onnx_ir as ir

        graph = ir.Graph(
            self._inputs,
            self._outputs,
            nodes=self._nodes,
            initializers=list(self._constants.values()),
            opset_imports={"": OPSET, FUSED: 1},
            name=self.name,
        )
        return ir.Model(graph, ir_version=10, producer_name="lmtasks")
