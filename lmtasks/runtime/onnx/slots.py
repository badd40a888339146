"""Rows of a causal model that come and go while texts are written, over an emitted graph: see `Slots` in `base.py`.

Rows stand left-aligned, each with its own length. A row that leaves is replaced by the last one, so that the rows in
use are always the first ones.

Axes: B rows in use, T prompt tokens, V vocabulary.
"""

import numpy as np

from lmtasks.records import Floats32, Ints, TokenBatch
from lmtasks.runtime.align import align
from lmtasks.runtime.memory import memory_errors
from lmtasks.runtime.onnx.caches import Caches, blocks, cache_shapes
from lmtasks.runtime.onnx.decoder import DecoderStepper, read_prompts
from lmtasks.runtime.onnx.graphs import Graphs


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
        self._lengths: list[int] = []
        """Of the rows in use, as they were when `_stepper` was made."""
        self._stepper: DecoderStepper | None = None
        """For the rows in use."""

    def fill(self, batch: TokenBatch) -> Floats32:
        """See `Slots`."""
        right = align(batch, side="right").batch
        lengths: list[int] = right.mask.sum(axis=1).tolist()
        self._rest()
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
        self._rest()
        last = self._lengths.pop()
        if place != len(self._lengths):
            self._caches.move(len(self._lengths), place, columns=last)
            self._lengths[place] = last

    def _next_stepper(self) -> DecoderStepper:
        self._rest()
        longest = max(self._lengths)
        if longest == self._most:
            raise ValueError(f"a place holds {self._most} tokens")
        with memory_errors(f"continuing {len(self._lengths)} rows"):
            self._reserve(len(self._lengths), longest + 1)
            self._stepper = DecoderStepper(self._graphs, self._caches, lengths=np.array(self._lengths))
        return self._stepper

    def _rest(self) -> None:
        """Rows will change: take over what was appended to them."""
        if self._stepper is not None:
            self._lengths = self._stepper.lengths.tolist()
            self._stepper = None

    def _reserve(self, rows: int, columns: int) -> None:
        if not self._caches.fits(rows=rows, columns=columns):
            self._caches.grow(rows=rows, columns=columns, most=self._most, kept=len(self._lengths))
