"""ONNX graphs: built operator by operator, and saved beside one file of weights that holds each value once.

While a graph is built, constants are stored once by name. Graphs of one model share their backbone, and exporters store
a tied embedding twice, once transposed: equal tensors share their place in the file, and a tensor that is another one
transposed becomes a `Transpose` of it, which onnxruntime carries out once, when it loads the graph.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lmtasks.errors import WorkError

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
SMALL_BYTES = 1024
"""Below this, values stay inside the graph, where onnxruntime can see shapes and constants while it opens it."""
ALIGNMENT_BYTES = 64


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


def stored(name: str, array: "NDArray[np.generic] | np.generic") -> "ir.Value":
    """A constant of a graph; the caller adds it to the graph's initializers."""
    import onnx_ir as ir

    plain = np.asarray(array, order="C")
    tensor = ir.tensor(plain, name=name)
    return ir.val(name, dtype=tensor.dtype, shape=plain.shape, const_value=tensor)


def save_graphs(graphs: Mapping[Path, "ir.Model"], *, weights: Path) -> None:
    """Write graphs beside one file of weights. The models are changed: their large weights point into the file.

    Args:
        graphs: by file, all in the folder of `weights`.

    Raises:
        WorkError: the file holds other values than those that were packed into it.
    """
    import onnx_ir as ir

    places: dict[str, _Place] = {}
    with weights.open("wb") as stream:
        for model in graphs.values():
            for value in list(model.graph.initializers.values()):
                tensor = value.const_value
                if tensor is None or tensor.nbytes < SMALL_BYTES:
                    continue
                array = tensor.numpy()
                key = key_of(array)
                turned = places.get(key_of(array.T)) if array.ndim == 2 and key not in places else None
                if turned is not None:
                    _replace_by_transpose(model, value, turned, weights=weights)
                    continue
                if key not in places:
                    stream.write(b"\0" * (-stream.tell() % ALIGNMENT_BYTES))
                    places[key] = _Place(
                        offset=stream.tell(), length=tensor.nbytes, shape=array.shape, dtype=tensor.dtype
                    )
                    stream.write(tensor.tobytes())
                value.const_value = places[key].tensor(str(value.name), weights=weights)
    _check_packed(places, weights)
    for file, model in graphs.items():
        ir.save(model, file)


def fold_transposes(model: "ir.Model") -> None:
    """Carry out every `Transpose` of a stored matrix, so that passes over the graph see a plain weight."""
    import onnx_ir as ir

    for node in list(model.graph):
        given = node.inputs[0] if node.op_type == "Transpose" else None
        if given is None or given.const_value is None or given.const_value.numpy().ndim != 2:
            continue
        out = node.outputs[0]
        value = stored(str(out.name), given.const_value.numpy().T)
        ir.convenience.replace_all_uses_with(out, value)
        model.graph.remove(node, safe=True)
        model.graph.initializers.add(value)
        if not given.uses():
            del model.graph.initializers[str(given.name)]


def state_defaults(model: "ir.Model", defaults: Mapping[str, Mapping[str, int]]) -> None:
    """Write attributes out in place that stand at their defaults.

    Args:
        defaults: operator to attribute to value.
    """
    import onnx_ir as ir

    for node in model.graph:
        for name, value in defaults.get(node.op_type, {}).items():
            if name not in node.attributes:
                node.attributes.add(ir.AttrInt64(name, value))


def count_operators(model: "ir.Model") -> Mapping[str, int]:
    """How often each operator stands in a graph."""
    counts: dict[str, int] = {}
    for node in model.graph.all_nodes():
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
    return counts


def key_of(array: NDArray[np.generic]) -> str:
    """Equal for arrays of equal type, shape and values."""
    digest = hashlib.sha256(f"{array.dtype} {array.shape}".encode())
    digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)  # bf16 is no buffer of NumPy's own
    return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where in the file a tensor lies."""

    offset: int
    length: int
    shape: tuple[int, ...]
    dtype: "ir.DataType"

    def tensor(self, name: str, *, weights: Path) -> "ir.ExternalTensor":
        import onnx_ir as ir

        return ir.ExternalTensor(
            weights.name,
            self.offset,
            self.length,
            self.dtype,
            shape=ir.Shape(self.shape),
            name=name,
            base_dir=weights.parent,
        )


def _check_packed(places: Mapping[str, _Place], weights: Path) -> None:
    """Every value as it lies in the file now. Answers to some texts would not tell: of a table of embeddings they read
    a few rows.

    Raises:
        WorkError: one is another than was packed.
    """
    for key, place in places.items():
        if key_of(place.tensor("", weights=weights).numpy()) != key:
            raise WorkError(
                f"{weights} does not hold the weights that were written to it (from byte {place.offset} on); check the "
                "disk, and export again."
            )


def _replace_by_transpose(model: "ir.Model", value: "ir.Value", place: _Place, *, weights: Path) -> None:
    import onnx_ir as ir

    source = ir.val(
        f"{value.name}.turned", dtype=place.dtype, shape=place.shape, const_value=place.tensor("", weights=weights)
    )
    source.const_value.name = source.name  # type: ignore[union-attr]
    node = ir.node("Transpose", [source], {"perm": [1, 0]}, name=f"{value.name}.transpose")
    node.outputs[0].name = f"{value.name}.value"
    node.outputs[0].type, node.outputs[0].shape = value.type, value.shape
    ir.convenience.replace_all_uses_with(value, node.outputs[0])
    del model.graph.initializers[str(value.name)]
    model.graph.initializers.add(source)
    model.graph.insert_before(model.graph[0], node)
