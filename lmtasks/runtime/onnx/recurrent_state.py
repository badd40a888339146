"""A state of a fixed size, handed to the graphs of a recurrent model and taken back: for a piece of rows, or one token.

Axes: B batch, T time, N arrays of a state (layers x parts), U units, V vocabulary.
"""

from collections.abc import Sequence

import numpy as np

from lmtasks.records import Floats32, Ints
from lmtasks.runtime.onnx.binding import BoundGraph
from lmtasks.runtime.onnx.graphs import Graphs


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
        """Where columns of rows stand in what the graph says: column x B + row."""
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


def carry(bound: BoundGraph, graphs: Graphs, piece: Piece, values: Floats32) -> None:
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
