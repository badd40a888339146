"""The primitives over PyTorch: `torch`, and `torch-compile`.

Axes: B batch, T time, P tokens before, V vocabulary, S wanted tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers.cache_utils import DynamicCache

from lmtasks.cores import checked_threads
from lmtasks.model.model import Model
from lmtasks.records import Floats32, Ints, RuntimeCard, TokenBatch, TokenScores, TokenTargets
from lmtasks.runtime.align import align
from lmtasks.runtime.base import NOTHING_SHARED, Sharing, Slots
from lmtasks.runtime.memory import free_host_bytes, give_back_freed_memory, keep_freed_memory, memory_errors
from lmtasks.runtime.torch.body import TorchBody, pair_inputs
from lmtasks.runtime.torch.cache import DecodingCache, fork, prefix_cache
from lmtasks.runtime.torch.capability_probes import branches_agree, prefix_agrees, slots_agree
from lmtasks.runtime.torch.predict import DTYPES, checked_precision, predicted
from lmtasks.runtime.torch.slots import TorchCausalSlots, TorchSeq2SeqSlots
from lmtasks.runtime.torch.token_tree import positions_of, shut_mask, tree_mask
from lmtasks.settings.runtimes import TorchPrecision


@dataclass(frozen=True, kw_only=True)
class TorchState:
    """Where each row stands. Nothing in it is changed by later steps, so a state may be continued more than once."""

    cache: DecodingCache
    mask: Tensor
    """(B, P): which columns of the cache are tokens; of an encoder-decoder, (B, S): which of the source are."""
    encoded: Tensor | None = None
    """(B, S, D): the encoder's answer, of an encoder-decoder."""


