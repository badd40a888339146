"""Rows that come and go while texts are written, over PyTorch: keys and values that are allocated once, and written in
place.

Rows stand left-aligned, each with its own length. A row that leaves is replaced by the last one, so that the rows in
use are always the first ones, and a step works on views.

Axes: B rows in use, R places, T new tokens, S source tokens, L longest row, H heads, D width of a head, V vocabulary.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache, EncoderDecoderCache

from lmtasks.records import Floats32, Ints, TokenBatch
from lmtasks.runtime.align import align
from lmtasks.runtime.memory import memory_errors
from lmtasks.runtime.torch.body import TorchBody, seq2seq_inputs
from lmtasks.runtime.torch.device import to_numpy

CLEAN_TOKENS = 64
"""Fresh memory is cleared so many columns at a time."""


class TorchCausalSlots:
    """Places for rows of a causal model, which come and go at any time; see `Slots`."""

    joins = True

    def __init__(self, body: TorchBody, *, rows: int, length: int) -> None:
        self._body = body
        self._table = SlotTable(rows=rows, length=length)
        self._cache = _own_cache(self._table)

    def fill(self, batch: TokenBatch) -> Floats32:
        """See `Slots`."""
        table, aligned = self._table, align(batch, side="right")
        lengths: list[int] = aligned.lengths.tolist()
        if len(table.lengths) + len(lengths) > table.rows or max(lengths) > table.length:
            raise ValueError(f"{table.rows} places of {table.length} tokens cannot take {lengths} more")
        with memory_errors(f"reading {len(lengths)} prompts of {max(lengths)} tokens"), self._body.computing():
            ids = self._body.tensor(aligned.batch.ids)
            called = {
                "input_ids": ids,
                "attention_mask": torch.ones_like(ids),  # on the right, no token sees the padding
                **self._body.positioned(torch.arange(ids.shape[1], device=ids.device).expand_as(ids)),
            }
            with table.reading():
                logits = self._read(called, np.array(lengths) - 1)
            table.lengths += lengths
        return logits

    def step(self, ids: Ints) -> Floats32:
        """See `Slots`."""
        table = self._table
        longest = max(table.lengths) + 1
        if longest > table.length:
            raise ValueError(f"a place holds {table.length} tokens")
        with memory_errors(f"continuing {len(ids)} rows"), self._body.computing():
            table.point(self._body.device)
            called = {
                "input_ids": self._body.tensor(ids)[:, None],
                "attention_mask": self._mask(longest),
                **self._body.positioned(table.ends[:, None]),
            }
            logits = self._read(called, np.zeros(len(ids), dtype=np.int64))
            table.lengths = [length + 1 for length in table.lengths]
        return logits

    def leave(self, place: int) -> None:
        """See `Slots`."""
        with self._body.computing():
            _move_last(self._table, self._cache, place)

    def _mask(self, longest: int) -> Tensor:
        """(B, longest) where all rows are as long, else (B, 1, 1, longest), added to the scores of attention."""
        ends, dtype = self._table.ends, self._body.dtype
        if min(self._table.lengths) + 1 == longest:
            return torch.ones((len(ends), longest), dtype=torch.long, device=ends.device)
        behind = torch.arange(longest, device=ends.device) > ends[:, None]
        shut = torch.zeros(behind.shape, dtype=dtype, device=ends.device)
        return shut.masked_fill_(behind, torch.finfo(dtype).min)[:, None, None]

    def _read(self, called: dict[str, object], columns: Ints) -> Floats32:
        called = {**called, "past_key_values": self._cache, "use_cache": True}
        return to_numpy(self._body.read_at(called, np.arange(len(columns)), columns))


class TorchSeq2SeqSlots:
    """Places for rows of an encoder-decoder, which go at any time, but all come together, since most decoders count one
    position for all rows; see `Slots`."""

    joins = False

    def __init__(self, body: TorchBody, *, rows: int, length: int) -> None:
        self._body = body
        self._table = SlotTable(rows=rows, length=length)
        self._encoded, self._mask = torch.empty(0), torch.empty(0)
        self._cache = EncoderDecoderCache(_own_cache(self._table), DynamicCache())

    def fill(self, batch: TokenBatch) -> Floats32:
        """See `Slots`."""
        rows, columns = batch.ids.shape
        if self._table.lengths or rows > self._table.rows:
            raise ValueError(f"{rows} rows were to come; of {self._table.rows} places {self._table.lengths} are in use")
        with memory_errors(f"reading {rows} sources of {columns} tokens"), self._body.computing():
            self._encoded, self._mask = self._body.encode(align(batch, side="right").batch)
            self._cache = EncoderDecoderCache(_own_cache(self._table), DynamicCache())
            with self._table.reading():
                logits = self._read(self._body.starts(rows))
            self._table.lengths = [1] * rows
        return logits

    def step(self, ids: Ints) -> Floats32:
        """See `Slots`."""
        with memory_errors(f"continuing {len(ids)} rows"), self._body.computing():
            self._table.point(self._body.device)
            logits = self._read(self._body.tensor(ids)[:, None])
            self._table.lengths = [length + 1 for length in self._table.lengths]
        return logits

    def leave(self, place: int) -> None:
        """See `Slots`."""
        with self._body.computing():
            last = len(self._table.lengths) - 1
            _move_last(self._table, self._cache.self_attention_cache, place)
            self._encoded, self._mask = _without(self._encoded, place, last), _without(self._mask, place, last)
            for layer in self._cache.cross_attention_cache.layers:
                kept = [_without(getattr(layer, name), place, last) for name in ("keys", "values")]
                layer.keys, layer.values = kept  # type: ignore[union-attr]

    def _read(self, ids: Tensor) -> Floats32:
        called = {**seq2seq_inputs(self._encoded, self._mask, ids), "past_key_values": self._cache, "use_cache": True}
        rows = np.arange(len(ids))
        return to_numpy(self._body.read_at(called, rows, np.zeros_like(rows)))


@dataclass
class SlotTable:
    """Which places are in use, and how long their rows are. All layers look at one table."""

    rows: int
    """R"""
    length: int
    """L"""
    lengths: list[int] = field(default_factory=list)
    """Of the rows in use, which stand at the places 0, 1, ..."""
    filling: bool = False
    """Are prompts being read, into the places behind those in use?"""
    places: Tensor = field(default_factory=lambda: torch.empty(0))
    """(B,) of the rows in use, while a step is taken."""
    ends: Tensor = field(default_factory=lambda: torch.empty(0))
    """(B,): where each row's new token goes, while a step is taken."""

    @contextmanager
    def reading(self) -> Iterator[None]:
        """While prompts are read."""
        self.filling = True
        try:
            yield
        finally:
            self.filling = False

    def point(self, device: str) -> None:
        """Before a step: to where it writes."""
        self.places = torch.arange(len(self.lengths), device=device)
        self.ends = torch.tensor(self.lengths, device=device)


