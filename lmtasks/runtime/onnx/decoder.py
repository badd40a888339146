"""The decoder graph: caches of keys and values that lie still while they are written, prompts that are read into their
rows, and a token that is appended to each.

In slots rows stand left-aligned, each with its own length. A row that leaves is replaced by the last one, so that the
rows in use are always the first ones.

Axes: B rows, R rows of a cache, T prompt tokens, S columns of one call, CAP columns that there is room for, H heads of
the cache, W width of a head, V vocabulary.
"""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from lmtasks.export.package import GraphName
from lmtasks.records import Floats32, Ints, TokenBatch
from lmtasks.runtime.align import align
from lmtasks.runtime.memory import memory_errors
from lmtasks.runtime.onnx.graphs import BoundGraph, Graphs

BLOCK = 16
"""Columns come in multiples of this. What lies unused between rows costs: attention of 32 rows (8 heads of 64, 33
columns in use, six layers in turn, AMD EPYC) took 591 us a layer with room for 64 columns, and 180 with room for 33."""
GROWTH = 1.5
"""A cache grows to so many times its columns at least, so that all its copies together cost little."""
CHUNK = 512
"""A prompt is read in pieces of so many tokens: attention's scores then take memory as a piece by the prompt's length,
and not as the square of that."""


class Caches:
    """The keys and values of all layers. A row's tokens stand in its first columns; what stands behind them is noise.

    Args:
        shapes: heads and width of each array, by the name that its input has behind `past_`.
        rows: R.
        columns: CAP, at first.

    Raises:
        OutOfMemory: there is no room for them.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, int]], *, rows: int, columns: int) -> None:
        self._shapes = shapes
        with memory_errors(f"making room for {rows} rows of {columns} tokens"):
            self.arrays = {name: self._empty(name, rows=rows, columns=columns) for name in shapes}
        self.rows = rows
        """R: there is room for so many rows."""
        self.columns = columns
        """CAP: there is room for rows of so many tokens."""

    def fits(self, *, rows: int, columns: int) -> bool:
        """Is there room for so many rows of so many tokens?"""
        return rows <= self.rows and columns <= self.columns

    def grow(self, *, rows: int, columns: int, most: int, kept: int) -> None:
        """Make room for so many rows of so many tokens, and for no more rows. What was bound to arrays has to be bound
        again. Where memory runs out on the way nothing is lost, and what grew needs not grow again.

        Args:
            most: rows never become longer than this.
            kept: so many rows, the first ones, hold something.

        Raises:
            OutOfMemory: there is no room for them.
        """
        wide = self.columns
        if columns > wide:
            wide = max(columns, min(most, max(blocks(columns), blocks(int(wide * GROWTH)))))
        try:
            with memory_errors(f"making room for {rows} rows of {wide} tokens"):
                for name, old in self.arrays.items():
                    if len(old) < rows or old.shape[2] < wide:
                        new = self._empty(name, rows=rows, columns=wide)
                        new[:kept, :, : old.shape[2]] = old[:kept, :, :wide]
                        self.arrays[name] = new
        finally:
            self.rows = min(len(array) for array in self.arrays.values())
            self.columns = min(int(array.shape[2]) for array in self.arrays.values())

    def move(self, source: int, target: int, *, columns: int, first: int = 0) -> None:
        """A row's first columns take another row's place; those before `first` are equal already."""
        for array in self.arrays.values():
            array[target, :, first:columns] = array[source, :, first:columns]

    def cut(self, rows: int) -> None:
        """Only the first rows are left."""
        self.rows = rows
        self.arrays = {name: array[:rows] for name, array in self.arrays.items()}

    def picked(self, rows: Ints, *, columns: int, room: int) -> "Caches":
        """The first columns of some rows, in this order, in caches of their own with room for `room` columns.

        Raises:
            OutOfMemory: there is no room for them.
        """
        made = Caches(self._shapes, rows=len(rows), columns=room)
        for name, array in self.arrays.items():
            for place, row in enumerate(rows.tolist()):  # one indexing of all rows would make a further copy
                made.arrays[name][place, :, :columns] = array[row, :, :columns]
        return made

    def hold(self, bound: BoundGraph, *, first: int, rows: int) -> None:
        """Bind the arrays of rows that stand beside each other."""
        for name, array in self.arrays.items():
            bound.hold(name, array[first : first + rows])

    def _empty(self, name: str, *, rows: int, columns: int) -> Floats32:
        heads, width = self._shapes[name]
        return np.empty((rows, heads, columns, width), dtype=np.float32)


def read_prompts(graphs: Graphs, caches: Caches, batch: TokenBatch, *, first: int) -> Floats32:
    """Read prompts, padded on the right, into the rows from `first` on: next-token logits (B, V) behind each."""
    ids, lengths = np.ascontiguousarray(batch.ids), batch.mask.sum(axis=1)
    rows, longest = ids.shape
    bound = BoundGraph(graphs, "decoder")
    caches.hold(bound, first=first, rows=rows)
    logits = np.empty((rows, graphs.model.vocabulary), dtype=np.float32)
    written, order = 0, np.argsort(-(-lengths // CHUNK), kind="stable")
    """Rows in the order in which their ends are reached."""
    for start in range(0, longest, CHUNK):
        columns = min(CHUNK, longest - start)
        new = np.clip(lengths - start, 0, columns)
        before = np.minimum(lengths, start)
        ends = order[(lengths[order] > start) & (lengths[order] <= start + columns)]
        bound.give(
            {
                "ids": np.ascontiguousarray(ids[:, start : start + columns]),
                # Columns behind a row's end need some position that there is.
                "positions": np.minimum(before[:, None] + np.arange(columns), graphs.model.max_length_tokens - 1),
                "new": new.astype(np.int32),
                "seqlens_k": (before + new - 1).astype(np.int32),
                "total_sequence_length": np.array(start + columns, dtype=np.int32),
                "wanted": ends * columns + lengths[ends] - start - 1,
            }
        )
        bound.take("logits", logits[written : written + len(ends)])
        bound.run()
        written += len(ends)
    if (np.diff(order) < 0).any():
        logits = logits[np.argsort(order)]
    return logits


class DecoderStepper:
    """One token for each of some rows of a cache. Everything is bound once, and written in place: with the weights
    just read, all else has left the processor's caches, and each line of Python costs several times its usual time.

    Args:
        lengths: (B,): tokens of each row.
        first: the place of the first row; the others stand behind it.
        further: what else the graph is given at every step.
    """

    def __init__(
        self,
        graphs: Graphs,
        caches: Caches,
        *,
        lengths: Ints,
        first: int = 0,
        further: Mapping[str, NDArray[np.generic]] = MappingProxyType({}),
    ) -> None:
        rows = len(lengths)
        self._ids = np.zeros((rows, 1), dtype=np.int64)
        # All that a step counts up lies in one array: positions in 64 bits, of which 32 move, then two counts in 32.
        # One addition takes 15 us behind a step that read 324 MB of weights, three take 55.
        self._counts = np.zeros(3 * rows + 1, dtype=np.int32)
        self._one = np.array([1, 0] * rows + [1] * (rows + 1), dtype=np.int32)
        self._positions = self._counts[: 2 * rows].view(np.int64).reshape(rows, 1)
        self._before, self._total = self._counts[2 * rows : 3 * rows], self._counts[3 * rows :].reshape(())
        self.lengths = self._positions[:, 0]
        """(B,): of each row now."""
        self._count(lengths)
        self._wanted = np.arange(rows)
        self._shape = (rows, graphs.model.vocabulary)
        self.logits = np.empty(self._shape, dtype=np.float32)
        """(B, V): what the last step found, until the next one."""
        self._bound = BoundGraph(graphs, "decoder")
        caches.hold(self._bound, first=first, rows=rows)
        self._bound.give(
            {
                "ids": self._ids,
                "positions": self._positions,
                "new": np.ones(rows, dtype=np.int32),
                "seqlens_k": self._before,
                "total_sequence_length": self._total,
                "wanted": self._wanted,
                **further,
            }
        )
        self._bound.take("logits", self.logits)

    def step(self, ids: Ints) -> Floats32:
        """Append ids (B,): `logits`."""
        self._ids[:, 0] = ids
        self._bound.run()
        np.add(self._counts, self._one, self._counts)
        self.longest += 1
        return self.logits

    def place(self, rows: Ints, *, lengths: Ints) -> None:
        """Before a step: (B,) which row of the cache each row of the logits is, and the lengths of the cache's rows."""
        self._wanted[:] = rows
        self._count(lengths)

    def renew(self) -> None:
        """Let the next step write its logits elsewhere, so that those of the last one stay."""
        self.logits = np.empty(self._shape, dtype=np.float32)
        self._bound.take("logits", self.logits)

    def _count(self, lengths: Ints) -> None:
        self.lengths[:] = lengths
        self._before[:] = lengths
        self.longest = int(lengths.max())
        self._total[...] = self.longest + 1


