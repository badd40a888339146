"""The primitives over the emitted graphs of a recurrent language model. Neither torch nor transformers is imported.

A state has a fixed size, so nothing grows, and rows that are picked, repeated or dropped are copied.

Axes: B batch, T time, N arrays of a state (layers x parts), U units, S wanted tokens, V vocabulary.
"""

import numpy as np

from lmtasks.errors import UsageError
from lmtasks.records import Bools, Floats32, Ints, TokenBatch, TokenScores, TokenTargets
from lmtasks.runtime.align import align
from lmtasks.runtime.base import Sharing
from lmtasks.runtime.batch_limits import check_batch
from lmtasks.runtime.memory import free_host_bytes, memory_errors
from lmtasks.runtime.onnx.binding import BoundGraph
from lmtasks.runtime.onnx.graphs import Graphs
from lmtasks.runtime.onnx.recurrent_state import Piece, RecurrentStepper, carry, state_names

PIECE_TOKENS = 4096
"""Long rows are read in pieces of so many columns over all rows together."""
LOGITS_BYTES = 32 * 2**20
"""So much memory may the logits of one piece take inside the graph while scoring."""


class RecurrentState:
    """Where each row stands. What it holds is not changed by later steps.

    Args:
        values: (N, B, U)
        stepper: what made it, and may make the next one.
    """

    def __init__(self, values: Floats32, stepper: RecurrentStepper | None = None) -> None:
        self.values, self.stepper = values, stepper


