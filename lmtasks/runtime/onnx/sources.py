"""What the encoder made of sources: keys and values for each layer of the decoder, computed once.

Axes: B sources, S their columns, H heads, W width of a head.
"""

from collections.abc import Mapping
from weakref import WeakSet

import numpy as np

from lmtasks.records import Bools, Floats32, Ints, TokenBatch
from lmtasks.runtime.align import align
from lmtasks.runtime.memory import memory_errors
from lmtasks.runtime.onnx.binding import Array, BoundGraph
from lmtasks.runtime.onnx.graphs import Graphs

MASK = "source_mask"


class Sources:
    """Keys and values of sources side by side.

    Args:
        arrays: (B, H, S, W), by the name of the decoder's input.
        mask: (B, S): which columns are tokens. What stands in the others are numbers.
    """

    def __init__(self, arrays: Mapping[str, Floats32], mask: Bools) -> None:
        self.arrays = dict(arrays)
        self.mask = mask
        self.users: WeakSet[object] = WeakSet()
        """Who reads them. Only a single one may move them."""

    @property
    def count(self) -> int:
        """B"""
        return len(self.mask)

    def given(self, *, first: int, count: int) -> Mapping[str, Array]:
        """What the decoder is told of those that stand beside each other."""
        part = slice(first, first + count)
        return {MASK: self.mask[part], **{name: array[part] for name, array in self.arrays.items()}}

    def picked(self, places: Ints) -> "Sources":
        """These sources, in this order.

        Raises:
            OutOfMemory: there is no room for them.
        """
        if np.array_equal(places, np.arange(self.count)):
            return self
        with memory_errors(f"copying what was read of {len(places)} sources"):
            return Sources({name: array[places] for name, array in self.arrays.items()}, self.mask[places])

    def move(self, source: int, target: int) -> None:
        """One takes another's place."""
        self.mask[target] = self.mask[source]
        for array in self.arrays.values():
            array[target] = array[source]

    def cut(self, count: int) -> None:
        """Only the first ones are left."""
        self.mask = self.mask[:count]
        self.arrays = {name: array[:count] for name, array in self.arrays.items()}

    def joined(self, others: "Sources", *, count: int) -> "Sources":
        """The first `count` of these and the others behind them, as wide as the widest.

        Raises:
            OutOfMemory: there is no room for them.
        """
        wide, room = max(self.mask.shape[1], others.mask.shape[1]), count + others.count
        fits = room <= self.count and self.mask.shape[1] == wide
        made = self if fits else self._widened(count=count, room=room, wide=wide)
        behind = slice(count, count + others.count)
        made.mask[behind] = False
        made.mask[behind, : others.mask.shape[1]] = others.mask
        for name, array in others.arrays.items():
            made.arrays[name][behind, :, : array.shape[2]] = array
            made.arrays[name][behind, :, array.shape[2] :] = 0.0  # a mask hides numbers, but not NaN
        return made

    def _widened(self, *, count: int, room: int, wide: int) -> "Sources":
        with memory_errors(f"making room for {room} sources of {wide} tokens"):
            made = Sources(
                {
                    name: np.empty((room, array.shape[1], wide, array.shape[3]), dtype=np.float32)
                    for name, array in self.arrays.items()
                },
                np.zeros((room, wide), dtype=np.bool_),
            )
        columns = self.mask.shape[1]
        made.mask[:count, :columns] = self.mask[:count]
        for name, array in self.arrays.items():
            made.arrays[name][:count, :, :columns] = array[:count]
            made.arrays[name][:count, :, columns:] = 0.0
        return made


def read_sources(graphs: Graphs, batch: TokenBatch) -> Sources:
    """Run the encoder over sources; padding may stand anywhere."""
    right = align(batch, side="right").batch
    ids, mask = np.ascontiguousarray(right.ids), np.ascontiguousarray(right.mask)
    batch_size, columns = ids.shape
    bound = BoundGraph(graphs, "encoder")
    bound.give({"source_ids": ids, MASK: mask})
    arrays: dict[str, Floats32] = {}
    with memory_errors(f"making room for {batch_size} sources of {columns} tokens"):
        for item in graphs.session("encoder").get_outputs():
            shape = (batch_size, int(item.shape[1]), columns, int(item.shape[3]))
            arrays[item.name] = np.empty(shape, dtype=np.float32)
            bound.take(item.name, arrays[item.name])
    bound.run()
    return Sources(arrays, mask)
