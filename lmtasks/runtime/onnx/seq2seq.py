"""The primitives over the emitted graphs of an encoder-decoder. Neither torch nor transformers is imported.

A source is encoded once, and its keys and values stay where they are while its texts are written or scored.

Axes: B rows, T columns of the decoder, N sources, S their columns, V vocabulary.
"""

from collections.abc import Iterator

import numpy as np

from lmtasks.errors import UsageError
from lmtasks.records import Bools, Floats32, Ints, TokenBatch, TokenScores, TokenTargets
from lmtasks.runtime.align import align
from lmtasks.runtime.base import NOTHING_SHARED, Sharing
from lmtasks.runtime.batch_limits import check_batch, too_long
from lmtasks.runtime.memory import free_host_bytes
from lmtasks.runtime.onnx.binding import BoundGraph
from lmtasks.runtime.onnx.caches import Caches, cache_shapes
from lmtasks.runtime.onnx.graphs import Graphs
from lmtasks.runtime.onnx.seq2seq_rows import Seq2SeqState, started
from lmtasks.runtime.onnx.seq2seq_slots import OnnxSeq2SeqSlots
from lmtasks.runtime.onnx.sources import Sources, read_sources

LOGITS_BYTES = 128 * 2**20
"""So much memory may the logits of one call take inside the graph while scoring; further sources are another call."""


