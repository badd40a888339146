"""Keys and values of a decoder, in the ways that decoding and scoring need them.

Axes: B rows, R places, T new tokens, P tokens before, L longest row, H heads, D width of a head.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache, EncoderDecoderCache

DecodingCache = DynamicCache | EncoderDecoderCache

CLEAN_TOKENS = 64
"""Fresh memory is cleared so many columns at a time."""


class PrefixLayer(CacheLayerMixin):
    """One row's keys and values, which every row of a batch continues. Nothing is kept of what comes behind."""

    is_sliding = False

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.keys, self.values = keys, values
        self._keys, self._values = keys, values
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """It is initialized from the start."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """(B, H, T, D) -> (B, H, P + T, D)"""
        rows = key_states.shape[0]
        return (
            torch.cat([self._keys.expand(rows, -1, -1, -1), key_states], dim=2),
            torch.cat([self._values.expand(rows, -1, -1, -1), value_states], dim=2),
        )

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Columns of keys, and where they begin."""
        return self.get_seq_length() + query_length, 0

    def get_seq_length(self) -> int:
        """P"""
        return int(self._keys.shape[2])

    def get_max_length(self) -> int:
        """No limit of its own."""
        return -1


def prefix_cache(cache: DynamicCache) -> Cache:
    """The cache of one row as one that many rows continue.

    Raises:
        TypeError: its layers hold something else than keys and values of the whole row.
    """
    layers: list[CacheLayerMixin] = []
    for layer in cache.layers:
        keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
        if keys is None or values is None or getattr(layer, "is_sliding", False):
            raise TypeError("a layer keeps something else than keys and values of the whole prefix")
        layers.append(PrefixLayer(keys, values))
    return Cache(layers=list(layers))


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
        """Of the longest row; while prompts are read nothing stands before them."""
        return 0 if self._table.filling else max(self._table.lengths, default=0)

    def get_max_length(self) -> int:
        """L"""
        return self._table.length


def fork(cache: DecodingCache) -> DecodingCache:
    """The same cache, to be continued apart. Layers replace their tensors when they grow, so nothing is copied."""
    if isinstance(cache, EncoderDecoderCache):
        return EncoderDecoderCache(_fork_layers(cache.self_attention_cache), _fork_layers(cache.cross_attention_cache))
    return _fork_layers(cache)


def _fork_layers(cache: DynamicCache) -> DynamicCache:
    forked = copy.copy(cache)
    forked.layers = [copy.copy(layer) for layer in cache.layers]
    return forked
