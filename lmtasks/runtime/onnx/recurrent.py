"""The driver of the emitted graphs of a recurrent language model. Neither torch nor transformers is imported.

A state has a fixed size, so nothing grows, and rows that are picked, repeated or dropped are copied. It is handed to
the graphs and taken back, for a piece of rows or for one token.

Axes: B batch, T time, N arrays of a state (layers x parts), U units, S target tokens, V vocabulary.
"""

from collections.abc import Sequence

import numpy as np

from lmtasks.records import Bools, Floats32, Ints, TokenBatch
from lmtasks.runtime.base import PREFIX_SHARED, DecodingState, Sharing
from lmtasks.runtime.driver import ScoreInput
from lmtasks.runtime.memory import memory_errors
from lmtasks.runtime.onnx.graphs import BoundGraph, GraphDriver, Graphs

PIECE_TOKENS = 4096
"""Long rows are read in pieces of so many columns over all rows together."""
LOGITS_BYTES = 32 * 2**20
"""So much memory may the logits of one piece take inside the graph while scoring."""


class RecurrentState(DecodingState):
    """The arrays of each row.

    Args:
        values: (N, B, U)
        stepper: made them, and may make the next ones.
    """

    def __init__(self, values: Floats32, stepper: "RecurrentStepper | None" = None) -> None:
        self.values, self.stepper = values, stepper


