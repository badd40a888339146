"""The graph of an encoder package in OpenVINO, with every option stated that changes an answer or its speed.

OpenVINO compiles for each shape that it meets, and keeps what it compiled. One request at a time runs on all threads;
for calls beside each other the graph is compiled again into as many streams as there are callers, which share its
weights.

Axes: B batch, T time, C classes.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from lmtasks.cores import checked_threads
from lmtasks.errors import UsageError, WorkError
from lmtasks.export.package import GraphName, Package
from lmtasks.records import Bools, Floats32, HeadSpec, Ints, RuntimeCard, TokenBatch
from lmtasks.runtime.base import DecodingState
from lmtasks.runtime.driver import Driver, ScoreInput
from lmtasks.runtime.memory import OutOfMemory, ran_out

if TYPE_CHECKING:
    from openvino import CompiledModel, Core, InferRequest

GRAPH: GraphName = "heads"
"""The only one that an encoder has."""
HINTS: Mapping[str, str] = {"fp32": "f32", "int8-static": "f32", "bf16": "bf16"}
"""By precision: what is computed in where a graph says fp32."""
FAILED = re.compile(r"Conversion is failed for: (.+)")
MISSING = re.compile(r"^-- (\S+) with a message", re.MULTILINE)
LONGEST_REASON = 300
"""Characters of an error of OpenVINO that are shown; whole ones have a dozen lines of its source files."""


class NoState(DecodingState):
    """A state that nobody makes: an encoder predicts no tokens."""


class OpenVinoRuntime(Driver[NoState]):
    """A package of an encoder in OpenVINO.

    Args:
        package: what to run.
        threads: None: as many as the process may use.
    """

    def __init__(self, package: Package, *, threads: int | None = None) -> None:
        import openvino

        self._package = package
        self._threads = checked_threads(threads)
        card = RuntimeCard(
            runtime="openvino",
            version=openvino.__version__.partition("-")[0],
            device="cpu",
            precision=package.precision,
            threads=self._threads,
            size_bytes=package.size_bytes,
            options={**options(package.precision, threads=self._threads, streams=1), "emitter": package.emitter},
            callers=self._threads,
        )
        super().__init__(package.model, card, state_type=NoState)
        self._core = openvino.Core()
        self._compiled = CompiledGraph(self._core, package, threads=self._threads, streams=1)
        self._concurrent: list[CompiledGraph] = []
        self._opening = Lock()

    def for_concurrent_calls(self) -> Self:
        """See `Runtime`. What is laid out so is compiled when it is first asked for."""
        if self.card.callers == 1:
            return self
        with self._opening:
            if not self._concurrent:
                threads = self._threads
                self._concurrent.append(CompiledGraph(self._core, self._package, threads=threads, streams=threads))
        laid_out = copy(self)
        laid_out._compiled = self._concurrent[0]
        return laid_out

    def close(self) -> None:
        """See `Runtime`."""
        self._concurrent.clear()
        self._compiled.close()

    def _predict(self, spec: HeadSpec, batch: TokenBatch) -> Floats32:
        (logits,) = self._predict_heads((spec,), batch)
        return logits

    def _predict_heads(self, specs: Sequence[HeadSpec], batch: TokenBatch) -> list[Floats32]:
        types = batch.types if batch.types is not None else np.zeros_like(batch.ids)
        given = {"ids": batch.ids, "mask": batch.mask, "types": types}
        return self._compiled.ask(given, [f"head.{spec.name}" for spec in specs])

    def _score(self, given: ScoreInput[NoState]) -> tuple[Floats32, Bools]:
        raise self._writes_nothing()

    def _prefill(self, prompts: TokenBatch, lengths: Ints) -> tuple[NoState, Floats32]:
        raise self._writes_nothing()

    def _step(self, state: NoState, ids: Ints) -> tuple[NoState, Floats32]:
        raise self._writes_nothing()

    def _reorder(self, state: NoState, rows: Ints) -> NoState:
        raise self._writes_nothing()

    def _writes_nothing(self) -> UsageError:
        return UsageError(f"{self.model.name} ({self.model.family}) answers by heads alone; it predicts no tokens.")


class CompiledGraph:
    """One way in which a graph is compiled.

    Args:
        core: OpenVINO's.
        package: whose graph.
        threads: of all streams together.
        streams: so many requests run beside each other.

    Raises:
        WorkError: OpenVINO cannot open the graph; its operators are named.
    """

    def __init__(self, core: "Core", package: Package, *, threads: int, streams: int) -> None:
        self._name = package.model.name
        self._compiled: CompiledModel | None = compiled(
            core, package.folder / package.graphs[GRAPH], options(package.precision, threads=threads, streams=streams)
        )
        self._takes = frozenset(port.any_name for port in self._compiled.inputs)
        self._free: SimpleQueue[InferRequest] = SimpleQueue()
        for _ in range(streams):
            self._free.put(self._compiled.create_infer_request())

    def ask(self, given: Mapping[str, NDArray[np.generic]], outputs: Sequence[str]) -> list[Floats32]:
        """Run the graph once, arrays to arrays. `given` may hold more than the graph takes.

        Raises:
            OutOfMemory: what was asked may be asked again, in smaller parts.
            WorkError: OpenVINO failed.
        """
        arrays = {name: np.ascontiguousarray(array) for name, array in given.items() if name in self._takes}
        with self._request() as request:
            try:
                request.infer(arrays, share_inputs=True)
                return [np.array(request.get_tensor(name).data, dtype=np.float32) for name in outputs]
            except Exception as error:  # noqa: BLE001  # OpenVINO's errors have no other common base
                failure = self._failure(error, given)
        raise failure

    def close(self) -> None:
        """Give memory back."""
        self._free = SimpleQueue()
        self._compiled = None

    @contextmanager
    def _request(self) -> "Iterator[InferRequest]":
        request = self._free.get()
        try:
            yield request
        finally:
            self._free.put(request)

    def _failure(self, error: Exception, given: Mapping[str, NDArray[np.generic]]) -> WorkError:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in given.items())
        if ran_out(error):
            return OutOfMemory(f"memory ran out in the {GRAPH} graph of {self._name} ({shapes}).")
        return WorkError(f"openvino failed on the {GRAPH} graph of {self._name} ({shapes}): {reason_of(error)}")


def options(precision: str, *, threads: int, streams: int) -> dict[str, str]:
    """OpenVINO's properties, which are recorded with every answer."""
    return {
        "INFERENCE_PRECISION_HINT": HINTS[precision],
        "INFERENCE_NUM_THREADS": str(threads),
        "NUM_STREAMS": str(streams),
        "PERFORMANCE_HINT": "LATENCY" if streams == 1 else "THROUGHPUT",
        "EXECUTION_MODE_HINT": "PERFORMANCE",
        # Rounding of activations that nobody asked for, where weights are kept in 8 bits.
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
        # Pinned threads of two processes stand on the same cores.
        "ENABLE_CPU_PINNING": "NO",
        "ENABLE_HYPER_THREADING": "YES",  # the threads that were asked for are counted in logical cores
    }


def compiled(core: "Core", file: Path, properties: Mapping[str, str]) -> "CompiledModel":
    """A graph, ready to run.

    Raises:
        WorkError: OpenVINO does not have an operator of it, which is named, or cannot compile it.
    """
    import openvino

    try:
        return core.compile_model(core.read_model(str(file)), "CPU", dict(properties))
    except Exception as error:  # OpenVINO's errors have no other common base
        raise WorkError(
            f"openvino {openvino.__version__.partition('-')[0]} cannot open {file}: {reason_of(error)}"
        ) from error


def reason_of(error: Exception) -> str:
    """The reason of a failure in a sentence: operators that OpenVINO does not have, else the last line that it says.

    >>> reason_of(RuntimeError("...\\nSummary:\\n-- Conversion is failed for: com.microsoft.GroupQueryAttention\\n"))
    'it does not have com.microsoft.GroupQueryAttention as this graph uses it.'
    """
    text = str(error).strip()
    found = FAILED.search(text)
    names = found[1] if found else ", ".join(dict.fromkeys(MISSING.findall(text)))
    if names:
        return f"it does not have {names} as this graph uses it."
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:LONGEST_REASON]
