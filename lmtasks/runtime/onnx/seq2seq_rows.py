"""Rows of a decoder that read sources: keys and values of the sources, what states share, and how beams are kept in
place.

A source's rows stand beside each other, as many for every source, so that the graph reads its keys and values once for
all of them. When rows are picked anew (beam search) the first child of a row stays in its place, and a further one is
copied into a place that no child keeps. Two rows of a source began alike, so only the columns behind their common
beginning are copied: which columns are equal is known from the places where they were computed.

Axes: B sources, S their columns, N rows of each, R = B x N rows, CAP columns of the cache, H heads, W width of a head.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from weakref import WeakSet

import numpy as np

from lmtasks.records import Bools, Floats32, Ints, TokenBatch
from lmtasks.runtime.base import DecodingState
from lmtasks.runtime.memory import memory_errors
from lmtasks.runtime.onnx.decoder import Caches, DecoderStepper, blocks, cache_shapes
from lmtasks.runtime.onnx.graphs import Array, BoundGraph, Graphs

MASK = "source_mask"


class Sources:
    """Keys and values of sources side by side, computed once by the encoder for each layer of the decoder.

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

    def inputs(self, *, first: int, count: int) -> Mapping[str, Array]:
        """Inputs of the decoder for those that stand beside each other."""
        part = slice(first, first + count)
        return {MASK: self.mask[part], **{name: array[part] for name, array in self.arrays.items()}}

    def picked(self, places: Ints) -> Sources:
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

    def joined(self, others: Sources, *, count: int) -> Sources:
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

    def _widened(self, *, count: int, room: int, wide: int) -> Sources:
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


@dataclass(kw_only=True, eq=False)
class Seq2SeqState(DecodingState):
    """Which row of a shared cache each row is, and how many of its columns are its own. Rows may be moved."""

    shared: Seq2SeqRows
    places: Ints
    """(rows,): which row of the cache each one is, for now."""
    length: int
    """So many columns of them are this state's."""

    def __post_init__(self) -> None:
        self.shared.states.add(self)