class OnnxRecurrentRuntime(GraphDriver[RecurrentState]):
    """A package of an emitted recurrent language model in ONNX Runtime.

    Args:
        graphs: of the package.
    """

    def __init__(self, graphs: Graphs) -> None:
        super().__init__(graphs, state_type=RecurrentState)

    @property
    def sharing(self) -> Sharing:
        """See `Runtime`."""
        return PREFIX_SHARED

    def slots(self, *, rows: int, length: int) -> "RecurrentSlots":
        """See `Runtime`. A state needs the same room however long its row is."""
        del length
        return RecurrentSlots(self, self._graphs, rows=rows)

    def _score(self, given: ScoreInput[RecurrentState]) -> tuple[Floats32, Bools]:
        """Rows are read in pieces, so that no piece's logits take more than `LOGITS_BYTES`."""
        targets, ids, prefix = given.targets, given.rows.ids, given.prefix_state
        logprobs = np.zeros(len(targets.rows), dtype=np.float32)
        greedy = np.zeros(len(targets.rows), dtype=np.bool_)
        # Behind the last column that has a target nothing is read.
        read = np.zeros(len(ids), dtype=np.int64)
        np.maximum.at(read, targets.rows, targets.columns + 1)
        most = max(1, min(PIECE_TOKENS, LOGITS_BYTES // (4 * self.model.vocabulary)))
        values = self._start(len(ids)) if prefix is None else prefix.values.repeat(len(ids), axis=1)
        for start in range(0, len(ids), most):
            rows = np.arange(start, min(start + most, len(ids)))
            every = max(1, most // len(rows))
            for first in range(0, int(read[rows].max()), every):
                rows = rows[read[rows] > first]
                inside = (targets.columns >= first) & (targets.columns < first + every)
                (mine,) = np.nonzero(inside & np.isin(targets.rows, rows))
                piece = Piece(ids, rows=rows, new=np.minimum(read[rows] - first, every), first=first)
                where = piece.places(targets.rows[mine], targets.columns[mine])
                logprobs[mine], greedy[mine] = self._score_piece(piece, values, where, targets.tokens[mine])
        return logprobs, greedy

    def _prefill(self, prompts: TokenBatch, lengths: Ints) -> tuple[RecurrentState, Floats32]:
        ids = prompts.ids
        every = max(1, PIECE_TOKENS // len(ids))
        values = self._start(len(ids))
        logits = np.empty((len(ids), self.model.vocabulary), dtype=np.float32)
        rows = np.arange(len(ids))
        for first in range(0, ids.shape[1], every):
            rows = rows[lengths[rows] > first]
            piece = Piece(ids, rows=rows, new=np.minimum(lengths[rows] - first, every), first=first)
            ends = rows[lengths[rows] <= first + every]
            logits[ends] = self._read(piece, values, piece.places(ends, lengths[ends] - 1))
        return RecurrentState(values), logits

    def _step(self, state: RecurrentState, ids: Ints) -> tuple[RecurrentState, Floats32]:
        stepper = state.stepper
        if stepper is None or stepper.rows != len(ids):
            stepper = RecurrentStepper(self._graphs, state.values)
        else:
            stepper.values[:] = state.values
        logits = stepper.step(ids).copy()
        return RecurrentState(stepper.values.copy(), stepper), logits

    def _reorder(self, state: RecurrentState, rows: Ints) -> RecurrentState:
        return RecurrentState(state.values[:, rows], state.stepper)

    def _start(self, rows: int) -> Floats32:
        """The state before any token."""
        names = state_names(self._graphs)
        units = int(self._graphs.inputs("decoder")[f"past_{names[0]}"][2])
        return np.zeros((len(names), rows, units), dtype=np.float32)

    def _read(self, piece: "Piece", values: Floats32, wanted: Ints) -> Floats32:
        """Read on in place: logits (W, V)."""
        bound = BoundGraph(self._graphs, "decoder")
        logits = np.empty((len(wanted), self.model.vocabulary), dtype=np.float32)
        bound.take("logits", logits)
        bound.give({"wanted": wanted})
        carry(bound, self._graphs, piece, values)
        return logits

    def _score_piece(self, piece: "Piece", values: Floats32, where: Ints, tokens: Ints) -> tuple[Floats32, Bools]:
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
    """Places for rows that come and go at any time: one state for those in use. See `Slots`.

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
        self._take_over_state()
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
        self._take_over_state()
        assert self._values is not None  # no row can leave before some were filled in
        last = self._values.shape[1] - 1
        self._values[:, place] = self._values[:, last]
        self._values = np.ascontiguousarray(self._values[:, :last])

    def _take_over_state(self) -> None:
        """Rows will change: take over where they stand."""
        if self._stepper is not None:
            self._values, self._stepper = self._stepper.values.copy(), None


class Piece:
    """Some columns of some rows. A row that ended before them is left out: the operators take no empty rows.

    Args:
        ids: (B, T), padded on the right.
        rows: those that are read, in order.
        new: how many tokens of each.
        first: the column where they begin.
    """

    def __init__(self, ids: Ints, *, rows: Ints, new: Ints, first: int) -> None:
        self.rows, self.new = rows, new.astype(np.int32)
        self.ids = np.ascontiguousarray(ids[rows, first : first + int(new.max())])
        self._first = first

    def places(self, rows: Ints, columns: Ints) -> Ints:
        """Places of columns of rows in the graph's output: column x B + row."""
        found: Ints = (columns - self._first) * len(self.rows) + np.searchsorted(self.rows, rows)
        return found


class RecurrentStepper:
    """One token for each of some rows. Everything is bound once: two states take turns, one is read, one is written.

    Args:
        values: (N, B, U): the state before; it is copied.
    """

    def __init__(self, graphs: Graphs, values: Floats32) -> None:
        self.rows = values.shape[1]
        self._ids = np.zeros((self.rows, 1), dtype=np.int64)
        self._logits = np.empty((self.rows, graphs.model.vocabulary), dtype=np.float32)
        self._states = (np.array(values, order="C"), np.empty(values.shape, dtype=np.float32))
        self._turn = 0
        self._bound = tuple(BoundGraph(graphs, "decoder") for _ in self._states)
        for turn, bound in enumerate(self._bound):
            new, wanted = np.ones(self.rows, dtype=np.int32), np.arange(self.rows)
            bound.give({"ids": self._ids, "new": new, "wanted": wanted})
            bound.take("logits", self._logits)
            hold(bound, state_names(graphs), before=self._states[turn], after=self._states[1 - turn])

    @property
    def values(self) -> Floats32:
        """(N, B, U): the state now; it may be written."""
        return self._states[self._turn]

    def step(self, ids: Ints) -> Floats32:
        """Append ids (B,): logits (B, V), which stay until the next step."""
        self._ids[:, 0] = ids
        self._bound[self._turn].run()
        self._turn = 1 - self._turn
        return self._logits


def state_names(graphs: Graphs) -> list[str]:
    """The arrays of a state, in order, as inputs have them behind `past_`."""
    return [name.removeprefix("past_") for name in graphs.inputs("decoder") if name.startswith("past_")]


def carry(bound: BoundGraph, graphs: Graphs, piece: "Piece", values: Floats32) -> None:
    """Run a graph over a piece, and put the state behind it into `values`, (N, B, U)."""
    before = np.ascontiguousarray(values[:, piece.rows])
    after = np.empty_like(before)
    bound.give({"ids": piece.ids, "new": piece.new})
    hold(bound, state_names(graphs), before=before, after=after)
    bound.run()
    values[:, piece.rows] = after


def hold(bound: BoundGraph, names: Sequence[str], *, before: Floats32, after: Floats32) -> None:
    """Bind one state to be read, another to be written."""
    bound.give({f"past_{name}": before[place : place + 1] for place, name in enumerate(names)})
    for place, name in enumerate(names):
        bound.take(f"present_{name}", after[place : place + 1])
