"""8-bit graphs.

`int8`: the product x W of fp32 activations x (..., K) with a constant weight W (K, N) becomes

    scale_x = max |x| over each row / 127            (..., 1)
    scale_w = max |W| over each column / 127         (N,), known beforehand
    x W  ~  MatMulInteger(round(x / scale_x) + 128, round(W / scale_w)) * scale_x * scale_w

so a row's answer depends on that row alone. A scale per tensor is a little faster, but takes in the row's neighbours
in the batch: that one is `int8-tensor`, onnxruntime's own `quantize_dynamic`. Large tables of embeddings are kept in
8 bits with a scale per row, which for a tied embedding are the very values that the last product uses.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lmtasks.export.weights import stored
from lmtasks.records import Floats32

if TYPE_CHECKING:
    import onnx_ir as ir

FLOAT, UINT8 = 1, 2
"""onnx.TensorProto.DataType"""
LEAST_SIDE = 16
"""A weight with a shorter side (a classifier's two columns) stays in fp32: nothing is gained there, and much lost."""
LEAST_ROWS = 1024
"""A table with fewer rows (token types, short positions) stays in fp32."""
TINY = 1e-8
"""A row whose largest value is below this is all zero."""


def quantize_rows(model: "ir.Model") -> int:
    """Rewrite a graph in place to `int8`.

    Returns:
        How many products and tables were rewritten.
    """
    import onnx_ir.passes.common as passes

    rewriter = _Rewriter(model)
    for node in list(model.graph):
        rewriter.visit(node)
    passes.RemoveUnusedNodesPass()(model)
    return rewriter.count


def quantize_tensors(model: "ir.Model", *, folder: Path) -> "ir.Model":
    """`int8-tensor`: what onnxruntime's `quantize_dynamic` makes of the graph.

    Args:
        folder: for the files that it reads and writes; they are removed.
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
        quantize_dynamic(source, target, weight_type=QuantType.QInt8, per_channel=True, use_external_data_format=True)
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


def column_scales(weight: Floats32) -> Floats32:
    """max |W| / 127 of each column of W (K, N); 1 for a column of zeros."""
    largest = np.abs(weight).max(axis=0)
    return np.where(largest > 0, largest / np.float32(127), np.float32(1)).astype(np.float32)


def rounded(weight: Floats32, scales: Floats32) -> NDArray[np.int8]:
    """W (K, N) in 8 bits, halves to even, within -127 and 127."""
    whole: NDArray[np.int8] = np.clip(np.rint(weight / scales), -127, 127).astype(np.int8)
    return whole


class _Rewriter:
    """One pass over a graph. Rows that feed several products (queries, keys, values) are rounded once."""

    def __init__(self, model: "ir.Model") -> None:
        self.graph = model.graph
        self.count = 0
        self._nodes = 0
        self._rows: dict[ir.Value, tuple[ir.Value, ir.Value]] = {}
        self._stored: dict[str, ir.Value] = {}

    def visit(self, node: "ir.Node") -> None:
        """Rewrite a node, if it is one of those that are rounded."""
        kinds = {"MatMul": self._matmul, "Gemm": self._gemm, "Gather": self._table}
        if node.domain == "" and node.op_type in kinds:
            kinds[node.op_type](node)

    def _matmul(self, node: "ir.Node") -> None:
        weight = self._weight(node.inputs[1])
        if weight is not None:
            self._product(node, weight, bias=None)

    def _gemm(self, node: "ir.Node") -> None:
        attributes = node.attributes
        plain = attributes.get_float("alpha", 1.0) == 1.0 and attributes.get_float("beta", 1.0) == 1.0
        weight = self._weight(node.inputs[1], turned=attributes.get_int("transB") == 1)
        if plain and attributes.get_int("transA") != 1 and weight is not None:
            self._product(node, weight, bias=node.inputs[2] if len(node.inputs) > 2 else None)

    def _weight(self, value: "ir.Value | None", *, turned: bool = False) -> Floats32 | None:
        array = _matrix(value)
        if array is None or min(array.shape) < LEAST_SIDE:
            return None
        return np.ascontiguousarray(array.T) if turned else array

    def _product(self, node: "ir.Node", weight: Floats32, *, bias: "ir.Value | None") -> None:
        given = node.inputs[0]
        assert given is not None  # both operators require it
        scales = column_scales(weight)
        rows, largest = self._rounded_rows(given, before=node)
        name = str(node.outputs[0].name)
        whole = self._add(
            node,
            "MatMulInteger",
            [rows, self._store(f"{name}.weight", rounded(weight, scales)), self._store("zero", np.uint8(128))],
        )
        real = self._add(node, "Cast", [whole], to=FLOAT)
        scaled = self._add(node, "Mul", [real, largest])
        out = self._add(node, "Mul", [scaled, self._store(f"{name}.scales", scales / np.float32(127))])
        if bias is not None:
            out = self._add(node, "Add", [out, bias])
        self._replace(node, out)

    def _rounded_rows(self, value: "ir.Value", *, before: "ir.Node") -> "tuple[ir.Value, ir.Value]":
        """(..., K) -> its rows in 8 bits around 128, and the largest absolute value of each, (..., 1)."""
        if value not in self._rows:
            sizes = self._add(before, "Abs", [value])
            peak = self._add(before, "ReduceMax", [sizes, self._store("last", np.array([-1]))], keepdims=1)
            largest = self._add(before, "Max", [peak, self._store("tiny", np.float32(TINY))])
            factor = self._add(before, "Div", [self._store("most", np.float32(127)), largest])
            spread = self._add(before, "Mul", [value, factor])
            whole = self._add(before, "Round", [spread])
            moved = self._add(before, "Add", [whole, self._store("middle", np.float32(128))])
            self._rows[value] = self._add(before, "Cast", [moved], to=UINT8), largest
        return self._rows[value]

    def _table(self, node: "ir.Node") -> None:
        table = _matrix(node.inputs[0])
        if table is None or table.shape[0] < LEAST_ROWS or node.attributes.get_int("axis"):
            return
        indices = node.inputs[1]
        scales = column_scales(table.T)
        name = str(node.outputs[0].name)
        rows = self._store(f"{name}.table", np.ascontiguousarray(rounded(table.T, scales).T))
        picked = self._add(node, "Cast", [self._add(node, "Gather", [rows, indices], axis=0)], to=FLOAT)
        scale = self._add(node, "Gather", [self._store(f"{name}.scales", scales[:, None]), indices], axis=0)
        self._replace(node, self._add(node, "Mul", [picked, scale]))

    def _add(self, before: "ir.Node", kind: str, inputs: "Sequence[ir.Value | None]", **attributes: int) -> "ir.Value":
        import onnx_ir as ir

        node = ir.node(kind, inputs, attributes, name=f"int8.{kind}.{self._nodes}")
        self._nodes += 1
        node.outputs[0].name = f"{node.name}.value"
        self.graph.insert_before(before, node)
        return node.outputs[0]

    def _store(self, name: str, array: "NDArray[np.generic] | np.generic") -> "ir.Value":
        if name not in self._stored:
            self._stored[name] = stored(f"int8.{name}", array)
            self.graph.initializers.add(self._stored[name])
        return self._stored[name]

    def _replace(self, node: "ir.Node", out: "ir.Value") -> None:
        import onnx_ir as ir

        old = node.outputs[0]
        out.type, out.shape = old.type, old.shape
        ir.convenience.replace_all_uses_with(old, out, replace_graph_outputs=True)
        self.graph.remove(node, safe=True)
        out.name = old.name
        self.count += 1


def _matrix(value: "ir.Value | None") -> Floats32 | None:
    """The value of a stored fp32 matrix; None for anything else."""
    tensor = None if value is None else value.const_value
    if tensor is None or tensor.dtype.value != FLOAT or len(tensor.shape) != 2:
        return None
    array: Floats32 = tensor.numpy()
    return array