class Seq2SeqRows:
    """A cache that states share, and the sources that its rows read.

    Args:
        sources: B.
        caches: R rows.
        origins: (R, CAP): in which of its source's places a column of a row was computed.
        written: columns that hold something.
    """

    def __init__(self, sources: Sources, caches: Caches, origins: Ints, *, written: int) -> None:
        self.sources = sources
        self.caches = caches
        self.origins = origins
        self.written = written
        self.states: WeakSet[Seq2SeqState] = WeakSet()
        self.stepper: DecoderStepper | None = None
        sources.users.add(self)

    @property
    def each(self) -> int:
        """N"""
        return self.caches.rows // self.sources.count

    def append(self, graphs: Graphs, state: Seq2SeqState, ids: Ints) -> Floats32:
        """One token for each row of a state whose places are all that there are: next-token logits (R, V)."""
        rows, column = len(state.places), state.length
        if not self.caches.fits(rows=rows, columns=column + 1):
            self.stepper = None
            self.caches.grow(rows=rows, columns=column + 1, most=graphs.model.max_length_tokens, kept=rows)
        if column == self.origins.shape[1]:
            self.origins = np.concatenate([self.origins, np.zeros_like(self.origins)], axis=1)
        lengths = np.full(rows, column)
        if self.stepper is None:
            inputs = self.sources.inputs(first=0, count=self.sources.count)
            self.stepper = DecoderStepper(graphs, self.caches, lengths=lengths, further=inputs)
        else:
            self.stepper.renew()
        at_places = np.empty(rows, dtype=np.int64)
        at_places[state.places] = ids
        self.stepper.place(state.places, lengths=lengths)
        logits = self.stepper.step(at_places)
        self.origins[:, column] = np.arange(rows) % self.each
        self.written = column + 1
        return logits

    def own(self, state: Seq2SeqState) -> Seq2SeqState:
        """The same state where its places are all that there are, each once, and nobody else writes behind them."""
        count = len(state.places)
        complete = count == self.caches.rows and len(np.unique(state.places)) == count
        alone = len(self.states) == 1
        if complete and (alone or self.written == state.length):
            return state
        of_source = np.bincount(state.places // self.each, minlength=self.sources.count)
        keeps_sources = bool(of_source.all()) or len(self.sources.users) == 1
        if alone and keeps_sources and set(of_source.tolist()) <= {0, self.each}:
            state.places = self._rearranged(state)
            return state
        return self._copied(state, of_source)

    def _rearranged(self, state: Seq2SeqState) -> Ints:
        """Bring rows into the places of this cache: further children into places that no child keeps, and the last
        sources into the places of those that no row reads any more."""
        each = self.each
        places = np.full(len(state.places), -1, dtype=np.int64)
        holder: dict[int, int] = {}
        for row, place in enumerate(state.places.tolist()):
            if place not in holder:
                holder[place] = row
                places[row] = place
        free: dict[int, list[int]] = {}
        for row, parent in enumerate(state.places.tolist()):
            if places[row] >= 0:
                continue
            source = parent // each
            if source not in free:
                free[source] = [place for place in range(source * each, (source + 1) * each) if place not in holder]
            places[row] = self._copy(parent, free[source].pop(), columns=state.length)
        return self._closed_up(places, columns=state.length)

    def _copy(self, parent: int, place: int, *, columns: int) -> int:
        differs = self.origins[parent, :columns] != self.origins[place, :columns]
        first = int(differs.argmax()) if differs.any() else columns
        if first < columns:
            self.caches.move(parent, place, columns=columns, first=first)
            self.origins[place, first:columns] = self.origins[parent, first:columns]
        return place

    def _closed_up(self, places: Ints, *, columns: int) -> Ints:
        """Sources that nobody reads leave; the last ones take their places."""
        each, count = self.each, self.sources.count
        read = np.bincount(places // each, minlength=count) > 0
        if read.all():
            return places
        left = int(read.sum())
        (gaps,), (late,) = np.nonzero(~read[:left]), np.nonzero(read[left:])
        for gap, source in zip(gaps.tolist(), (late + left).tolist(), strict=True):
            self.sources.move(source, gap)
            for slot in range(each):
                self.caches.move(source * each + slot, gap * each + slot, columns=columns)
            self.origins[gap * each : (gap + 1) * each] = self.origins[source * each : (source + 1) * each]
            places = np.where(places // each == source, places + (gap - source) * each, places)
        self.sources.cut(left)
        self.caches.cut(left * each)
        self.origins = self.origins[: left * each]
        self.stepper = None
        return places

    def _copied(self, state: Seq2SeqState, of_source: Ints) -> Seq2SeqState:
        """In a cache of its own. Where sources have different numbers of rows, each row gets its source to itself."""
        read = np.flatnonzero(of_source)
        if len(set(of_source[read].tolist())) == 1:
            order = np.argsort(state.places // self.each, kind="stable")
            sources = self.sources.picked(read)
        else:
            order = np.arange(len(state.places))
            sources = self.sources.picked(state.places // self.each)
        rows = state.places[order]
        caches = self.caches.picked(rows, columns=state.length, room=self.caches.columns)
        shared = Seq2SeqRows(sources, caches, self.origins[rows], written=state.length)
        return Seq2SeqState(shared=shared, places=np.argsort(order), length=state.length)


def read_sources(graphs: Graphs, batch: TokenBatch) -> Sources:
    """Run the encoder over sources, padded on the right."""
    ids, mask = np.ascontiguousarray(batch.ids), np.ascontiguousarray(batch.mask)
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


def first_state(graphs: Graphs, sources: Sources) -> tuple[Seq2SeqState, Floats32]:
    """A row for each source, which has read the decoder's start token: a state, and next-token logits (B, V)."""
    rows = sources.count
    room = min(blocks(1), graphs.model.max_length_tokens)
    caches = Caches(cache_shapes(graphs), rows=rows, columns=room)
    shared = Seq2SeqRows(sources, caches, np.zeros((rows, room), dtype=np.int64), written=0)
    state = Seq2SeqState(shared=shared, places=np.arange(rows), length=0)
    logits = shared.append(graphs, state, np.full(rows, graphs.model.decoder_start))
    return Seq2SeqState(shared=shared, places=state.places, length=1), logits
