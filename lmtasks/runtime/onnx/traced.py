"""The driver of graphs that were traced, of any kind of model, and of those of encoders.

Neither torch nor transformers is imported.

Caches stay onnxruntime's own values from step to step; nothing of them passes through NumPy until rows are reordered.
The score graph scores each next token of a row and no other, so target tokens become rows in which each stands behind
what it is to follow.

Axes: B batch, T time, P cached positions, S source positions or target tokens, G dense rows, V vocabulary.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from lmtasks.export.package import GraphName
from lmtasks.records import Bools, Floats32, Ints, TokenBatch, TokenTargets, softmax_log
from lmtasks.runtime.base import DecodingState
from lmtasks.runtime.driver import ScoreInput
from lmtasks.runtime.onnx.graphs import GraphDriver, Graphs, copied

if TYPE_CHECKING:
    from onnxruntime import OrtValue

LOGITS_BYTES = 128 * 2**20
"""So much memory may the logits of one call take inside the graph while scoring; further rows are another call."""
PROMPT_TOKENS = 1024
"""So many are read at once where logits of several places are wanted."""


@dataclass(frozen=True, kw_only=True)
class TracedState(DecodingState):
    """Keys and values of each row, and which columns of them are tokens."""

    past: "Mapping[str, OrtValue]"
    """By input name: keys and values (B, heads, P, width of a head)."""
    mask: Bools
    """(B, P): which columns of the cache are tokens; of an encoder-decoder, (B, S): which of the source are."""
    cross: "Mapping[str, OrtValue] | None" = None
    """By input name: keys and values of the source, of an encoder-decoder."""


class OnnxTracedRuntime(GraphDriver[TracedState]):
    """A package of traced graphs, or of an encoder, in ONNX Runtime.

    Args:
        graphs: of the package.
    """

    def __init__(self, graphs: Graphs) -> None:
        side: Literal["left", "right"] = "right" if graphs.model.kind == "encoder-decoder" else "left"
        super().__init__(graphs, state_type=TracedState, prompt_side=side, heads_read_empty_rows=True)

    def _score(self, given: ScoreInput[TracedState]) -> tuple[Floats32, Bools]:
        """Rows go through the graph as many at a time as `LOGITS_BYTES` allow."""
        dense = dense_targets(given.rows, given.targets)
        arrays: dict[str, NDArray[np.generic]] = {"ids": dense.batch.ids, "mask": dense.batch.mask}
        if given.source is not None:
            picked = dense.origin if given.source_rows is None else given.source_rows[dense.origin]
            arrays |= {"source_ids": given.source.ids[picked], "source_mask": given.source.mask[picked]}
        rows, columns = dense.batch.ids.shape
        every = max(1, LOGITS_BYTES // (4 * columns * self.model.vocabulary))
        parts = []
        for start in range(0, rows, every):
            part = {name: np.ascontiguousarray(array[start : start + every]) for name, array in arrays.items()}
            parts.append(self._graphs.ask("score", part, ["logprobs", "greedy"]))
        cells = (dense.rows, dense.columns)
        greedy: Bools = np.concatenate([part[1] for part in parts])[cells].astype(np.bool_, copy=False)
        return np.concatenate([part[0] for part in parts])[cells], greedy

    def next_logprobs(self, batch: TokenBatch, rows: Ints, columns: Ints) -> Iterator[Floats32]:
        """See `Runtime`: its graph makes logits anew for each target of a place, so that each place is read as the end
        of a prompt."""
        every = max(1, PROMPT_TOKENS // batch.ids.shape[1])
        for first in range(0, len(rows), every):
            part = slice(first, first + every)
            read = batch.mask[rows[part]] & (np.arange(batch.ids.shape[1]) <= columns[part, None])
            logits = self.prefill(TokenBatch(ids=batch.ids[rows[part]], mask=read))[1]
            yield softmax_log(logits).astype(np.float32, copy=False)

    def _prefill(self, prompts: TokenBatch, lengths: Ints) -> tuple[TracedState, Floats32]:
        if self.model.kind == "encoder-decoder":
            return self._prefill_seq2seq(prompts)
        return self._append(self._empty_past(len(lengths)), prompts.ids, prompts.mask)

    def _step(self, state: TracedState, ids: Ints) -> tuple[TracedState, Floats32]:
        new = np.ascontiguousarray(ids[:, None])
        if state.cross is None:
            mask = np.concatenate([state.mask, np.ones((new.shape[0], 1), dtype=np.bool_)], axis=1)
            return self._append(state.past, new, mask)
        given = {"ids": new, "source_mask": state.mask}
        logits, past = self._decode("decoder", given, {**state.past, **state.cross})
        return TracedState(past=past, mask=state.mask, cross=state.cross), logits

    def _reorder(self, state: TracedState, rows: Ints) -> TracedState:
        """Columns of the cache that are padding in all rows kept are dropped."""
        if np.array_equal(rows, np.arange(state.mask.shape[0])):
            return state
        mask = state.mask[rows]
        if state.cross is not None:
            return TracedState(past=self._pick(state.past, rows), mask=mask, cross=self._pick(state.cross, rows))
        first = int(mask.any(axis=0).argmax())
        return TracedState(past=self._pick(state.past, rows, first=first), mask=np.ascontiguousarray(mask[:, first:]))

    def _append(self, past: "Mapping[str, OrtValue]", ids: Ints, mask: Bools) -> tuple[TracedState, Floats32]:
        logits, present = self._decode("decoder", {"ids": ids, "mask": mask}, past)
        return TracedState(past=present, mask=mask), logits

    def _decode(
        self, graph: GraphName, given: Mapping[str, NDArray[np.generic]], held: "Mapping[str, OrtValue]"
    ) -> "tuple[Floats32, dict[str, OrtValue]]":
        """Next-token logits, and the caches under the names by which the next step takes them."""
        names = [item.name for item in self._graphs.session(graph).get_outputs() if item.name.startswith("present_")]
        logits, *present = self._graphs.run(graph, given, ["logits", *names], held)
        return copied(logits), {
            name.replace("present_", "past_", 1): value for name, value in zip(names, present, strict=True)
        }

    def _prefill_seq2seq(self, source: TokenBatch) -> tuple[TracedState, Floats32]:
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
        return TracedState(past=past, mask=source.mask, cross=cross), copied(by_name["logits"])

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


@dataclass(frozen=True, kw_only=True)
class DenseTargets:
    """Rows in which every target token stands behind what it is to follow."""

    batch: TokenBatch
    """(G, T), padded on the right."""
    origin: Ints
    """(G,): the given row that each one was made from."""
    rows: Ints
    """(S,): where each target's score stands among the dense (G, T - 1): row, ..."""
    columns: Ints
    """... and column."""


