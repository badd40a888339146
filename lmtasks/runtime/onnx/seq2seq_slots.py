"""Rows of an encoder-decoder that come and go while texts are written, over emitted graphs: see `Slots` in `base.py`.

Each row reads a source of its own. A row that leaves is replaced by the last one, so that the rows in use are always
the first ones.

Axes: B rows in use, S source tokens, V vocabulary.
"""

import numpy as np

from lmtasks.records import Floats32, Ints, TokenBatch
from lmtasks.runtime.onnx.caches import Caches, cache_shapes
from lmtasks.runtime.onnx.decoder import DecoderStepper
from lmtasks.runtime.onnx.graphs import Graphs
from lmtasks.runtime.onnx.sources import Sources, read_sources


class OnnxSeq2SeqSlots:
    """Rows come and go at any time: the graph is told each row's length.

    Args:
        rows: there is room for so many.
        length: of the longest answer, the decoder's start token counted.

    Raises:
        OutOfMemory: there is no room for them.
    """

    joins = True

    def __init__(self, graphs: Graphs, *, rows: int, length: int) -> None:
        self._graphs = graphs
        self._most = length
        self._rows = rows
        self._caches = Caches(cache_shapes(graphs), rows=0, columns=0)
        self._sources: Sources | None = None
        self._lengths: list[int] = []
        """Of the rows in use, as they were when `_stepper` was made."""
        self._stepper: DecoderStepper | None = None
        """For the rows in use."""

    def fill(self, batch: TokenBatch) -> Floats32:
        """See `Slots`."""
        self._rest()
        new, first = len(batch.ids), len(self._lengths)
        if first + new > self._rows:
            raise ValueError(f"{self._rows} places, of which {first} are in use, cannot take {new} more")
        read = read_sources(self._graphs, batch)
        self._reserve(first + new, 1)
        self._sources = read if self._sources is None or first == 0 else self._sources.joined(read, count=first)
        stepper = self._made(np.zeros(new, dtype=np.int64), first=first)
        logits = stepper.step(np.full(new, self._graphs.model.decoder_start))
        self._lengths += [1] * new
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
        last, length = len(self._lengths) - 1, self._lengths.pop()
        if place != last:
            assert self._sources is not None
            self._caches.move(last, place, columns=length)
            self._sources.move(last, place)
            self._lengths[place] = length

    def _next_stepper(self) -> DecoderStepper:
        self._rest()
        longest = max(self._lengths)
        if longest == self._most:
            raise ValueError(f"a place holds {self._most} tokens")
        self._reserve(len(self._lengths), longest + 1)
        self._stepper = self._made(np.array(self._lengths), first=0)
        return self._stepper

    def _made(self, lengths: Ints, *, first: int) -> DecoderStepper:
        assert self._sources is not None
        beside = self._sources.given(first=first, count=len(lengths))
        return DecoderStepper(self._graphs, self._caches, lengths=lengths, first=first, beside=beside)

    def _rest(self) -> None:
        """Rows will change: take over what was appended to them."""
        if self._stepper is not None:
            self._lengths = self._stepper.lengths.tolist()
            self._stepper = None

    def _reserve(self, rows: int, columns: int) -> None:
        if not self._caches.fits(rows=rows, columns=columns):
            self._caches.grow(rows=rows, columns=columns, most=self._most, kept=len(self._lengths))
