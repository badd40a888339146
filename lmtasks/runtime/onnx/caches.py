"""Keys and values of rows, in arrays that lie still while they are written, and grow by blocks.

Axes: R rows, H heads of the cache, CAP columns that there is room for, W width of a head.
"""

from collections.abc import Mapping

import numpy as np

from lmtasks.export.package import GraphName
from lmtasks.records import Floats32, Ints
from lmtasks.runtime.memory import memory_errors
from lmtasks.runtime.onnx.binding import BoundGraph
from lmtasks.runtime.onnx.graphs import Graphs

BLOCK = 64
"""Columns come in multiples of this."""
GROWTH = 1.5
"""A cache grows to so many times its columns at least, so that all its copies together cost little."""


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
