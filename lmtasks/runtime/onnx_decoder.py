"""The decoder graph: it reads prompts into the rows of a cache, and appends a token to each.

Axes: B rows, T prompt tokens, S columns of one call, V vocabulary.
"""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from lmtasks.records import Floats32, Ints, TokenBatch
from lmtasks.runtime.binding import Bound
from lmtasks.runtime.caches import Caches
from lmtasks.runtime.onnx_graphs import Graphs

CHUNK = 512
"""A prompt is read in pieces of so many tokens: attention's scores then take memory as a piece by the prompt's length,
and not as the square of that."""


def read_prompts(graphs: Graphs, caches: Caches, batch: TokenBatch, *, first: int) -> Floats32:
    """Read prompts, padded on the right, into the rows from `first` on: next-token logits (B, V) behind each."""
    ids, lengths = np.ascontiguousarray(batch.ids), batch.mask.sum(axis=1)
    rows, longest = ids.shape
    bound = Bound(graphs, "decoder", answers=("logits",))
    caches.hold(bound, first=first, rows=rows)
    found: list[Floats32] = []
    behind: list[Ints] = []
    for start in range(0, longest, CHUNK):
        columns = min(CHUNK, longest - start)
        new = np.clip(lengths - start, 0, columns)
        before = np.minimum(lengths, start)
        (ends,) = np.nonzero((lengths > start) & (lengths <= start + columns))
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
        (logits,) = bound.run()
        found.append(logits)
        behind.append(ends)
    if len(found) == 1:
        return found[0]
    order = np.argsort(np.concatenate(behind))
    whole: Floats32 = np.concatenate(found)[order]
    return whole


class Stepper:
    """One token for each of some rows of a cache that stand beside each other. Everything is bound once, and written in
    place.

    Args:
        rows: B.
        first: the place of the first one.
        beside: what else the graph is given at every step.
    """

    def __init__(
        self,
        graphs: Graphs,
        caches: Caches,
        *,
        rows: int,
        first: int = 0,
        beside: Mapping[str, NDArray[np.generic]] = MappingProxyType({}),
    ) -> None:
        self.rows = rows
        self._ids, self._positions = (np.zeros((rows, 1), dtype=np.int64) for _ in range(2))
        self._before = np.zeros(rows, dtype=np.int32)
        self._total = np.zeros((), dtype=np.int32)
        self._wanted = np.arange(rows)
        self._bound = Bound(graphs, "decoder", answers=("logits",))
        caches.hold(self._bound, first=first, rows=rows)
        given: Mapping[str, NDArray[np.generic]] = {
            "ids": self._ids,
            "positions": self._positions,
            "new": np.ones(rows, dtype=np.int32),
            "seqlens_k": self._before,
            "total_sequence_length": self._total,
            "wanted": self._wanted,
        }
        self._bound.give({**given, **beside})

    def step(self, ids: Ints, lengths: Ints, *, longest: int) -> Floats32:
        """Append ids (B,) behind lengths (B,) tokens, `longest` the largest of them: next-token logits (B, V)."""
        self._ids[:, 0] = ids
        self._positions[:, 0] = lengths
        self._before[:] = lengths
        self._total[...] = longest + 1
        return self._bound.run()[0]

    def place(self, places: Ints) -> None:
        """Which row of the cache each row of ids, lengths and logits is, from the next step on."""
        self._wanted[:] = places