class OnnxSeq2SeqRuntime:
    """A package of an emitted encoder-decoder in ONNX Runtime.

    Args:
        graphs: of the package.
    """

    def __init__(self, graphs: Graphs) -> None:
        self._graphs = graphs
        self.model = graphs.model
        self.card = graphs.card

    def predict(self, head: str, batch: TokenBatch) -> Floats32:
        """See `Runtime`."""
        check_batch(batch, self.model, most=self.model.max_length_tokens)
        return self._graphs.predict(head, batch)

    @property
    def sharing(self) -> Sharing:
        """See `Runtime`: targets are read as plain rows; their sources are shared."""
        return NOTHING_SHARED

    def score(
        self,
        batch: TokenBatch,
        wanted: TokenTargets,
        *,
        reach: Ints | None = None,
        behind: Seq2SeqState | None = None,
        source: TokenBatch | None = None,
        source_rows: Ints | None = None,
    ) -> TokenScores:
        """See `Runtime`. Sources with equally many targets go through the graph together."""
        if reach is not None or behind is not None:
            raise UsageError(f"{self.model.name} scores plain rows; see `sharing`.")
        if source is None:
            raise UsageError(
                f"{self.model.name} is an encoder-decoder; it scores targets behind a source, none was given."
            )
        logprobs = np.zeros(len(wanted.rows), dtype=np.float32)
        greedy = np.zeros(len(wanted.rows), dtype=np.bool_)
        if not len(logprobs):
            return TokenScores(logprobs=logprobs, greedy=greedy)
        check_batch(source, self.model, most=self.model.max_length_tokens)
        longest = int(batch.mask.sum(axis=1).max())
        if longest > self.model.max_length_tokens:
            raise too_long(longest, self.model)
        aligned = align(batch, side="right")
        columns = aligned.columns_of(wanted)
        places: Bools = np.zeros(aligned.batch.ids.shape, dtype=np.bool_)
        places[wanted.rows, columns] = True
        sources = read_sources(self._graphs, source)
        of_row = np.arange(len(batch.ids)) if source_rows is None else source_rows
        at_once = max(1, LOGITS_BYTES // (4 * self.model.vocabulary))
        for rows in _groups(of_row, places.sum(axis=1), most=at_once):
            place_of = np.full(len(batch.ids), -1, dtype=np.int64)
            place_of[rows] = np.arange(len(rows))
            (mine,) = np.nonzero(place_of[wanted.rows] >= 0)
            if len(mine):
                cells = (place_of[wanted.rows[mine]], columns[mine])
                read = sources.picked(np.unique(of_row[rows]))
                logprobs[mine], greedy[mine] = self._score(aligned.batch.ids[rows], cells, wanted.tokens[mine], read)
        return TokenScores(logprobs=logprobs, greedy=greedy)

    def prefill(self, batch: TokenBatch) -> tuple[Seq2SeqState, Floats32]:
        """See `Runtime`."""
        check_batch(batch, self.model, most=self.model.max_length_tokens)
        return started(self._graphs, read_sources(self._graphs, batch))

    def step(self, state: Seq2SeqState, ids: Ints) -> tuple[Seq2SeqState, Floats32]:
        """See `Runtime`."""
        if state.length >= self.model.max_length_tokens:
            raise too_long(state.length + 1, self.model)
        owned = state.shared.own(state)
        logits = owned.shared.append(self._graphs, owned, ids)
        return Seq2SeqState(shared=owned.shared, places=owned.places, length=owned.length + 1), logits

    def reorder(self, state: Seq2SeqState, rows: Ints) -> Seq2SeqState:
        """See `Runtime`. Nothing is moved before the next step."""
        return Seq2SeqState(shared=state.shared, places=state.places[rows], length=state.length)

    def slots(self, *, rows: int, length: int) -> OnnxSeq2SeqSlots:
        """See `Runtime`."""
        return OnnxSeq2SeqSlots(self._graphs, rows=rows, length=length)

    def beside(self) -> "OnnxSeq2SeqRuntime":
        """See `Runtime`."""
        return OnnxSeq2SeqRuntime(self._graphs.beside())

    def free_bytes(self) -> int:
        """See `Runtime`."""
        return free_host_bytes()

    def close(self) -> None:
        """See `Runtime`."""
        self._graphs.close()

    def _score(self, ids: Ints, cells: tuple[Ints, Ints], tokens: Ints, sources: Sources) -> tuple[Floats32, Bools]:
        """Rows ids (B, T) that stand source by source; tokens (W,) behind cells."""
        rows, columns = ids.shape
        wanted, index = np.unique(cells[0] * columns + cells[1], return_inverse=True)
        logprobs, greedy = np.empty(len(tokens), dtype=np.float32), np.empty(len(tokens), dtype=np.bool_)
        bound = BoundGraph(self._graphs, "score")
        bound.take("logprob", logprobs)
        bound.take("greedy", greedy)
        past = Caches(cache_shapes(self._graphs, "score"), rows=rows, columns=0).arrays
        bound.give(
            {
                "ids": np.ascontiguousarray(ids),
                "positions": np.tile(np.arange(columns), (rows, 1)),
                "new": np.full(rows, columns, dtype=np.int32),
                "seqlens_k": np.full(rows, columns - 1, dtype=np.int32),
                "total_sequence_length": np.array(columns, dtype=np.int32),
                "wanted": wanted,
                "index": index.reshape(-1),
                "targets": np.ascontiguousarray(tokens),
                **{f"past_{name}": array for name, array in past.items()},
                **sources.given(first=0, count=sources.count),
            }
        )
        bound.run()
        return logprobs, greedy


def _groups(of_row: Ints, places: Ints, *, most: int) -> Iterator[Ints]:
    """Rows that are scored together, source by source: those of sources with equally many rows, and of at most `most`
    wanted places where more than one source is left.

    >>> [group.tolist() for group in _groups(np.array([0, 1, 0, 2]), np.array([1, 1, 1, 1]), most=9)]
    [[1, 3], [0, 2]]
    """
    order = np.argsort(of_row, kind="stable")
    counts = np.bincount(of_row)
    for count in np.unique(counts[counts > 0]).tolist():
        rows = order[counts[of_row[order]] == count].reshape(-1, count)
        group: list[Ints] = []
        asked = 0
        for mine in rows:
            new = int(places[mine].sum())
            if group and asked + new > most:
                yield np.concatenate(group)
                group, asked = [], 0
            group.append(mine)
            asked += new
        yield np.concatenate(group)
