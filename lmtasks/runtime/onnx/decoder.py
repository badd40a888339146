"""The decoder graph: it reads prompts into the rows of a cache, and appends a token to each.

Axes: B rows, T prompt tokens, S columns of one call, V vocabulary.
"""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from lmtasks.records import Floats32, Ints, TokenBatch
from lmtasks.runtime.onnx.binding import BoundGraph
from lmtasks.runtime.onnx.caches import Caches
from lmtasks.runtime.onnx.graphs import Graphs

CHUNK = 512
"""A prompt is read in pieces of so many tokens: attention's scores then take memory as a piece by the prompt's length,
and not as the square of that."""


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
        beside: what else the graph is given at every step.
    """

    def __init__(
        self,
        graphs: Graphs,
        caches: Caches,
        *,
        lengths: Ints,
        first: int = 0,
        beside: Mapping[str, NDArray[np.generic]] = MappingProxyType({}),
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
                **beside,
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
