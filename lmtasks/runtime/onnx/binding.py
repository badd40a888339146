"""The inputs and outputs of one graph, bound once: arrays that are written in place, and read when the graph runs."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lmtasks.export.package import GraphName
from lmtasks.runtime.onnx.graphs import Graphs

if TYPE_CHECKING:
    from onnxruntime import OrtValue

Array = NDArray[np.generic]


class BoundGraph:
    """A graph with its own bindings; several may stand over one session, and run beside each other.

    Args:
        graphs: whose graph.
        graph: its name.
    """

    def __init__(self, graphs: Graphs, graph: GraphName) -> None:
        self._graphs, self._graph = graphs, graph
        self._takes = graphs.inputs(graph)
        self._session = graphs.session(graph)
        self._binding = self._session.io_binding()
        self._given: dict[str, Array] = {}

    def give(self, arrays: Mapping[str, Array]) -> None:
        """Bind inputs, contiguous arrays, by name. What the graph does not take is left out."""
        for name, array in arrays.items():
            if name in self._takes:
                self._binding.bind_ortvalue_input(name, self._value(array))
                self._given[name] = array

    def take(self, name: str, array: Array) -> None:
        """Bind an output to a contiguous array, which every run writes anew."""
        self._binding.bind_ortvalue_output(name, self._value(array))

    def hold(self, name: str, array: Array) -> None:
        """Bind one array to `past_<name>` and `present_<name>`: the graph writes where it reads."""
        value = self._value(array)
        self._binding.bind_ortvalue_input(f"past_{name}", value)
        self._binding.bind_ortvalue_output(f"present_{name}", value)

    def run(self) -> None:
        """Run the graph over what the arrays hold now.

        Raises:
            OutOfMemory: what was asked may be asked again, in smaller parts.
            WorkError: onnxruntime failed.
        """
        try:
            self._session.run_with_iobinding(self._binding)
            return
        except Exception as error:  # noqa: BLE001  # onnxruntime's errors have no other common base
            failure = self._graphs.failure(self._graph, error, self._given)
        raise failure

    def _value(self, array: Array) -> "OrtValue":
        assert array.flags.c_contiguous  # onnxruntime would read other places
        return self._graphs.value(array)