def dense_targets(batch: TokenBatch, targets: TokenTargets) -> DenseTargets:
    """The fewest rows that hold all targets. A given row, padded on the right, serves those that it holds itself, and
    one more behind its end; each other one gets a row of its own.

    >>> rows = TokenBatch(ids=np.array([[5, 6]]), mask=np.ones((1, 2), dtype=np.bool_))
    >>> asked = TokenTargets(rows=np.array([0, 0, 0]), columns=np.array([0, 1, 1]), tokens=np.array([6, 7, 8]))
    >>> dense = dense_targets(rows, asked)
    >>> dense.batch.ids.tolist(), dense.rows.tolist(), dense.columns.tolist()
    ([[5, 6, 7], [5, 6, 8]], [0, 0, 1], [0, 1, 1])
    """
    read = [row[mask].tolist() for row, mask in zip(batch.ids, batch.mask, strict=True)]
    asked = list(zip(targets.rows.tolist(), targets.columns.tolist(), targets.tokens.tolist(), strict=True))
    held = [read[row][column + 1 : column + 2] == [token] for row, column, token in asked]
    made: list[list[int]] = []
    origin: list[int] = []
    alone: dict[tuple[int, int, int], int] = {}
    whole: dict[int, int] = {}
    for (row, column, token), inside in zip(asked, held, strict=True):
        if not inside and (row, column, token) not in alone:
            if column + 1 == len(read[row]):
                whole.setdefault(row, len(made))
            alone[row, column, token] = len(made)
            made.append([*read[row][: column + 1], token])
            origin.append(row)
    for (row, _, _), inside in zip(asked, held, strict=True):
        if inside and row not in whole:
            whole[row] = len(made)
            made.append(read[row])
            origin.append(row)
    places = [whole[cell[0]] if inside else alone[cell] for cell, inside in zip(asked, held, strict=True)]
    return DenseTargets(batch=_padded(made), origin=np.array(origin), rows=np.array(places), columns=targets.columns)


def _padded(rows: list[list[int]]) -> TokenBatch:
    shape = (len(rows), max(map(len, rows)))
    ids, mask = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.bool_)
    for number, row in enumerate(rows):
        ids[number, : len(row)], mask[number, : len(row)] = row, True
    return TokenBatch(ids=ids, mask=mask)
