"""The driver over PyTorch for models of transformers: `torch`, and `torch-compile`.

A row may hold a tree of tokens; masks say which token sees which, and positions where each one stands:

>>> sees = tree_mask(torch.zeros((1, 4)), torch.tensor([[4, 4, 3, 4]]))  # tokens a b, then c and d behind b
>>> sees[0].int().tolist()
[[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 0, 1]]
>>> positions_of(sees).tolist()
[[0, 1, 2, 2]]

Axes: B batch, T time, P tokens before, V vocabulary, S target tokens or source tokens, H heads, D width of a head.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache, EncoderDecoderCache

from lmtasks.head import head_of
from lmtasks.head.module import TokenRows, pooled
from lmtasks.model.model import Model
from lmtasks.model.state_keys import state_key, states_scope
from lmtasks.model.weights import base_facts
from lmtasks.records import Bools, Floats32, HeadSpec, Ints, TokenBatch
from lmtasks.runtime.base import NOTHING_SHARED, DecodingState, Sharing, Slots
from lmtasks.runtime.driver import Driver, ScoreInput
from lmtasks.runtime.kept_states import kept_states
from lmtasks.runtime.memory import give_back_freed_memory, memory_errors
from lmtasks.runtime.torch.body import DecodingCache, TorchBody, seq2seq_inputs
from lmtasks.runtime.torch.capability_probes import branches_agree, prefix_agrees, slots_agree
from lmtasks.runtime.torch.device import DTYPES, beside, to_numpy, torch_card, torch_precision
from lmtasks.runtime.torch.slots import TorchCausalSlots, TorchSeq2SeqSlots

MOST_CALLERS = 8
"""Calls that run beside each other: their operators are started by Python, one at a time."""


@dataclass(frozen=True, kw_only=True)
class TorchState(DecodingState):
    """Keys and values of each row, and which columns of them are tokens."""

    cache: DecodingCache
    mask: Tensor
    """(B, P): which columns of the cache are tokens; of an encoder-decoder, (B, S): which of the source are."""
    encoded: Tensor | None = None
    """(B, S, D): the encoder's answer, of an encoder-decoder."""