class SlotLayer(CacheLayerMixin):
    """R places for L tokens, allocated once and written in place: no step copies what stands there."""

    is_sliding = False

    def __init__(self, table: SlotTable) -> None:
        super().__init__()
        self._table = table
        self._clean = 0  # columns before this one hold numbers in every place

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Reserve; a system hands out the memory when it is first written to."""
        sizes = (self._table.rows, key_states.shape[1], self._table.length)
        self.keys = key_states.new_empty((*sizes, key_states.shape[3]))
        self.values = value_states.new_empty((*sizes, value_states.shape[3]))
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Write new tokens, and give those that they see: of prompts (B, H, T, D), of a step (B, H, longest, D)."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None
        assert self.values is not None
        table = self._table
        if table.filling:
            first, columns = len(table.lengths), key_states.shape[2]
            self._clean_to(columns)
            self.keys[first : first + key_states.shape[0], :, :columns] = key_states
            self.values[first : first + key_states.shape[0], :, :columns] = value_states
            return key_states, value_states
        rows, longest = len(table.lengths), max(table.lengths) + 1
        self._clean_to(longest)
        self.keys[table.places, :, table.ends] = key_states[:, :, 0]
        self.values[table.places, :, table.ends] = value_states[:, :, 0]
        return self.keys[:rows, :, :longest], self.values[:rows, :, :longest]

    def _clean_to(self, columns: int) -> None:
        """A mask hides numbers, but not the NaN that fresh memory may hold."""
        assert self.keys is not None
        assert self.values is not None
        if columns > self._clean:
            fresh = slice(self._clean, min(self._table.length, columns + CLEAN_TOKENS))
            self.keys[:, :, fresh] = 0.0
            self.values[:, :, fresh] = 0.0
            self._clean = fresh.stop

    def move(self, source: int, target: int) -> None:
        """Copy the row of one place to another."""
        if self.keys is not None and self.values is not None:
            length = self._table.lengths[source]
            self.keys[target, :, :length] = self.keys[source, :, :length]
            self.values[target, :, :length] = self.values[source, :, :length]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Columns of keys, and where they begin."""
        return self.get_seq_length() + query_length, 0

    def get_seq_length(self) -> int:
        """Tokens of the longest row; while prompts are read nothing stands before them."""
        return 0 if self._table.filling else max(self._table.lengths, default=0)

    def get_max_length(self) -> int:
        """L"""
        return self._table.length


def _own_cache(table: "SlotTable") -> Cache:
    return Cache(layer_class_to_replicate=lambda: SlotLayer(table))  # type: ignore[arg-type]  # it is only called


def _move_last(table: SlotTable, cache: Cache, place: int) -> None:
    """The last row takes a place."""
    last = len(table.lengths) - 1
    if place != last:
        for layer in cache.layers:
            layer.move(last, place)  # type: ignore[union-attr]
        table.lengths[place] = table.lengths[last]
    table.lengths.pop()


def _without(values: Tensor, place: int, last: int) -> Tensor:
    if place != last:
        values[place] = values[last]
    return values[:last]
