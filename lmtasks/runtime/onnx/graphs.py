"""The graphs of a package in ONNX Runtime: a session each, opened when it is first needed; arrays bound to their inputs
and outputs, which are written in place and read when a graph runs; and what all drivers over them do alike.

Axes: B batch, T time, C classes.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from threading import Lock
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from numpy.typing import NDArray

from lmtasks.cores import checked_threads
from lmtasks.errors import UsageError, WorkError
from lmtasks.export.package import GraphName, Package, heads_graph
from lmtasks.records import Floats32, HeadSpec, RuntimeCard, TokenBatch
from lmtasks.runtime.driver import Driver, S
from lmtasks.runtime.memory import OutOfMemory, ran_out
from lmtasks.runtime.onnx.session import PROVIDERS, assigned_nodes, open_session, session_options, shares

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, OrtValue

Array = NDArray[np.generic]


class Graphs:
    """The graphs of one package, a session each.

    Args:
        package: what to run.
        threads: inside an operator; None: as many as the process may use.
        device: `cpu`; or `cuda`, where all graphs are opened at once, so that one that it cannot run is found first.
    """

    def __init__(self, package: Package, *, threads: int | None = None, device: str = "cpu") -> None:
        import onnxruntime

        self.package = package
        self.model = package.model
        self._device = device
        self._threads = checked_threads(threads)
        self._sessions: dict[GraphName, InferenceSession] = {}
        self._inputs: dict[GraphName, Mapping[str, tuple[int | str, ...]]] = {}
        self._opening = Lock()
        self._concurrent: Graphs | None = None
        self.value: Callable[[NDArray[np.generic]], OrtValue] = onnxruntime.OrtValue.ortvalue_from_numpy
        self.card = RuntimeCard(
            runtime="onnx",
            version=onnxruntime.__version__,
            device=device,
            precision=package.precision,
            threads=self._threads,
            size_bytes=package.size_bytes,
            options={**session_options(device), "emitter": package.emitter, "nodes": self._nodes()},
            callers=self._threads if device == "cpu" else 1,
        )

    def session(self, graph: GraphName) -> "InferenceSession":
        """The session of a graph.

        Raises:
            UsageError: this package has no such graph.
        """
        if graph not in self.package.graphs:
            raise UsageError(
                f"the package in {self.package.folder} has no {graph} graph ({self.model.family}, {self.model.kind}); "
                f"it has {', '.join(self.package.graphs)}."
            )
        with self._opening:
            if graph not in self._sessions:
                self._sessions[graph] = open_session(
                    self.package.folder / self.package.graphs[graph], threads=self._threads, device=self._device
                )
            return self._sessions[graph]

    def inputs(self, graph: GraphName) -> Mapping[str, tuple[int | str, ...]]:
        """The inputs that a graph takes, with their shapes: numbers, and names of free axes."""
        if graph not in self._inputs:
            self._inputs[graph] = {item.name: tuple(item.shape) for item in self.session(graph).get_inputs()}
        return self._inputs[graph]

    def ask(self, graph: GraphName, given: Mapping[str, NDArray[np.generic]], outputs: Sequence[str]) -> list[Floats32]:
        """Run a graph once, arrays to arrays. `given` may hold more than the graph takes. For a graph that answers in
        a third of a millisecond this is 60 us faster than `run`, most of which go into wrapping what comes out.

        Raises:
            OutOfMemory: what was asked may be asked again, in smaller parts.
            WorkError: onnxruntime failed.
        """
        session, takes = self.session(graph), self.inputs(graph)
        try:
            return list(session.run(list(outputs), {name: array for name, array in given.items() if name in takes}))
        except Exception as error:  # noqa: BLE001  # onnxruntime's errors have no other common base
            failure = self.failure(graph, error, given)
        raise failure

    def run(
        self,
        graph: GraphName,
        given: Mapping[str, NDArray[np.generic]],
        outputs: Sequence[str],
        held: "Mapping[str, OrtValue] | None" = None,
    ) -> "list[OrtValue]":
        """Run a graph whose answers stay onnxruntime's; `held` are values that are already. See `ask`."""
        session, takes = self.session(graph), self.inputs(graph)
        feeds = {name: self.value(array) for name, array in given.items() if name in takes}
        try:
            return list(session.run_with_ort_values(list(outputs), {**feeds, **(held or {})}))
        except Exception as error:  # noqa: BLE001  # onnxruntime's errors have no other common base
            failure = self.failure(graph, error, given)
        raise failure

    def failure(self, graph: GraphName, error: Exception, given: Mapping[str, NDArray[np.generic]]) -> WorkError:
        """The error for a failure of onnxruntime; `OutOfMemory` where memory ran out, without the old error, whose
        traceback holds the very tensors that are to be given back."""
        shapes = ", ".join(f"{name} {array.shape}" for name, array in given.items())
        if ran_out(error):
            return OutOfMemory(f"memory ran out in the {graph} graph of {self.model.name} ({shapes}).")
        reason = str(error).strip().splitlines()[0]
        return WorkError(f"onnxruntime failed on the {graph} graph of {self.model.name} ({shapes}): {reason}")

    def for_concurrent_calls(self) -> "Graphs":
        """The same graphs in sessions of one thread each, which are called from several threads at a time. Opened when
        they are first asked for: their weights are further copies."""
        if self.card.callers == 1:
            return self
        with self._opening:
            if self._concurrent is None:
                self._concurrent = Graphs(self.package, threads=1)
            return self._concurrent

    def close(self) -> None:
        """Give memory back."""
        self._sessions.clear()
        if self._concurrent is not None:
            self._concurrent.close()

    def _nodes(self) -> str:
        """The share of nodes that each provider computes. Where there is the processor alone it has all of them."""
        if self._device == "cpu":
            return f"{PROVIDERS['cpu']} 100.0%"
        found: dict[str, dict[str, int]] = {}
        for graph in self.package.graphs:
            for provider, kinds in assigned_nodes(self.session(graph)).items():
                counts = found.setdefault(provider, {})
                counts.update({kind: counts.get(kind, 0) + count for kind, count in kinds.items()})
        return shares(found)


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