class TorchRuntime(Driver[TorchState]):
    """A model of transformers in PyTorch.

    Args:
        model: taken over: it is moved, and cast to the precision.
        size_bytes: of its files, for the card.
        threads: None: as many as the process may use.
        compiled: run it through torch.compile.

    Raises:
        UsageError: a precision that it cannot compute in.
    """

    def __init__(
        self,
        model: Model,
        *,
        size_bytes: int = 0,
        device: str = "cpu",
        precision: str = "fp32",
        threads: int | None = None,
        compiled: bool = False,
    ) -> None:
        card = torch_card(device=device, precision=precision, threads=threads, compiled=compiled, size_bytes=size_bytes)
        side: Literal["left", "right"] = "left" if model.card.kind == "causal" else "right"
        super().__init__(model.card, card, state_type=TorchState, prompt_side=side)
        self._model = model.eval()
        self._body = TorchBody(model, threads=card.threads)
        self._sharing: Sharing | None = None
        self._keeps_slots: bool | None = None
        if precision != "fp32" or compiled:  # measured in exact numbers, and before anything is compiled for it
            self._sharing, self._keeps_slots = self._measure_sharing(), self._measure_slots()
        packed = device == "cpu" and precision == "fp32" and not compiled and self._body.pack()
        if packed:
            self.card = replace(card, options={**card.options, "products": "onednn-packed"})
        self._body.move(device=device, dtype=DTYPES[torch_precision(precision)], compiled=compiled)
        if device == "cpu":
            give_back_freed_memory()
        self._heads: Callable[..., list[Tensor]] = (
            torch.compile(model.heads_logits, dynamic=True) if compiled else model.heads_logits
        )
        self._kept = kept_states() if model.card.adaptation == "probe" and not compiled else None
        self._scope = b""
        if self._kept is not None:  # a probe has the weights of its backbone in its own folder
            weights = base_facts(model.folder).hash
            self._scope = states_scope(model, weights=weights, device=self.card.device, precision=precision)

    def over(self, model: Model, choose: Callable[[], None], *, size_bytes: int, numbers: int) -> "TorchRuntime":
        """The same for another model over the same backbone; see `TorchBody.over`."""
        other = self.copied_for(model.card, beside(self.card, size_bytes=size_bytes, numbers=numbers))
        other._model = model.to(self._body.device, self._body.dtype).eval()
        other._kept = None  # adapters change what the backbone makes of a text
        other._body, other._heads = self._body.over(model, choose), model.heads_logits
        return other

    @property
    def reading_callers(self) -> int:
        """See `Runtime`: on a processor as many as threads, up to eight."""
        alone = self.card.device != "cpu" or self.card.runtime != "torch" or self._body.changes_while_it_reads()
        return 1 if alone else min(self.card.threads, MOST_CALLERS)

    @property
    def measures_callers(self) -> bool:
        """See `Runtime`: weights are in memory once."""
        return self.reading_callers > 1

    def for_concurrent_calls(self) -> "TorchRuntime":
        """See `Runtime`."""
        if self.reading_callers == 1:
            return self
        threads = self.card.threads // self.reading_callers
        other = self.copied_for(self.model, replace(self.card, threads=threads))
        other._body = self._body.with_threads(threads)
        return other

    @property
    def sharing(self) -> Sharing:
        """See `Runtime`. Measured when it is first asked for."""
        if self._sharing is None:
            self._sharing = self._measure_sharing()
        return self._sharing

    def slots(self, *, rows: int, length: int) -> Slots | None:
        """See `Runtime`. Measured when it is first asked for."""
        if self._keeps_slots is None:
            self._keeps_slots = self._measure_slots()
        return self._make_slots(rows=rows, length=length) if self._keeps_slots else None

    def free_bytes(self) -> int:
        """See `Runtime`."""
        return self._body.free_bytes()

    def close(self) -> None:
        """See `Runtime`."""
        del self._model, self._body, self._heads

    def _predict(self, spec: HeadSpec, batch: TokenBatch) -> Floats32:
        (logits,) = self._predict_heads((spec,), batch)
        return logits

    def _predict_heads(self, specs: Sequence[HeadSpec], batch: TokenBatch) -> list[Floats32]:
        if self._kept is None or any(spec.pooling == "own" or head_of(spec).per_token for spec in specs):
            return self._body.heads_logits(self._heads, [spec.name for spec in specs], batch)
        return [self._from_kept(spec, batch) for spec in specs]

    def _from_kept(self, spec: HeadSpec, batch: TokenBatch) -> Floats32:
        """Logits of a head that reads one state a row, (B, C); a row that was read before is not read again."""
        assert self._kept is not None
        keys = []
        for row, real in enumerate(batch.mask):
            own = () if batch.types is None else batch.types[row, real]
            keys.append(state_key(self._scope, spec, kind=self.model.kind, ids=batch.ids[row, real], types=own))
        known = self._kept.get(keys)
        places = [place for place, key in enumerate(keys) if key not in known]
        with self._body.computing():
            ids, mask = self._body.tensor(batch.ids), self._body.tensor(batch.mask)
            if places:
                length = int(batch.mask[places].sum(1).max())
                types = None if batch.types is None else self._body.tensor(batch.types[places, :length])
                rows = ids[places, :length], mask[places, :length]
                hidden = self._model.encode(*rows, types, attention=spec.attention)
                fresh = dict(
                    zip([keys[place] for place in places], to_numpy(pooled(hidden, rows[1], spec.pooling)), strict=True)
                )
                self._kept.put(fresh)
                known |= fresh
            states = self._body.tensor(np.stack([known[key] for key in keys]))[:, None].to(self._body.dtype)
            alone = torch.ones((len(keys), 1), dtype=torch.bool, device=states.device)
            return to_numpy(self._model.head(spec.name)(states, alone, TokenRows(ids=ids, mask=mask)))

    def _score(self, given: ScoreInput[TorchState]) -> tuple[Floats32, Bools]:
        """A piece of the logits stands in memory at a time."""
        targets, ids = given.targets, given.rows.ids
        logprobs = np.zeros(len(targets.rows), dtype=np.float32)
        greedy = np.zeros(len(targets.rows), dtype=np.bool_)
        with self._body.computing():
            encoded = None if given.source is None else self._body.encode(given.source, given.source_rows)
            every = self._body.rows_at_once(targets.columns)
            for first in range(0, len(ids), every):
                part = slice(first, first + every)
                (mine,) = np.nonzero((targets.rows >= first) & (targets.rows < first + every))
                if len(mine):
                    called = self._scoring_inputs(
                        self._body.tensor(ids[part]),
                        subtree_end=None if given.subtree_end is None else self._body.tensor(given.subtree_end[part]),
                        prefix=given.prefix_state,
                        encoded=None if encoded is None else (encoded[0][part], encoded[1][part]),
                    )
                    cells = (targets.rows[mine] - first, targets.columns[mine])
                    logprobs[mine], greedy[mine] = self._body.score_at(called, *cells, targets.tokens[mine])
        if self._body.device == "cpu":
            give_back_freed_memory()  # 5 ms; a batch takes some hundred
        return logprobs, greedy

    def next_logprobs(self, batch: TokenBatch, rows: Ints, columns: Ints) -> Iterator[Floats32]:
        """See `Runtime`: rows without padding are read once for all places."""
        if self.model.kind != "causal" or not batch.mask.all() or self._body.rows_at_once(columns) < len(batch.ids):
            yield from super().next_logprobs(batch, rows, columns)
            return
        with memory_errors(f"scores of all tokens at {len(rows)} places"):
            ids = self._body.tensor(batch.ids)
            called = self._scoring_inputs(ids, subtree_end=None, prefix=None, encoded=None)
            yield from self._body.tables_at(called, rows, columns)

    def _prefill(self, prompts: TokenBatch, lengths: Ints) -> tuple[TorchState, Floats32]:
        with self._body.computing():
            if self.model.kind == "encoder-decoder":
                encoded, mask = self._body.encode(prompts)
                logits, cache = self._body.read_last(seq2seq_inputs(encoded, mask, self._body.starts(len(mask))))
                return TorchState(cache=cache, mask=mask, encoded=encoded), to_numpy(logits)
            ids, mask = self._body.tensor(prompts.ids), self._body.tensor(prompts.mask)
            logits, cache = self._body.read_last(self._model.transformer.inputs(ids, mask))
            return TorchState(cache=cache, mask=mask), to_numpy(logits)

    def _step(self, state: TorchState, ids: Ints) -> tuple[TorchState, Floats32]:
        with self._body.computing():
            new = self._body.tensor(ids)[:, None]
            cache = fork(state.cache)
            if state.encoded is not None:
                logits, cache = self._body.read_last(seq2seq_inputs(state.encoded, state.mask, new), cache)
                return TorchState(cache=cache, mask=state.mask, encoded=state.encoded), to_numpy(logits)
            mask = functional.pad(state.mask, (0, 1), value=True)
            inputs = self._model.transformer.inputs(new, mask)
            if "position_ids" in inputs:
                inputs["position_ids"] = inputs["position_ids"][:, -1:]
            logits, cache = self._body.read_last(inputs, cache)
            return TorchState(cache=cache, mask=mask), to_numpy(logits)

    def _reorder(self, state: TorchState, rows: Ints) -> TorchState:
        if np.array_equal(rows, np.arange(state.mask.shape[0])):
            return state
        with self._body.computing():
            index = self._body.tensor(rows)
            cache = fork(state.cache)
            cache.batch_select_indices(index)
            encoded = None if state.encoded is None else state.encoded[index]
            return TorchState(cache=cache, mask=state.mask[index], encoded=encoded)

    def _scoring_inputs(
        self,
        ids: Tensor,
        *,
        subtree_end: Tensor | None,
        prefix: TorchState | None,
        encoded: tuple[Tensor, Tensor] | None,
    ) -> dict[str, object]:
        """Inputs of the body. Rows are padded on the right, where no token sees the padding."""
        if encoded is not None:
            return {**seq2seq_inputs(*encoded, ids), "decoder_attention_mask": torch.ones_like(ids), "use_cache": False}
        called: dict[str, object] = {"input_ids": ids, "use_cache": False}
        if subtree_end is None and prefix is None:
            positions = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
            return {**called, "attention_mask": torch.ones_like(ids), **self._body.positioned(positions)}
        sees = tree_mask(ids, subtree_end)
        before = 0 if prefix is None else int(prefix.mask.shape[1])
        called["attention_mask"] = shut_mask(sees, before=before, dtype=self._body.dtype)
        called |= self._body.positioned(positions_of(sees) + before)
        if prefix is None:
            return called
        assert isinstance(prefix.cache, DynamicCache)  # only causal models continue a prefix
        return {**called, "past_key_values": prefix_cache(prefix.cache), "use_cache": True}

    def _make_slots(self, *, rows: int, length: int) -> Slots:
        made = TorchSeq2SeqSlots if self.model.kind == "encoder-decoder" else TorchCausalSlots
        return made(self._body, rows=rows, length=length)

    def _measure_sharing(self) -> Sharing:
        if self.model.kind != "causal":
            return NOTHING_SHARED
        longest = self._body.looks_back()
        self._sharing = Sharing(longest_row=longest, prefix=True)  # while it is measured everything may be asked
        try:
            if not branches_agree(self):
                return NOTHING_SHARED
            return Sharing(longest_row=longest, prefix=prefix_agrees(self))
        finally:
            self._sharing = None

    def _measure_slots(self) -> bool:
        if not self.predicts_tokens or self._body.looks_back() < self.model.max_length_tokens:
            return False
        return slots_agree(self, lambda: self._make_slots(rows=3, length=12), joins=self.model.kind == "causal")