class CachedSlots:
    """Places for rows that come and go at any time: each row's length is an input of the graph; see `Slots`.

    Args:
        rows: there is room for so many.
        length: of the longest row, prompt and answer.

    Raises:
        OutOfMemory: there is no room for them.
    """

    joins = True

    def __init__(self, graphs: Graphs, *, rows: int, length: int) -> None:
        self._graphs = graphs
        self._most = length
        self._rows = rows
        self._caches = Caches(cache_shapes(graphs), rows=0, columns=0)
        self._lengths: list[int] = []
        """Of the rows in use, as they were when `_stepper` was made."""
        self._stepper: DecoderStepper | None = None
        """For the rows in use."""

    def fill(self, batch: TokenBatch) -> Floats32:
        """See `Slots`."""
        right = align(batch, side="right").batch
        lengths: list[int] = right.mask.sum(axis=1).tolist()
        self._take_over_lengths()
        first = len(self._lengths)
        after, longest = first + len(lengths), max(lengths)
        if after > self._rows or longest > self._most:
            raise ValueError(f"{self._rows} places of {self._most} tokens cannot take {len(lengths)} more")
        with memory_errors(f"reading {len(lengths)} prompts of {longest} tokens"):
            self._reserve(after, min(self._most, blocks(longest + 1)))
            logits = read_prompts(self._graphs, self._caches, right, first=first)
        self._lengths += lengths
        return logits

    def step(self, ids: Ints) -> Floats32:
        """See `Slots`."""
        stepper = self._stepper
        if stepper is None or stepper.longest >= self._caches.columns:
            stepper = self._next_stepper()
        return stepper.step(ids)

    def leave(self, place: int) -> None:
        """See `Slots`."""
        self._take_over_lengths()
        last = self._lengths.pop()
        if place != len(self._lengths):
            self._caches.move(len(self._lengths), place, columns=last)
            self._lengths[place] = last

    def _next_stepper(self) -> DecoderStepper:
        self._take_over_lengths()
        longest = max(self._lengths)
        if longest == self._most:
            raise ValueError(f"a place holds {self._most} tokens")
        with memory_errors(f"continuing {len(self._lengths)} rows"):
            self._reserve(len(self._lengths), longest + 1)
            self._stepper = self._stepper_of(np.array(self._lengths))
        return self._stepper

    def _stepper_of(self, lengths: Ints) -> DecoderStepper:
        return DecoderStepper(self._graphs, self._caches, lengths=lengths)

    def _take_over_lengths(self) -> None:
        """Rows will change: take over what was appended to them."""
        if self._stepper is not None:
            self._lengths = self._stepper.lengths.tolist()
            self._stepper = None

    def _reserve(self, rows: int, columns: int) -> None:
        if not self._caches.fits(rows=rows, columns=columns):
            self._caches.grow(rows=rows, columns=columns, most=self._most, kept=len(self._lengths))


def blocks(columns: int) -> int:
    """The next multiple of `BLOCK`."""
    return -(-columns // BLOCK) * BLOCK


def cache_shapes(graphs: Graphs, graph: GraphName = "decoder") -> dict[str, tuple[int, int]]:
    """Heads and width of each array that a graph keeps."""
    return {
        name.removeprefix("past_"): (int(shape[1]), int(shape[3]))
        for name, shape in graphs.inputs(graph).items()
        if name.startswith("past_")
    }
