"""The inputs and outputs of one graph, bound once: arrays that are written in place, and read when the graph runs."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lmtasks.export.package import GraphName
from lmtasks.records import Floats32
from lmtasks.runtime.onnx_graphs import Graphs

if TYPE_CHECKING:
    from onnxruntime import OrtValue

Array = NDArray[np.generic]


class Bound:
    """A graph with its own bindings; several may stand over one session, and run beside each other.

    Args:
        graphs: whose graph.
        graph: its name.
        answers: outputs that onnxruntime makes room for in each run. All others are bound to arrays.
    """

    def __init__(self, graphs: Graphs, graph: GraphName, *, answers: tuple[str, ...]) -> None:
        session = graphs.session(graph)
        self.takes = frozenset(item.name for item in session.get_inputs())
        self._graphs, self._graph, self._answers = graphs, graph, answers
        self._session, self._binding = session, session.io_binding()
        self._given: dict[str, Array] = {}
        for name in answers:  # first, so that they are the first outputs
            self._binding.bind_output(name)

    def give(self, arrays: Mapping[str, Array]) -> None:
        """Bind inputs, contiguous arrays, by name. What the graph does not take is left out, and what is bound already
        is not bound again."""
        for name, array in arrays.items():
            if name in self.takes and self._given.get(name) is not array:
                self._binding.bind_ortvalue_input(name, self._value(array))
                self._given[name] = array

    def hold(self, name: str, array: Array) -> None:
        """Bind one array to `past_<name>` and `present_<name>`: the graph writes where it reads."""
        value = self._value(array)
        self._binding.bind_ortvalue_input(f"past_{name}", value)
        self._binding.bind_ortvalue_output(f"present_{name}", value)

    def run(self) -> list[Floats32]:
        """The answers. Each run makes new ones, which may be kept.

        Raises:
            OutOfMemory: what was asked may be asked again, in smaller parts.
            WorkError: onnxruntime failed.
        """
        for name in self._answers:  # else the next run would write over them
            self._binding.bind_output(name)
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # noqa: BLE001  # onnxruntime's errors have no other common base
            failure = self._graphs.failure(self._graph, error, self._given)
        else:
            values = self._binding.get_outputs_as_ortvaluevector()
            return [values[place].numpy() for place in range(len(self._answers))]
        raise failure

    def _value(self, array: Array) -> "OrtValue":
        assert array.flags.c_contiguous  # onnxruntime would read other places
        return self._graphs.value(array)
