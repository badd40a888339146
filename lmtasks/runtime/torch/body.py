"""A model as the primitives see it: called with tensors, and making logits only where they are asked for.

Axes: B batch, T time, S source tokens or target tokens, D width, V vocabulary, N cells that logits are made of.
"""

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.cache_utils import DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

from lmtasks.errors import UsageError
from lmtasks.model.model import Model, Projection
from lmtasks.records import Bools, Floats32, Ints, TokenBatch
from lmtasks.runtime.torch.device import TorchDevice, to_numpy
from lmtasks.runtime.torch.packed_linear import pack, packed_product

LOGITS_BYTES = 4 * 2**20
"""So much memory may the logits of one piece take while scoring."""
WINDOWS = ("sliding_window", "window_size", "attention_chunk_size")
"""Settings by which a model looks back over a part of a long row only."""
CHANGING_ROTATIONS = frozenset({"dynamic", "longrope"})

DecodingCache = DynamicCache | EncoderDecoderCache


class TorchBody(TorchDevice):
    """The part of a model that reads tokens, and the projection behind it.

    Args:
        model: in fp32, on the CPU; `move` casts it.
        threads: of torch.
    """

    def __init__(self, model: Model, *, threads: int) -> None:
        super().__init__("cpu", threads=threads)
        self.model = model
        self.card = model.card
        self.dtype = torch.float32
        self._project = _projection(model)  # before any cast: next-token logits are made in fp32 always
        self._module: nn.Module = model.hf if self._project is None else model.hf.base_model  # type: ignore[assignment]
        self._call: Callable[..., object] = self._module
        self._keeps_columns = "logits_to_keep" in inspect.signature(self._module.forward).parameters
        self._start = -1 if model.card.decoder_start is None else model.card.decoder_start  # -1: never read

    def move(self, *, device: str, dtype: torch.dtype, compiled: bool) -> None:
        """To where and how it computes from now on."""
        self.model.to(device=device, dtype=dtype)
        self.device, self.dtype = device, dtype
        if compiled:
            self._call = torch.compile(self._module, dynamic=True)

    def over(self, model: Model, choose: Callable[[], None]) -> "TorchBody":
        """The same for another model over the same backbone.

        Args:
            choose: lets that model's adapters count.
        """
        other = copy.copy(self)
        other.model, other.card, other.choose = model, model.card, choose
        return other

    def with_threads(self, threads: int) -> "TorchBody":
        """The same with another number of threads in each computation."""
        other = copy.copy(self)
        other._threads = threads
        return other

    def changes_while_it_reads(self) -> bool:
        """Does a call change what the next one finds, so that one call at a time may read? Rotations that depend on the
        length of a row do; and a head that a causal backbone reads both ways for: for as long as that pass takes,
        transformers puts its way to read in the place of the configuration's, which all calls look at."""
        if self.card.kind == "causal" and any(head.attention == "both" for head in self.card.answering):
            return True
        parameters = getattr(self.model.hf.config, "rope_parameters", None) or {}
        kinds = {
            parameters.get("rope_type"),
            *(each.get("rope_type") for each in parameters.values() if isinstance(each, dict)),
        }
        return not kinds.isdisjoint(CHANGING_ROTATIONS)

    def pack(self) -> bool:
        """Pack the products, where this computes in fp32 on the CPU. Returns whether it was done."""
        layer = self.model.hf.get_output_embeddings() if self._project is not None else None  # type: ignore[operator]
        if not pack(self.model.hf, answer=lambda: _probe_answer(self.model), kept=layer):
            return False
        if layer is not None and self._project is not None:
            self._project = packed_product(layer.weight.detach(), layer.bias, otherwise=self._project)
        return True

    def looks_back(self) -> int:
        """Over so many tokens every layer sees everything."""
        config = self.model.hf.config
        uses = getattr(config, "use_sliding_window", True) is not False
        windows = [getattr(config, name, None) for name in WINDOWS] if uses else []
        found = [window for window in windows if isinstance(window, int) and window > 0]
        return min([self.card.max_length_tokens, *found])

    def positioned(self, positions: Tensor) -> dict[str, object]:
        """Positions (B, T) counted from 0, as the model takes them; nothing for one that counts itself."""
        backbone = self.model.transformer
        return {"position_ids": positions + backbone.first_position} if backbone.takes_positions else {}

    def encode(self, source: TokenBatch, rows: Ints | None = None) -> tuple[Tensor, Tensor]:
        """Each source, padded on the right, once; then (B, S, D) and (B, S), which of it are tokens, for each
        of `rows`; None: as given."""
        mask = self.tensor(source.mask)
        encoded = self.model.encode(self.tensor(source.ids), mask)
        if rows is None:
            return encoded, mask
        index = self.tensor(rows)
        return encoded[index], mask[index]

    def starts(self, rows: int) -> Tensor:
        """The token that a decoder reads first, (B, 1)."""
        return torch.full((rows, 1), self._start, device=self.device)

    def read_last(
        self, called: Mapping[str, object], cache: DecodingCache | None = None
    ) -> tuple[Tensor, DecodingCache]:
        """Run over new tokens: next-token logits (B, V) in fp32 behind the last one, and the cache."""
        kept = {"logits_to_keep": 1} if self._keeps_columns else {}
        output = self._call(**called, past_key_values=cache, use_cache=True, **kept)
        whole = output.logits if self._project is None else output.last_hidden_state  # type: ignore[attr-defined]
        if getattr(output, "past_key_values", None) is None:
            raise UsageError(
                f"{self.card.name} ({self.card.family}) keeps no keys and values to decode with, which this version "
                "needs; it can be scored."
            )
        return self._logits(whole[:, -1]), output.past_key_values  # type: ignore[attr-defined]

    def read_at(self, called: Mapping[str, object], rows: Ints, columns: Ints) -> Tensor:
        """Run over rows: next-token logits (B, V) in fp32 behind each of the cells (B,)."""
        read, cell_of = self._cells(called, rows, columns)
        return self._logits(read)[cell_of]

    def score_at(self, called: Mapping[str, object], rows: Ints, columns: Ints, tokens: Ints) -> tuple[Floats32, Bools]:
        """Run over rows: log-probability of each token at its cell, and "no other is more likely there", (S,)."""
        read, cell_of = self._cells(called, rows, columns)
        wanted = self.tensor(tokens)
        logprobs = torch.empty(len(tokens), dtype=torch.float32, device=self.device)
        greedy = torch.empty(len(tokens), dtype=torch.bool, device=self.device)
        every = max(1, LOGITS_BYTES // (4 * self.card.vocabulary))
        for first in range(0, len(read), every):
            logits = self._logits(read[first : first + every])
            mine = ((cell_of >= first) & (cell_of < first + every)).nonzero()[:, 0]
            cells = cell_of[mine] - first
            given = logits[cells, wanted[mine]]
            greedy[mine] = given >= logits.amax(1)[cells]
            # Two to three times as fast as logsumexp, which takes a pass for each of its steps (torch 2.13 on CPU).
            logprobs[mine] = functional.log_softmax(logits, 1)[cells, wanted[mine]]
        return logprobs.cpu().numpy(), greedy.cpu().numpy()

    def tables_at(self, called: Mapping[str, object], rows: Ints, columns: Ints) -> Iterator[Floats32]:
        """Run over rows: log-probabilities of all tokens at each of the cells, tables (n, V) in their order."""
        with self.computing():
            read, cell_of = self._cells(called, rows, columns)
        every = max(1, LOGITS_BYTES // (4 * self.card.vocabulary))
        for first in range(0, len(cell_of), every):
            with self.computing():
                table = functional.log_softmax(self._logits(read[cell_of[first : first + every]]), 1)
            yield to_numpy(table)

    def rows_at_once(self, columns: Ints) -> int:
        """So many rows may be read while logits are wanted at these columns: a model that makes them itself makes them
        in every row."""
        if self._project is not None:
            return 1 << 30
        kept = len(np.unique(columns)) if self._keeps_columns else int(columns.max()) + 1
        return max(1, LOGITS_BYTES // (4 * kept * self.card.vocabulary))

    def _cells(self, called: Mapping[str, object], rows: Ints, columns: Ints) -> tuple[Tensor, Tensor]:
        """Vectors or logits at each different cell, (N, D or V), and which of them each of the given cells is."""
        if self._project is None and self._keeps_columns:
            kept, columns = np.unique(columns, return_inverse=True)
            whole = self._call(**called, logits_to_keep=self.tensor(kept)).logits  # type: ignore[attr-defined]
        else:
            output = self._call(**called)
            whole = output.logits if self._project is None else output.last_hidden_state  # type: ignore[attr-defined]
        cells, cell_of = np.unique(rows * whole.shape[1] + columns, return_inverse=True)
        return whole.flatten(0, 1)[self.tensor(cells)], self.tensor(cell_of)

    def _logits(self, read: Tensor) -> Tensor:
        """(..., D or V) -> (..., V) in fp32."""
        return read.float() if self._project is None else self._project(read.float())


def _projection(model: Model) -> Callable[[Tensor], Tensor] | None:
    """Hidden states to next-token logits, in fp32; None where the model does more than that (scales or caps its
    logits), and so has to make them itself.
    """
    found = model.projection() if model.card.kind == "causal" else None
    if found is None:
        return None
    # Held apart from the model, which may be cast to bf16: in fp32, and without memory of its own until then.
    return Projection(weight=found.weight.detach(), bias=None if found.bias is None else found.bias.detach())


def _probe_answer(model: Model) -> Tensor:
    """A model's answer to a few tokens."""
    ids = (torch.arange(6).reshape(2, 3) * 7 + 1) % model.card.vocabulary
    mask = torch.ones_like(ids, dtype=torch.bool)
    if model.card.kind == "encoder":
        return model.encode(ids, mask)
    if model.card.kind == "encoder-decoder":
        called = seq2seq_inputs(model.encode(ids, mask), mask, ids)
        return cast(Tensor, model.hf(**called, use_cache=False).logits)
    return cast(Tensor, model.hf(**model.transformer.inputs(ids, mask), use_cache=False)[0])


def seq2seq_inputs(encoded: Tensor, mask: Tensor, ids: Tensor) -> dict[str, object]:
    """Inputs of an encoder-decoder whose source is encoded."""
    return {
        "encoder_outputs": BaseModelOutput(last_hidden_state=encoded),
        "attention_mask": mask.long(),
        "decoder_input_ids": ids,
    }
