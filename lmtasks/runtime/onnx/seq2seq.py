"""The driver of the emitted graphs of an encoder-decoder. Neither torch nor transformers is imported.

A source is encoded once, and its keys and values stay where they are while its texts are written or scored. In slots
each row reads a source of its own; a row that leaves is replaced by the last one, so that the rows in use are always
the first ones.

Axes: B rows, T columns of the decoder, N sources, S their columns, V vocabulary.
"""

from collections.abc import Iterator

import numpy as np

from lmtasks.records import Bools, Floats32, Ints, TokenBatch
from lmtasks.runtime.align import align
from lmtasks.runtime.driver import ScoreInput
from lmtasks.runtime.onnx.decoder import CachedSlots, Caches, DecoderStepper, cache_shapes
from lmtasks.runtime.onnx.graphs import BoundGraph, GraphDriver, Graphs
from lmtasks.runtime.onnx.seq2seq_rows import Seq2SeqState, Sources, first_state, read_sources

LOGITS_BYTES = 128 * 2**20
"""So much memory may the logits of one call take inside the graph while scoring; further sources are another call."""


class OnnxSeq2SeqRuntime(GraphDriver[Seq2SeqState]):
    """A package of an emitted encoder-decoder in ONNX Runtime.

    Args:
        graphs: of the package.
    """

    def __init__(self, graphs: Graphs) -> None:
        super().__init__(graphs, state_type=Seq2SeqState, longest_prompt_tokens=graphs.model.max_length_tokens)

    def slots(self, *, rows: int, length: int) -> "OnnxSeq2SeqSlots":
        """See `Runtime`."""
        return OnnxSeq2SeqSlots(self._graphs, rows=rows, length=length)

    def _score(self, given: ScoreInput[Seq2SeqState]) -> tuple[Floats32, Bools]:
        """Sources with equally many targets go through the graph together."""
        targets, ids = given.targets, given.rows.ids
        longest = int(given.lengths.max())
        if longest > self.model.max_length_tokens:
            raise self._too_long(longest)
        logprobs = np.zeros(len(targets.rows), dtype=np.float32)
        greedy = np.zeros(len(targets.rows), dtype=np.bool_)
        places: Bools = np.zeros(ids.shape, dtype=np.bool_)
        places[targets.rows, targets.columns] = True
        assert given.source is not None  # an encoder-decoder's requests have one
        sources = read_sources(self._graphs, given.source)
        of_row = np.arange(len(ids)) if given.source_rows is None else given.source_rows
        at_once = max(1, LOGITS_BYTES // (4 * self.model.vocabulary))
        for rows in _groups(of_row, places.sum(axis=1), most=at_once):
            place_of = np.full(len(ids), -1, dtype=np.int64)
            place_of[rows] = np.arange(len(rows))
            (mine,) = np.nonzero(place_of[targets.rows] >= 0)
            if len(mine):
                cells = (place_of[targets.rows[mine]], targets.columns[mine])
                read = sources.picked(np.unique(of_row[rows]))
                logprobs[mine], greedy[mine] = self._score_rows(ids[rows], cells, targets.tokens[mine], read)
        return logprobs, greedy

    def _prefill(self, prompts: TokenBatch, lengths: Ints) -> tuple[Seq2SeqState, Floats32]:
        return first_state(self._graphs, read_sources(self._graphs, prompts))

    def _step(self, state: Seq2SeqState, ids: Ints) -> tuple[Seq2SeqState, Floats32]:
        if state.length >= self.model.max_length_tokens:
            raise self._too_long(state.length + 1)
        owned = state.shared.own(state)
        logits = owned.shared.append(self._graphs, owned, ids)
        return Seq2SeqState(shared=owned.shared, places=owned.places, length=owned.length + 1), logits

    def _reorder(self, state: Seq2SeqState, rows: Ints) -> Seq2SeqState:
        """Nothing is moved before the next step."""
        return Seq2SeqState(shared=state.shared, places=state.places[rows], length=state.length)

    def _score_rows(
        self, ids: Ints, cells: tuple[Ints, Ints], tokens: Ints, sources: Sources
    ) -> tuple[Floats32, Bools]:
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
                **sources.inputs(first=0, count=sources.count),
            }
        )
        bound.run()
        return logprobs, greedy


class OnnxSeq2SeqSlots(CachedSlots):
    """Places for rows, each with a source of its own.

    Args:
        rows: there is room for so many.
        length: of the longest answer, the decoder's start token counted.

    Raises:
        OutOfMemory: there is no room for them.
    """

    def __init__(self, graphs: Graphs, *, rows: int, length: int) -> None:
        super().__init__(graphs, rows=rows, length=length)
        self._sources: Sources | None = None

    def fill(self, batch: TokenBatch) -> Floats32:
        """See `Slots`."""
        self._take_over_lengths()
        new, first = len(batch.ids), len(self._lengths)
        if first + new > self._rows:
            raise ValueError(f"{self._rows} places, of which {first} are in use, cannot take {new} more")
        read = read_sources(self._graphs, align(batch, side="right").batch)
        self._reserve(first + new, 1)
        self._sources = read if self._sources is None or first == 0 else self._sources.joined(read, count=first)
        stepper = self._stepper_of(np.zeros(new, dtype=np.int64), first=first)
        logits = stepper.step(np.full(new, self._graphs.model.decoder_start))
        self._lengths += [1] * new
        return logits

    def leave(self, place: int) -> None:
        """See `Slots`."""
        super().leave(place)
        last = len(self._lengths)
        if place != last:
            assert self._sources is not None
            self._sources.move(last, place)

    def _stepper_of(self, lengths: Ints, *, first: int = 0) -> DecoderStepper:
        assert self._sources is not None
        inputs = self._sources.inputs(first=first, count=len(lengths))
        return DecoderStepper(self._graphs, self._caches, lengths=lengths, first=first, further=inputs)


def _groups(of_row: Ints, places: Ints, *, most: int) -> Iterator[Ints]:
    """Rows that are scored together, source by source: those of sources with equally many rows, and of at most `most`
    target places where more than one source is left.

    >>> [group.tolist() for group in _groups(np.array([0, 1, 0, 2]), np.array([1, 1, 1, 1]), most=9)]
    [[1, 3], [0, 2]]
    """
    order = np.argsort(of_row, kind="stable")
    counts = np.bincount(of_row)
    for count in np.unique(counts[counts > 0]).tolist():
        rows = order[counts[of_row[order]] == count].reshape(-1, count)
        group: list[Ints] = []
        wanted = 0
        for mine in rows:
            new = int(places[mine].sum())
            if group and wanted + new > most:
                yield np.concatenate(group)
                group, wanted = [], 0
            group.append(mine)
            wanted += new
        yield np.concatenate(group)