class OnnxRecurrentRuntime:
    """A package of an emitted recurrent language model in ONNX Runtime.

    Args:
        graphs: of the package.
    """

    def __init__(self, graphs: Graphs) -> None:
        self._graphs = graphs
        self.model = graphs.model
        self.card = graphs.card

    @property
    def sharing(self) -> Sharing:
        """See `Runtime`. A state stands for everything before it; rows do not branch."""
        return Sharing(longest_row=0, prefix=True)

    def predict(self, head: str, batch: TokenBatch) -> Floats32:
        """See `Runtime`."""
        check_batch(batch, self.model)
        return self._graphs.predict(head, batch)

    def score(
        self,
        batch: TokenBatch,
        wanted: TokenTargets,
        *,
        reach: Ints | None = None,
        behind: RecurrentState | None = None,
        source: TokenBatch | None = None,
        source_rows: Ints | None = None,
    ) -> TokenScores:
        """See `Runtime`. Rows are read in pieces, so that no piece's logits take more than `LOGITS_BYTES`."""
        if source is not None or source_rows is not None:
            raise UsageError(f"{self.model.name} is a causal model; it reads no source.")
        if reach is not None:
            raise UsageError(f"{self.model.name} reads tokens one after the other; its rows cannot branch.")
        logprobs = np.zeros(len(wanted.rows), dtype=np.float32)
        greedy = np.zeros(len(wanted.rows), dtype=np.bool_)
        if not len(logprobs):
            return TokenScores(logprobs=logprobs, greedy=greedy)
        aligned = align(batch, side="right")
        columns, ids = aligned.columns_of(wanted), aligned.batch.ids
        # Behind the last column that is asked for nothing is read.
        asked = np.zeros(len(ids), dtype=np.int64)
        np.maximum.at(asked, wanted.rows, columns + 1)
        if (asked > aligned.batch.mask.sum(axis=1)).any():
            raise UsageError("a token is wanted behind a column that is padding; it can be behind a token only.")
        most = max(1, min(PIECE_TOKENS, LOGITS_BYTES // (4 * self.model.vocabulary)))
        with memory_errors(f"scoring {len(ids)} rows of {ids.shape[1]} tokens"):
            values = self._start(len(ids)) if behind is None else behind.values.repeat(len(ids), axis=1)
            for start in range(0, len(ids), most):
                rows = np.arange(start, min(start + most, len(ids)))
                every = max(1, most // len(rows))
                for first in range(0, int(asked[rows].max()), every):
                    rows = rows[asked[rows] > first]
                    (mine,) = np.nonzero((columns >= first) & (columns < first + every) & np.isin(wanted.rows, rows))
                    piece = Piece(ids, rows=rows, new=np.minimum(asked[rows] - first, every), first=first)
                    where = piece.places(wanted.rows[mine], columns[mine])
                    logprobs[mine], greedy[mine] = self._score(piece, values, where, wanted.tokens[mine])
        return TokenScores(logprobs=logprobs, greedy=greedy)

    def prefill(self, batch: TokenBatch) -> tuple[RecurrentState, Floats32]:
        """See `Runtime`."""
        check_batch(batch, self.model)
        right = align(batch, side="right").batch
        ids, lengths = right.ids, right.mask.sum(axis=1)
        every = max(1, PIECE_TOKENS // len(ids))
        with memory_errors(f"reading {len(ids)} prompts of {lengths.max()} tokens"):
            values = self._start(len(ids))
            logits = np.empty((len(ids), self.model.vocabulary), dtype=np.float32)
            rows = np.arange(len(ids))
            for first in range(0, ids.shape[1], every):
                rows = rows[lengths[rows] > first]
                piece = Piece(ids, rows=rows, new=np.minimum(lengths[rows] - first, every), first=first)
                ends = rows[lengths[rows] <= first + every]
                logits[ends] = self._read(piece, values, piece.places(ends, lengths[ends] - 1))
        return RecurrentState(values), logits

    def step(self, state: RecurrentState, ids: Ints) -> tuple[RecurrentState, Floats32]:
        """See `Runtime`."""
        with memory_errors(f"continuing {len(ids)} rows"):
            stepper = state.stepper
            if stepper is None or stepper.rows != len(ids):
                stepper = RecurrentStepper(self._graphs, state.values)
            else:
                stepper.values[:] = state.values
            logits = stepper.step(ids).copy()
            return RecurrentState(stepper.values.copy(), stepper), logits

    def reorder(self, state: RecurrentState, rows: Ints) -> RecurrentState:
        """See `Runtime`."""
        with memory_errors(f"moving {len(rows)} rows"):
            return RecurrentState(state.values[:, rows], state.stepper)

    def slots(self, *, rows: int, length: int) -> "RecurrentSlots":
        """See `Runtime`. A state needs the same room however long its row is."""
        del length
        return RecurrentSlots(self, self._graphs, rows=rows)

    def beside(self) -> "OnnxRecurrentRuntime":
        """See `Runtime`."""
        return OnnxRecurrentRuntime(self._graphs.beside())

    def free_bytes(self) -> int:
        """See `Runtime`."""
        return free_host_bytes()

    def close(self) -> None:
        """See `Runtime`."""
        self._graphs.close()

    def _start(self, rows: int) -> Floats32:
        """The state before any token."""
        names = state_names(self._graphs)
        units = int(self._graphs.inputs("decoder")[f"past_{names[0]}"][2])
        return np.zeros((len(names), rows, units), dtype=np.float32)

    def _read(self, piece: Piece, values: Floats32, wanted: Ints) -> Floats32:
        """Read on in place: logits (W, V)."""
        bound = BoundGraph(self._graphs, "decoder")
        logits = np.empty((len(wanted), self.model.vocabulary), dtype=np.float32)
        bound.take("logits", logits)
        bound.give({"wanted": wanted})
        carry(bound, self._graphs, piece, values)
        return logits

    def _score(self, piece: Piece, values: Floats32, where: Ints, tokens: Ints) -> tuple[Floats32, Bools]:
        """Read on in place: log-probability of each token, and "no other is more likely there"."""
        logprobs, greedy = np.empty(len(tokens), dtype=np.float32), np.empty(len(tokens), dtype=np.bool_)
        wanted, index = np.unique(where, return_inverse=True)
        bound = BoundGraph(self._graphs, "score")
        bound.take("logprob", logprobs)
        bound.take("greedy", greedy)
        bound.give({"wanted": wanted, "index": index.reshape(-1), "targets": np.ascontiguousarray(tokens)})
        carry(bound, self._graphs, piece, values)
        return logprobs, greedy


class RecurrentSlots:
    """Rows that come and go: one state for those in use. See `Slots` in `base.py`.

    Args:
        rows: there is room for so many.
    """

    joins = True

    def __init__(self, runtime: OnnxRecurrentRuntime, graphs: Graphs, *, rows: int) -> None:
        self._runtime, self._graphs = runtime, graphs
        self._rows = rows
        self._values: Floats32 | None = None
        """Of the rows in use, as they were when `_stepper` was made."""
        self._stepper: RecurrentStepper | None = None

    def fill(self, batch: TokenBatch) -> Floats32:
        """See `Slots`."""
        self._rest()
        used = 0 if self._values is None else self._values.shape[1]
        if used + len(batch.ids) > self._rows:
            raise ValueError(f"{len(batch.ids)} rows were to come; of {self._rows} places {used} are in use")
        state, logits = self._runtime.prefill(batch)
        self._values = state.values if self._values is None else np.concatenate([self._values, state.values], axis=1)
        return logits

    def step(self, ids: Ints) -> Floats32:
        """See `Slots`."""
        if self._stepper is None:
            assert self._values is not None  # there are no rows to step before some were filled in
            with memory_errors(f"continuing {len(ids)} rows"):
                self._stepper = RecurrentStepper(self._graphs, self._values)
        return self._stepper.step(ids)

    def leave(self, place: int) -> None:
        """See `Slots`."""
        self._rest()
        assert self._values is not None  # no row can leave before some were filled in
        last = self._values.shape[1] - 1
        self._values[:, place] = self._values[:, last]
        self._values = np.ascontiguousarray(self._values[:, :last])

    def _rest(self) -> None:
        """Rows will change: take over where they stand."""
        if self._stepper is not None:
            self._values, self._stepper = self._stepper.values.copy(), None