class TorchRuntime:
    """A model in PyTorch.

    Args:
        model: taken over: it is moved, and cast to the precision.
        size_bytes: of its files, for the card.
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
        precision: TorchPrecision = "fp32",
        threads: int | None = None,
        compiled: bool = False,
    ) -> None:
        dtype = DTYPES[checked_precision(precision)]
        if device == "cpu":
            keep_freed_memory()
        self.model = model.card
        self.card = RuntimeCard(
            runtime="torch-compile" if compiled else "torch",
            version=torch.__version__,
            device=device,
            precision=precision,
            threads=checked_threads(threads),
            size_bytes=size_bytes,
        )
        self._model = model.eval()
        self._body = TorchBody(model, threads=self.card.threads)
        self._sharing: Sharing | None = None
        self._keeps_slots: bool | None = None
        if precision != "fp32" or compiled:  # measured in exact numbers, and before anything is compiled for it
            self._sharing, self._keeps_slots = self._measure_sharing(), self._measure_slots()
        packed = device == "cpu" and precision == "fp32" and not compiled and self._body.pack()
        if packed:
            self.card = replace(self.card, options={**self.card.options, "products": "onednn-packed"})
        self._body.move(device=device, dtype=dtype, compiled=compiled)
        if device == "cpu":
            give_back_freed_memory()
        self._head: Callable[..., Tensor] = (
            torch.compile(model.head_logits, dynamic=True) if compiled else model.head_logits
        )

    @property
    def sharing(self) -> Sharing:
        """See `Runtime`. Measured when it is first asked for."""
        if self._sharing is None:
            self._sharing = self._measure_sharing()
        return self._sharing

    def predict(self, head: str, batch: TokenBatch) -> Floats32:
        """See `Runtime`. Padded positions of a span head hold -1e4, of a tagging head 0."""
        spec = self._model.spec(head)
        with memory_errors(_doing("a head reads", batch)), self._body.computing():
            return predicted(spec, batch, name=self.model.name, head=self._head, tensor=self._body.tensor)

    def score(
        self,
        batch: TokenBatch,
        wanted: TokenTargets,
        *,
        reach: Ints | None = None,
        behind: TorchState | None = None,
        source: TokenBatch | None = None,
        source_rows: Ints | None = None,
    ) -> TokenScores:
        """See `Runtime`. A piece of the logits stands in memory at a time."""
        logprobs = np.zeros(len(wanted.rows), dtype=np.float32)
        greedy = np.zeros(len(wanted.rows), dtype=np.bool_)
        if not len(logprobs):
            return TokenScores(logprobs=logprobs, greedy=greedy)
        aligned = align(batch, side="right")
        columns = aligned.columns_of(wanted)
        with memory_errors(_doing("scoring", aligned.batch)), self._body.computing():
            encoded = None if source is None else self._body.encode(source, source_rows)
            every = self._body.rows_at_once(columns)
            for first in range(0, len(aligned.batch.ids), every):
                part = slice(first, first + every)
                (mine,) = np.nonzero((wanted.rows >= first) & (wanted.rows < first + every))
                if len(mine):
                    called = self._scoring_inputs(
                        self._body.tensor(aligned.batch.ids[part]),
                        reach=None if reach is None else self._body.tensor(reach[part]),
                        behind=behind,
                        encoded=None if encoded is None else (encoded[0][part], encoded[1][part]),
                    )
                    cells = (wanted.rows[mine] - first, columns[mine])
                    logprobs[mine], greedy[mine] = self._body.score_at(called, *cells, wanted.tokens[mine])
        if self._body.device == "cpu":
            give_back_freed_memory()  # 5 ms; a batch takes some hundred
        return TokenScores(logprobs=logprobs, greedy=greedy)

    def prefill(self, batch: TokenBatch) -> tuple[TorchState, Floats32]:
        """See `Runtime`."""
        with memory_errors(_doing("reading", batch)), self._body.computing():
            if self.model.kind == "encoder-decoder":
                encoded, mask = self._body.encode(batch)
                logits, cache = self._body.read_last(pair_inputs(encoded, mask, self._body.starts(len(mask))))
                return TorchState(cache=cache, mask=mask, encoded=encoded), _numpy(logits)
            aligned = align(batch, side="left").batch
            ids, mask = self._body.tensor(aligned.ids), self._body.tensor(aligned.mask)
            logits, cache = self._body.read_last(self._model.transformer.inputs(ids, mask))
            return TorchState(cache=cache, mask=mask), _numpy(logits)

    def step(self, state: TorchState, ids: Ints) -> tuple[TorchState, Floats32]:
        """See `Runtime`."""
        with memory_errors(f"continuing {len(ids)} rows"), self._body.computing():
            new = self._body.tensor(ids)[:, None]
            cache = fork(state.cache)
            if state.encoded is not None:
                logits, cache = self._body.read_last(pair_inputs(state.encoded, state.mask, new), cache)
                return TorchState(cache=cache, mask=state.mask, encoded=state.encoded), _numpy(logits)
            mask = functional.pad(state.mask, (0, 1), value=True)
            inputs = self._model.transformer.inputs(new, mask)
            if "position_ids" in inputs:
                inputs["position_ids"] = inputs["position_ids"][:, -1:]
            logits, cache = self._body.read_last(inputs, cache)
            return TorchState(cache=cache, mask=mask), _numpy(logits)

    def reorder(self, state: TorchState, rows: Ints) -> TorchState:
        """See `Runtime`."""
        if np.array_equal(rows, np.arange(state.mask.shape[0])):
            return state
        with memory_errors(f"moving {len(rows)} rows"), self._body.computing():
            index = self._body.tensor(rows)
            cache = fork(state.cache)
            cache.batch_select_indices(index)
            encoded = None if state.encoded is None else state.encoded[index]
            return TorchState(cache=cache, mask=state.mask[index], encoded=encoded)

    def slots(self, *, rows: int, length: int) -> Slots | None:
        """See `Runtime`. Measured when it is first asked for."""
        if self._keeps_slots is None:
            self._keeps_slots = self._measure_slots()
        return self._make_slots(rows=rows, length=length) if self._keeps_slots else None

    def beside(self) -> "TorchRuntime":
        """See `Runtime`: torch's threads work on one call at a time."""
        return self

    def free_bytes(self) -> int:
        """See `Runtime`."""
        if torch.device(self.card.device).type == "cuda":
            return int(torch.cuda.mem_get_info(self.card.device)[0])
        return free_host_bytes()

    def close(self) -> None:
        """See `Runtime`."""
        del self._model, self._body, self._head

    def _scoring_inputs(
        self, ids: Tensor, *, reach: Tensor | None, behind: TorchState | None, encoded: tuple[Tensor, Tensor] | None
    ) -> dict[str, object]:
        """What the body is called with. Rows are padded on the right, where no token sees the padding."""
        if encoded is not None:
            return {**pair_inputs(*encoded, ids), "decoder_attention_mask": torch.ones_like(ids), "use_cache": False}
        called: dict[str, object] = {"input_ids": ids, "use_cache": False}
        if reach is None and behind is None:
            positions = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
            return {**called, "attention_mask": torch.ones_like(ids), **self._body.positioned(positions)}
        sees = tree_mask(ids, reach)
        before = 0 if behind is None else int(behind.mask.shape[1])
        called["attention_mask"] = shut_mask(sees, before=before, dtype=self._body.dtype)
        called |= self._body.positioned(positions_of(sees) + before)
        if behind is None:
            return called
        assert isinstance(behind.cache, DynamicCache)  # only causal models stand behind a state
        return {**called, "past_key_values": prefix_cache(behind.cache), "use_cache": True}

    def _make_slots(self, *, rows: int, length: int) -> Slots:
        made = TorchSeq2SeqSlots if self.model.kind == "encoder-decoder" else TorchCausalSlots
        return made(self._body, rows=rows, length=length)

    def _measure_sharing(self) -> Sharing:
        if self.model.kind != "causal" or not branches_agree(self):
            return NOTHING_SHARED
        return Sharing(longest_row=self._body.looks_back(), prefix=prefix_agrees(self))

    def _measure_slots(self) -> bool:
        if self.model.kind == "encoder" or self._body.looks_back() < self.model.max_length_tokens:
            return False
        return slots_agree(self, lambda: self._make_slots(rows=3, length=12), joins=self.model.kind == "causal")


def _doing(what: str, batch: TokenBatch) -> str:
    rows, columns = batch.ids.shape
    return f"{what} {rows} {'row' if rows == 1 else 'rows'} of {columns} tokens"


def _numpy(values: Tensor) -> Floats32:
    array: Floats32 = values.float().cpu().numpy()
    return array
