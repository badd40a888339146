"""Rows of an encoder-decoder that come and go while texts are written, over emitted graphs: see `Slots` in `base.py`.

Each row reads a source of its own. A row that leaves is replaced by the last one, so that the rows in use are always
the first ones.

Axes: B rows in use, S source tokens, V vocabulary.
"""

import numpy as np

from lmtasks.records import Floats32, Ints, TokenBatch
from lmtasks.runtime.caches import Caches, cache_shapes
from lmtasks.runtime.onnx_decoder import Stepper
from lmtasks.runtime.onnx_graphs import Graphs
from lmtasks.runtime.onnx_sources import Sources, read_sources


class PairSlots:
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
        self._lengths: Ints = np.zeros(rows, dtype=np.int64)
        self._used = 0
        self._stepper: Stepper | None = None
        """For the rows in use; None: they are not those of the last step."""

    def fill(self, batch: TokenBatch) -> Floats32:
        """See `Slots`."""
        new = len(batch.ids)
        first, after = self._used, self._used + new
        if after > self._rows:
            raise ValueError(f"{self._rows} places, of which {first} are in use, cannot take {new} more")
        read = read_sources(self._graphs, batch)
        self._reserve(after, 1)
        if self._sources is None or first == 0:
            self._sources = read
        else:
            self._sources = self._sources.joined(read, count=first)
        beside = self._sources.given(first=first, count=new)
        stepper = Stepper(self._graphs, self._caches, rows=new, first=first, beside=beside)
        logits = stepper.step(np.full(new, self._graphs.model.decoder_start), np.zeros(new, dtype=np.int64), longest=0)
        self._lengths[first:after] = 1
        self._used, self._stepper = after, stepper if first == 0 else None
        return logits

    def step(self, ids: Ints) -> Floats32:
        """See `Slots`."""
        lengths = self._lengths[: self._used]
        longest = int(lengths.max())
        if longest == self._most:
            raise ValueError(f"a place holds {self._most} tokens")
        self._reserve(self._used, longest + 1)
        if self._stepper is None:
            assert self._sources is not None
            beside = self._sources.given(first=0, count=self._used)
            self._stepper = Stepper(self._graphs, self._caches, rows=self._used, beside=beside)
        logits = self._stepper.step(ids, lengths, longest=longest)
        lengths += 1
        return logits

    def leave(self, place: int) -> None:
        """See `Slots`."""
        last = self._used - 1
        if place != last:
            assert self._sources is not None
            self._caches.move(last, place, columns=int(self._lengths[last]))
            self._sources.move(last, place)
            self._lengths[place] = self._lengths[last]
        self._used, self._stepper = last, None

    def _reserve(self, rows: int, columns: int) -> None:
        if self._caches.grow(rows=rows, columns=columns, most=self._most, kept=self._used):
            self._stepper = None
