"""The primitives over the graphs that were traced, of any kind of model, and over those of encoders.

Neither torch nor transformers is imported.

Caches stay onnxruntime's own values from step to step; nothing of them passes through NumPy until rows are reordered.

Axes: B batch, T time, P cached positions, S source positions, V vocabulary.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lmtasks.errors import UsageError
from lmtasks.export.package import GraphName
from lmtasks.records import Bools, Floats32, Ints, TokenBatch, TokenScores, TokenTargets
from lmtasks.runtime.align import align
from lmtasks.runtime.base import NOTHING_SHARED, Sharing
from lmtasks.runtime.memory import free_host_bytes
from lmtasks.runtime.onnx.dense_targets import grid_of
from lmtasks.runtime.onnx.graphs import Graphs, copied

if TYPE_CHECKING:
    from onnxruntime import OrtValue

LOGITS_BYTES = 128 * 2**20
"""So much memory may the logits of one call take inside the graph while scoring; further rows are another call."""


@dataclass(frozen=True, kw_only=True)
class OnnxState:
    """Where each row stands. Nothing in it is changed by later steps, so a state may be continued more than once."""

    past: "Mapping[str, OrtValue]"
    """By input name: keys and values (B, heads, P, width of a head)."""
    mask: Bools
    """(B, P): which columns of the cache are tokens; of an encoder-decoder, (B, S): which of the source are."""
    cross: "Mapping[str, OrtValue] | None" = None
    """By input name: keys and values of the source, of an encoder-decoder."""


class OnnxTracedRuntime:
    """A package in ONNX Runtime. A graph's session is opened when it is first needed.

    Args:
        graphs: of the package.
    """

    def __init__(self, graphs: Graphs) -> None:
        self._graphs = graphs
        self.model = graphs.model
        self.card = graphs.card

    def predict(self, head: str, batch: TokenBatch) -> Floats32:
        """See `Runtime`."""
        return self._graphs.predict(head, batch)

    @property
    def sharing(self) -> Sharing:
        """See `Runtime`: the score graph reads plain rows."""
        return NOTHING_SHARED

    def score(
        self,
        batch: TokenBatch,
        wanted: TokenTargets,
        *,
        reach: Ints | None = None,
        behind: OnnxState | None = None,
        source: TokenBatch | None = None,
        source_rows: Ints | None = None,
    ) -> TokenScores:
        """See `Runtime`. The graph scores each next token of plain rows, from which the wanted ones are picked. Rows go
        through it as many at a time as `LOGITS_BYTES` allow."""
        if reach is not None or behind is not None:
            raise UsageError(f"the score graph of {self.model.name} reads plain rows; see `sharing`.")
        if not len(wanted.rows):
            return TokenScores(logprobs=np.zeros(0, dtype=np.float32), greedy=np.zeros(0, dtype=np.bool_))
        grid = grid_of(batch, wanted)
        given: dict[str, NDArray[np.generic]] = {"ids": grid.batch.ids, "mask": grid.batch.mask}
        if source is not None:
            encoder = align(source, side="right").batch
            picked = grid.origin if source_rows is None else source_rows[grid.origin]
            given |= {"source_ids": encoder.ids[picked], "source_mask": encoder.mask[picked]}
        rows, columns = grid.batch.ids.shape
        every = max(1, LOGITS_BYTES // (4 * columns * self.model.vocabulary))
        parts = []
        for start in range(0, rows, every):
            part = {name: np.ascontiguousarray(array[start : start + every]) for name, array in given.items()}
            parts.append(self._graphs.ask("score", part, ["logprobs", "greedy"]))
        cells = (grid.rows, grid.columns)
        return TokenScores(
            logprobs=np.concatenate([part[0] for part in parts])[cells],
            greedy=np.concatenate([part[1] for part in parts])[cells],
        )

    def prefill(self, batch: TokenBatch) -> tuple[OnnxState, Floats32]:
        """See `Runtime`."""
        if self.model.kind == "encoder-decoder":
            return self._prefill_pairs(align(batch, side="right").batch)
        aligned = align(batch, side="left").batch
        return self._append(self._empty_past(aligned.ids.shape[0]), aligned.ids, aligned.mask)

    def step(self, state: OnnxState, ids: Ints) -> tuple[OnnxState, Floats32]:
        """See `Runtime`."""
        new = np.ascontiguousarray(ids[:, None])
        if state.cross is None:
            mask = np.concatenate([state.mask, np.ones((new.shape[0], 1), dtype=np.bool_)], axis=1)
            return self._append(state.past, new, mask)
        given = {"ids": new, "source_mask": state.mask}
        logits, past = self._decode("decoder", given, {**state.past, **state.cross})
        return OnnxState(past=past, mask=state.mask, cross=state.cross), logits

    def reorder(self, state: OnnxState, rows: Ints) -> OnnxState:
        """See `Runtime`. Columns of the cache that are padding in all rows kept are dropped."""
        if np.array_equal(rows, np.arange(state.mask.shape[0])):
            return state
        mask = state.mask[rows]
        if state.cross is not None:
            return OnnxState(past=self._pick(state.past, rows), mask=mask, cross=self._pick(state.cross, rows))
        first = int(mask.any(axis=0).argmax())
        return OnnxState(past=self._pick(state.past, rows, first=first), mask=np.ascontiguousarray(mask[:, first:]))

    def slots(self, *, rows: int, length: int) -> None:
        """See `Runtime`: the caches of these graphs grow from step to step."""
        return

    def beside(self) -> "OnnxTracedRuntime":
        """See `Runtime`."""
        return OnnxTracedRuntime(self._graphs.beside())

    def free_bytes(self) -> int:
        """See `Runtime`."""
        return free_host_bytes()

    def close(self) -> None:
        """See `Runtime`."""
        self._graphs.close()

    def _append(self, past: "Mapping[str, OrtValue]", ids: Ints, mask: Bools) -> tuple[OnnxState, Floats32]:
        logits, present = self._decode("decoder", {"ids": ids, "mask": mask}, past)
        return OnnxState(past=present, mask=mask), logits

    def _decode(
        self, graph: GraphName, given: Mapping[str, NDArray[np.generic]], held: "Mapping[str, OrtValue]"
    ) -> "tuple[Floats32, dict[str, OrtValue]]":
        """Next-token logits, and the caches under the names by which the next step takes them."""
        names = [item.name for item in self._graphs.session(graph).get_outputs() if item.name.startswith("present_")]
        logits, *present = self._graphs.run(graph, given, ["logits", *names], held)
        return copied(logits), {
            name.replace("present_", "past_", 1): value for name, value in zip(names, present, strict=True)
        }

    def _prefill_pairs(self, source: TokenBatch) -> tuple[OnnxState, Floats32]:
        """Read the source, and feed the decoder its start token."""
        start = np.full((source.ids.shape[0], 1), self.model.decoder_start, dtype=np.int64)
        names = [item.name for item in self._graphs.session("encoder").get_outputs()]
        outputs = self._graphs.run(
            "encoder", {"source_ids": source.ids, "source_mask": source.mask, "ids": start}, names
        )
        by_name = dict(zip(names, outputs, strict=True))
        past = {
            name.replace("present_", "past_", 1): value
            for name, value in by_name.items()
            if name.startswith("present_")
        }
        cross = {name: value for name, value in by_name.items() if name.startswith("cross_")}
        return OnnxState(past=past, mask=source.mask, cross=cross), copied(by_name["logits"])

    def _empty_past(self, rows: int) -> "dict[str, OrtValue]":
        shapes = {
            item.name: item.shape
            for item in self._graphs.session("decoder").get_inputs()
            if item.name.startswith("past_")
        }
        return {
            name: self._graphs.value(np.zeros((rows, int(shape[1]), 0, int(shape[3])), dtype=np.float32))
            for name, shape in shapes.items()
        }

    def _pick(self, past: "Mapping[str, OrtValue]", rows: Ints, *, first: int = 0) -> "dict[str, OrtValue]":
        return {
            name: self._graphs.value(np.ascontiguousarray(value.numpy()[rows, :, first:]))
            for name, value in past.items()
        }
