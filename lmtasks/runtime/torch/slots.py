"""Rows that come and go while texts are written, over PyTorch: see `Slots` in `base.py`.

Rows stand left-aligned, each with its own length. A row that leaves is replaced by the last one, so that the rows in
use are always the first ones, and a step works on views.

Axes: B rows in use, T prompt tokens, S source tokens, V vocabulary.
"""

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, EncoderDecoderCache

from lmtasks.records import Floats32, Ints, TokenBatch
from lmtasks.runtime.align import align
from lmtasks.runtime.memory import memory_errors
from lmtasks.runtime.torch.body import TorchBody, pair_inputs
from lmtasks.runtime.torch.cache import SlotLayer, SlotTable


class TorchCausalSlots:
    """Of a causal model: rows come and go at any time."""

    joins = True

    def __init__(self, body: TorchBody, *, rows: int, length: int) -> None:
        self._body = body
        self._table = SlotTable(rows=rows, length=length)
        self._cache = _own_cache(self._table)

    def fill(self, batch: TokenBatch) -> Floats32:
        """See `Slots`."""
        table, right = self._table, align(batch, side="right").batch
        lengths: list[int] = right.mask.sum(axis=1).tolist()
        if len(table.lengths) + len(lengths) > table.rows or max(lengths) > table.length:
            raise ValueError(f"{table.rows} places of {table.length} tokens cannot take {lengths} more")
        with memory_errors(f"reading {len(lengths)} prompts of {max(lengths)} tokens"), self._body.computing():
            ids = self._body.tensor(right.ids)
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
        return _numpy(self._body.read_at(called, np.arange(len(columns)), columns))


class TorchSeq2SeqSlots:
    """Of an encoder-decoder: rows go at any time, but all come together, since most decoders count one position for
    all rows."""

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
            self._encoded, self._mask = self._body.encode(batch)
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
        called = {**pair_inputs(self._encoded, self._mask, ids), "past_key_values": self._cache, "use_cache": True}
        rows = np.arange(len(ids))
        return _numpy(self._body.read_at(called, rows, np.zeros_like(rows)))


def _own_cache(table: SlotTable) -> Cache:
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


def _numpy(values: Tensor) -> Floats32:
    array: Floats32 = values.float().cpu().numpy()
    return array
