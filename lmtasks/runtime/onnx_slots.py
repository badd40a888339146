"""Rows of a causal model that come and go while texts are written, over an emitted graph: see `Slots` in `base.py`.

Rows stand left-aligned, each with its own length. A row that leaves is replaced by the last one, so that the rows in
use are always the first ones.

Axes: B rows in use, T prompt tokens, V vocabulary.
"""

import numpy as np

from lmtasks.records import Floats32, Ints, TokenBatch
from lmtasks.runtime.align import align
from lmtasks.runtime.caches import Caches, blocks, cache_shapes
from lmtasks.runtime.onnx_decoder import Stepper, read_prompts
from lmtasks.runtime.onnx_graphs import Graphs


class OnnxSlots:
    """Rows come and go at any time.

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
        self._lengths: Ints = np.zeros(rows, dtype=np.int64)
        self._used = 0
        self._stepper: Stepper | None = None
        """For the rows in use; None: they are not those of the last step."""

    def fill(self, batch: TokenBatch) -> Floats32:
        """See `Slots`."""
        right = align(batch, side="right").batch
        lengths = right.mask.sum(axis=1)
        first, after = self._used, self._used + len(lengths)
        longest = int(lengths.max())
        if after > self._rows or longest > self._most:
            raise ValueError(f"{self._rows} places of {self._most} tokens cannot take {len(lengths)} more")
        self._reserve(after, min(self._most, blocks(longest + 1)))
        logits = read_prompts(self._graphs, self._caches, right, first=first)
        self._lengths[first:after] = lengths
        self._used, self._stepper = after, None
        return logits

    def step(self, ids: Ints) -> Floats32:
        """See `Slots`."""
        lengths = self._lengths[: self._used]
        longest = int(lengths.max())
        if longest == self._most:
            raise ValueError(f"a place holds {self._most} tokens")
        self._reserve(self._used, longest + 1)
        if self._stepper is None:
            self._stepper = Stepper(self._graphs, self._caches, rows=self._used)
        logits = self._stepper.step(ids, lengths, longest=longest)
        lengths += 1
        return logits

    def leave(self, place: int) -> None:
        """See `Slots`."""
        last = self._used - 1
        if place != last:
            self._caches.move(last, place, columns=int(self._lengths[last]))
            self._lengths[place] = self._lengths[last]
        self._used, self._stepper = last, None

    def _reserve(self, rows: int, columns: int) -> None:
        if self._caches.grow(rows=rows, columns=columns, most=self._most, kept=self._used):
            self._stepper = None