class GraphDriver(Driver[S]):
    """A driver over the graphs of a package, which it keeps, and nothing else besides."""

    def __init__(
        self,
        graphs: Graphs,
        *,
        state_type: type[S],
        prompt_side: Literal["left", "right"] = "right",
        longest_prompt_tokens: int | None = None,
        heads_read_empty_rows: bool = False,
    ) -> None:
        super().__init__(
            graphs.model,
            graphs.card,
            state_type=state_type,
            prompt_side=prompt_side,
            longest_prompt_tokens=longest_prompt_tokens,
            heads_read_empty_rows=heads_read_empty_rows,
        )
        self._graphs = graphs

    def for_concurrent_calls(self) -> Self:
        """See `Runtime`."""
        if self.card.callers == 1:
            return self
        laid_out = copy(self)
        laid_out._graphs = self._graphs.for_concurrent_calls()
        laid_out.card = laid_out._graphs.card
        return laid_out

    def close(self) -> None:
        """See `Runtime`."""
        self._graphs.close()

    def _predict(self, spec: HeadSpec, batch: TokenBatch) -> Floats32:
        (logits,) = self._predict_heads((spec,), batch)
        return logits

    def _predict_heads(self, specs: Sequence[HeadSpec], batch: TokenBatch) -> list[Floats32]:
        names: dict[GraphName, list[str]] = {}
        for spec in specs:
            names.setdefault(heads_graph(self.model, spec), []).append(f"head.{spec.name}")
        found: dict[str, Floats32] = {}
        for graph, outputs in names.items():
            given: dict[str, Array] = {"ids": batch.ids, "mask": batch.mask}
            if "types" in self._graphs.inputs(graph):
                given["types"] = batch.types if batch.types is not None else np.zeros_like(batch.ids)
            found.update(zip(outputs, self._graphs.ask(graph, given, outputs), strict=True))
        return [found[f"head.{spec.name}"] for spec in specs]


def copied(value: "OrtValue") -> Floats32:
    """A graph's answer as an array of its own: onnxruntime hands out views of its memory."""
    array: Floats32 = np.array(value.numpy(), dtype=np.float32)
    return array
