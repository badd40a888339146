"""Graphs with rounded weights.

`int8`: the product x W of fp32 activations x (..., K) with a constant weight W (K, N) becomes

    scale_x = max |x| over each row / 127            (..., 1)
    scale_w = max |W| over each column / 127         (N,), known beforehand
    x W  ~  MatMulInteger(round(x / scale_x) + 128, round(W / scale_w)) * scale_x * scale_w

so a row's answer depends on that row alone. Of several ways to write that (processor time on one core, 768 x 768, 1, 8
and 64 rows) `QuantizeLinear` with one scale behind a product with 127 / max |x| took 15.5, 39 and 233 us; rounding by
hand 16.8, 42 and 254; a scale per tensor 13.7, 33 and 203. `MatMulIntegerToFloat` brings the integers back inside the
product: 7% slower in whole graphs that decode, 2-4% faster in those that read 24 to 1,600 rows at once.

`int8-tensor`: one scale for all rows, which takes in a row's neighbours in the batch: `DynamicQuantizeMatMul` in built
graphs; `int8_tensor.py` has the rest of it.

`int8-static`: one scale for all rows that was fixed beforehand, by what real rows needed (`ranges.py`): an answer
depends on its own row alone, and nothing is measured while it is computed.

`w8`, `int4`: weights alone are rounded, in blocks along K with a scale each; see `weight_rounding.py`.

Large tables of embeddings are kept in 8 bits with a scale per row, which for a tied embedding and `int8` are the very
values that the last product uses.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lmtasks.export.graph import FLOAT, FUSED, FUSED_OPERATORS, Attribute, stored
from lmtasks.export.int8_tensor import clear_unread_rows, round_lstms
from lmtasks.export.weight_rounding import (
    ACCURACY,
    block_length,
    column_scales,
    packed_blocks,
    rounded,
    table_of,
    weight_of,
)
from lmtasks.records import Floats32

if TYPE_CHECKING:
    import onnx_ir as ir

    from lmtasks.export.ranges import Range

NOTHING_SEEN: "Mapping[str, Range]" = MappingProxyType({})


def quantize_rows(model: "ir.Model", *, many: bool = False, keep: Collection[str] = ()) -> int:
    """Rewrite a graph in place to `int8`.

    Args:
        many: does it read many rows at once? Decoders, which read one or a few, do not.
        keep: names of weights that stay as they are, of those that `products` lists.

    Returns:
        How many products and tables were rewritten.
    """
    return _Rewriter(model, keep=keep, product=_Rewriter.by_many_rows if many else _Rewriter.by_rows).rewrite()


def quantize_whole(model: "ir.Model", *, keep: Collection[str] = ()) -> int:
    """Rewrite a graph in place to `int8-tensor`. See `quantize_rows`."""
    clear_unread_rows(model)
    lstms = round_lstms(model, keep=keep)
    return lstms + _Rewriter(model, keep=keep, product=_Rewriter.by_tensor).rewrite()


def quantize_weights(model: "ir.Model", *, bits: int, keep: Collection[str] = ()) -> int:
    """Rewrite a graph in place to weights of 8 or 4 bits (`w8`, `int4`). See `quantize_rows`."""
    product = {8: _Rewriter.by_blocks_of_8, 4: _Rewriter.by_blocks_of_4}[bits]
    return _Rewriter(model, keep=keep, product=product).rewrite()


def quantize_fixed(model: "ir.Model", ranges: "Mapping[str, Range]", *, keep: Collection[str] = ()) -> int:
    """Rewrite a graph in place to `int8-static`. See `quantize_rows`.

    Args:
        ranges: of what each product is given, by name.
    """
    return _Rewriter(model, keep=keep, product=_Rewriter.by_range, ranges=ranges).rewrite()


class _Rewriter:
    """One pass over a graph. Rows that feed several products (queries, keys, values) are rounded once."""

    def __init__(
        self,
        model: "ir.Model",
        *,
        keep: Collection[str],
        product: "Callable[[_Rewriter, ir.Node, str, Floats32, ir.Value | None], ir.Value]",
        ranges: "Mapping[str, Range]" = NOTHING_SEEN,
    ) -> None:
        self.model = model
        self.graph = model.graph
        self.count = 0
        self._keep = keep
        self._ranges = ranges
        self._round_product = product
        self._nodes = 0
        self._rows: dict[ir.Value, tuple[ir.Value, ir.Value]] = {}
        self._stored: dict[str, ir.Value] = {}

    def rewrite(self) -> int:
        """Visit every node; the number of those that were rewritten."""
        import onnx_ir.passes.common as passes

        for node in list(self.graph):
            kinds = {"MatMul": self._matmul, "Gemm": self._gemm, "Gather": self._table}
            if node.domain == "" and node.op_type in kinds:
                kinds[node.op_type](node)
        passes.RemoveUnusedNodesPass()(self.model)
        self.graph.opset_imports[FUSED] = 1
        return self.count

    def by_rows(self, node: "ir.Node", name: str, weight: Floats32, bias: "ir.Value | None") -> "ir.Value":
        """`int8`"""
        scales = column_scales(weight)
        rows, largest = self._rounded_rows(node)
        columns = self._store(f"{name}.int8", lambda: rounded(weight, scales))
        whole = self._add(node, "MatMulInteger", [rows, columns, self._middle()])
        real = self._add(node, "Cast", [whole], {"to": FLOAT})
        scaled = self._add(node, "Mul", [real, largest])
        out = self._add(node, "Mul", [scaled, self._store(f"{name}.scales", lambda: scales / np.float32(127))])
        return out if bias is None else self._add(node, "Add", [out, bias])

    def by_many_rows(self, node: "ir.Node", name: str, weight: Floats32, bias: "ir.Value | None") -> "ir.Value":
        """`int8`"""
        scales = column_scales(weight)
        rows, largest = self._rounded_rows(node)
        inputs = [
            rows,
            self._store(f"{name}.int8", lambda: rounded(weight, scales)),
            self._store("one", lambda: np.float32(1)),
            self._store(f"{name}.scales", lambda: scales / np.float32(127)),
            self._middle(),
        ]
        out = self._add(node, "Mul", [self._add(node, "MatMulIntegerToFloat", inputs), largest])
        return out if bias is None else self._add(node, "Add", [out, bias])

    def by_range(self, node: "ir.Node", name: str, weight: Floats32, bias: "ir.Value | None") -> "ir.Value":
        """`int8-static`"""
        value = node.inputs[0]
        assert value is not None  # both operators require it
        seen = self._ranges[str(value.name)]
        scale = self._store(f"{value.name}.scale", lambda: np.float32(seen.scale))
        zero = self._store(f"{value.name}.zero", lambda: np.uint8(seen.zero))
        if value not in self._rows:
            self._rows[value] = self._add(node, "QuantizeLinear", [value, scale, zero]), scale
        scales = column_scales(weight)
        inside = bias is not None and bias.const_value is not None
        inputs = [
            self._rows[value][0],
            self._store(f"{name}.int8", lambda: rounded(weight, scales)),
            scale,
            self._store(f"{name}.columns", lambda: scales),
            zero,
            None,
            bias if inside else None,
        ]
        out = self._add(node, "MatMulIntegerToFloat", inputs)
        return out if inside or bias is None else self._add(node, "Add", [out, bias])

    def by_tensor(self, node: "ir.Node", name: str, weight: Floats32, bias: "ir.Value | None") -> "ir.Value":
        """`int8-tensor`"""
        scales = column_scales(weight)
        columns = self._store(f"{name}.int8", lambda: rounded(weight, scales))
        inside = bias is not None and bias.const_value is not None
        inputs = [
            node.inputs[0],
            columns,
            self._store(f"{name}.columns", lambda: scales),
            None,
            bias if inside else None,
        ]
        out = self._add(node, "DynamicQuantizeMatMul", inputs)
        return out if inside or bias is None else self._add(node, "Add", [out, bias])

    def by_blocks_of_8(self, node: "ir.Node", name: str, weight: Floats32, bias: "ir.Value | None") -> "ir.Value":
        """`w8`"""
        return self._blocks(node, name, weight, bias, bits=8)

    def by_blocks_of_4(self, node: "ir.Node", name: str, weight: Floats32, bias: "ir.Value | None") -> "ir.Value":
        """`int4`"""
        return self._blocks(node, name, weight, bias, bits=4)

    def _blocks(
        self, node: "ir.Node", name: str, weight: Floats32, bias: "ir.Value | None", *, bits: int
    ) -> "ir.Value":
        blocks, scales = packed_blocks(weight, bits=bits)
        inside = bias is not None and bias.const_value is not None
        inputs = [
            node.inputs[0],
            self._store(f"{name}.blocks", lambda: blocks),
            self._store(f"{name}.scales", lambda: scales),
            None,
            None,
            bias if inside else None,
        ]
        inner, outer = weight.shape
        length = block_length(inner, bits=bits)
        sizes = {"K": inner, "N": outer, "bits": bits, "block_size": length, "accuracy_level": ACCURACY}
        out = self._add(node, "MatMulNBits", inputs, sizes)
        return out if inside or bias is None else self._add(node, "Add", [out, bias])

    def _matmul(self, node: "ir.Node") -> None:
        self._product(node, turned=False, bias=None)

    def _gemm(self, node: "ir.Node") -> None:
        attributes = node.attributes
        plain = attributes.get_float("alpha", 1.0) == 1.0 and attributes.get_float("beta", 1.0) == 1.0
        if plain and attributes.get_int("transA") != 1:
            bias = node.inputs[2] if len(node.inputs) > 2 else None
            self._product(node, turned=attributes.get_int("transB") == 1, bias=bias)

    def _product(self, node: "ir.Node", *, turned: bool, bias: "ir.Value | None") -> None:
        given = node.inputs[1]
        weight = weight_of(given)
        if weight is None or given is None or str(given.name) in self._keep:
            return
        out = self._round_product(
            self, node, str(given.name), np.ascontiguousarray(weight.T) if turned else weight, bias
        )
        self._replace(node, out)

    def _rounded_rows(self, node: "ir.Node") -> "tuple[ir.Value, ir.Value]":
        """Input of a product, (..., K) -> its rows in 8 bits around 128, the largest value of each, (..., 1)."""
        value = node.inputs[0]
        assert value is not None  # both operators require it
        if value not in self._rows:
            sizes = self._add(node, "Abs", [value])
            last = self._store("last", lambda: np.array([-1]))
            largest = self._add(node, "ReduceMax", [sizes, last], {"keepdims": 1})
            # A row of zeros becomes infinite, then no number, then some whole number, and that times zero is zero.
            factor = self._add(node, "Div", [self._store("most", lambda: np.float32(127)), largest])
            spread = self._add(node, "Mul", [value, factor])
            one = self._store("one", lambda: np.float32(1))
            self._rows[value] = self._add(node, "QuantizeLinear", [spread, one, self._middle()]), largest
        return self._rows[value]

    def _middle(self) -> "ir.Value":
        return self._store("middle", lambda: np.uint8(128))

    def _table(self, node: "ir.Node") -> None:
        table = table_of(node.inputs[0])
        name = str(node.inputs[0].name)  # type: ignore[union-attr]  # the operator requires it
        if table is None or name in self._keep or node.attributes.get_int("axis"):
            return
        indices = node.inputs[1]
        scales = column_scales(table.T)
        rows = self._store(f"{name}.rows", lambda: np.ascontiguousarray(rounded(table.T, scales).T))
        picked = self._add(node, "Cast", [self._add(node, "Gather", [rows, indices], {"axis": 0})], {"to": FLOAT})
        factors = self._store(f"{name}.row_scales", lambda: scales[:, None])
        scale = self._add(node, "Gather", [factors, indices], {"axis": 0})
        self._replace(node, self._add(node, "Mul", [picked, scale]))

    def _add(
        self,
        before: "ir.Node",
        kind: str,
        inputs: "Sequence[ir.Value | None]",
        attributes: Mapping[str, Attribute] | None = None,
    ) -> "ir.Value":
        import onnx_ir as ir

        given = list(inputs)
        while given[-1] is None:
            given.pop()
        domain = FUSED if kind in FUSED_OPERATORS else ""
        node = ir.node(kind, given, dict(attributes or {}), domain=domain, name=f"rounded.{kind}.{self._nodes}")
        self._nodes += 1
        node.outputs[0].name = f"{node.name}.value"
        self.graph.insert_before(before, node)
        return node.outputs[0]

    def _store(self, name: str, make: "Callable[[], NDArray[np.generic] | np.generic]") -> "ir.Value":
        if name not in self._stored:
            self._stored[name] = stored(f"rounded.{name}", make())
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