def tree_mask(ids: Tensor, subtree_end: Tensor | None) -> Tensor:
    """(B, T) -> (B, T, T): does the token of the first column see that of the second? Each sees itself.

    Args:
        ids: for their shape.
        subtree_end: (B, T), see `Runtime.score`; None: every token sees all before it.
    """
    columns = torch.arange(ids.shape[1], device=ids.device)
    before = columns[:, None] >= columns
    if subtree_end is None:
        return before.expand(ids.shape[0], -1, -1)
    own = columns[:, None] == columns  # padding sees itself at least: a softmax over nothing is no number
    return (before & (columns[:, None] < subtree_end[:, None, :])) | own


def positions_of(sees: Tensor) -> Tensor:
    """(B, T, T) -> (B, T): how many others each token sees."""
    return sees.sum(-1) - 1


def shut_mask(sees: Tensor, *, before: int, dtype: torch.dtype) -> Tensor:
    """(B, T, T) -> what attention adds to its scores, (B, 1, T, P + T): nothing, or so little that it is shut.

    Args:
        before: P columns before the row, which every token sees.
    """
    shut = torch.zeros((*sees.shape[:2], before + sees.shape[2]), dtype=dtype, device=sees.device)
    shut[:, :, before:].masked_fill_(~sees, torch.finfo(dtype).min)
    return shut[:, None]


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


def fork(cache: DecodingCache) -> DecodingCache:
    """The same cache, to be continued apart. Layers replace their tensors when they grow, so nothing is copied."""
    if isinstance(cache, EncoderDecoderCache):
        return EncoderDecoderCache(_fork_layers(cache.self_attention_cache), _fork_layers(cache.cross_attention_cache))
    return _fork_layers(cache)


def _fork_layers(cache: DynamicCache) -> DynamicCache:
    forked = copy.copy(cache)
    forked.layers = [copy.copy(layer) for layer in cache.layers]
    return forked
