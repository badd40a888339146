"""The primitives over PyTorch: `torch`, and `torch-compile`.

Axes: B batch, T time, D width, V vocabulary, N scored positions.
"""

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.cache_utils import DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

from lmtasks.errors import UsageError
from lmtasks.model.model import Model
from lmtasks.records import Floats32, HeadSpec, Ints, RuntimeCard, TokenBatch, TokenScores
from lmtasks.runtime.align import align, join_scores, no_scores
from lmtasks.runtime.threads import checked_threads

LOGITS_BYTES = 64 * 2**20
"""So much memory may the logits of one piece take while scoring."""
SPAN_PADDING = -1e4
"""Logit of a padded position in a span head's answer; no softmax sees it."""

DecodingCache = DynamicCache | EncoderDecoderCache

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


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
        precision: Literal["fp32", "bf16"] = "fp32",
        threads: int | None = None,
        compiled: bool = False,
    ) -> None:
        if precision not in DTYPES:
            raise UsageError(
                f"torch computes in {' or '.join(DTYPES)}, was asked for {precision!r}; 8 bits run in onnx: "
                "`lmtasks export --precision int8`."
            )
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
        self._project = _projection(model)  # before the cast: next-token logits are made in fp32 always
        model.to(device=device, dtype=DTYPES[precision])
        body: nn.Module = model.hf if self._project is None else model.hf.base_model  # type: ignore[assignment]
        self._keeps_last = "logits_to_keep" in inspect.signature(body.forward).parameters
        self._start = -1 if model.card.decoder_start is None else model.card.decoder_start  # -1: never read
        self._body: Callable[..., object] = torch.compile(body, dynamic=True) if compiled else body
        self._head: Callable[..., Tensor] = (
            torch.compile(model.head_logits, dynamic=True) if compiled else model.head_logits
        )

    def predict(self, head: str, batch: TokenBatch) -> Floats32:
        """See `Runtime`. Padded positions of a span head hold -1e4, of a tagging head 0."""
        spec = self._predicting(head)
        aligned = align(batch, side="right")
        types = None if aligned.batch.types is None else self._tensor(aligned.batch.types)
        with self._computing():
            logits = self._head(head, self._tensor(aligned.batch.ids), self._tensor(aligned.batch.mask), types)
        values = _numpy(logits)
        if spec.kind == "classification":
            return values
        return aligned.restore(values, padding=SPAN_PADDING if spec.kind == "span" else 0.0)

    def score(self, batch: TokenBatch, source: TokenBatch | None = None) -> TokenScores:
        """See `Runtime`. The logits of at most `LOGITS_BYTES` stand in memory, of whole rows where a model makes its
        logits itself."""
        aligned = align(batch, side="right")
        rows, columns = aligned.batch.ids.shape
        if columns < 2:
            return aligned.restore_scores(no_scores(rows, columns))
        every = rows if self._project else max(1, LOGITS_BYTES // (4 * columns * self.model.vocabulary))
        encoder = None if source is None else align(source, side="right").batch
        parts = [
            self._score_rows(_rows(aligned.batch, part), None if encoder is None else _rows(encoder, part))
            for part in (slice(start, start + every) for start in range(0, rows, every))
        ]
        return aligned.restore_scores(join_scores(parts))

    def prefill(self, batch: TokenBatch) -> tuple[TorchState, Floats32]:
        """See `Runtime`."""
        decodes = self.model.kind == "encoder-decoder"
        aligned = align(batch, side="right" if decodes else "left").batch
        ids, mask = self._tensor(aligned.ids), self._tensor(aligned.mask)
        with self._computing():
            if decodes:
                start = torch.full((ids.shape[0], 1), self._start, device=ids.device)
                encoded = self._model.encode(ids, mask)
                read, cache = self._read(_pair_inputs(encoded, mask, start))
                return TorchState(cache=cache, mask=mask, encoded=encoded), self._next(read)
            read, cache = self._read(self._model.backbone.inputs(ids, mask))
            return TorchState(cache=cache, mask=mask), self._next(read)

    def step(self, state: TorchState, ids: Ints) -> tuple[TorchState, Floats32]:
        """See `Runtime`."""
        new = self._tensor(ids)[:, None]
        cache = _fork(state.cache)
        with self._computing():
            if state.encoded is not None:
                read, cache = self._read(_pair_inputs(state.encoded, state.mask, new), cache)
                return TorchState(cache=cache, mask=state.mask, encoded=state.encoded), self._next(read)
            mask = functional.pad(state.mask, (0, 1), value=True)
            inputs = self._model.backbone.inputs(new, mask)
            if "position_ids" in inputs:
                inputs["position_ids"] = inputs["position_ids"][:, -1:]
            read, cache = self._read(inputs, cache)
            return TorchState(cache=cache, mask=mask), self._next(read)

    def reorder(self, state: TorchState, rows: Ints) -> TorchState:
        """See `Runtime`."""
        if np.array_equal(rows, np.arange(state.mask.shape[0])):
            return state
        with self._computing():
            index = self._tensor(rows)
            cache = _fork(state.cache)
            cache.batch_select_indices(index)
            encoded = None if state.encoded is None else state.encoded[index]
            return TorchState(cache=cache, mask=state.mask[index], encoded=encoded)

    def close(self) -> None:
        """See `Runtime`."""
        del self._model, self._body, self._head, self._project

    def _predicting(self, head: str) -> HeadSpec:
        spec = self._model.spec(head)
        if spec.kind == "generation":
            raise UsageError(f"head {head!r} of {self.model.name} writes text; it has no logits to predict with.")
        return spec

    def _computing(self) -> torch.inference_mode:
        torch.set_num_threads(self.card.threads)  # a setting of the process, so it is set before each computation
        return torch.inference_mode()

    def _tensor(self, values: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.card.device)

    def _read(self, called: Mapping[str, object], cache: DecodingCache | None = None) -> tuple[Tensor, DecodingCache]:
        """Run the body over new tokens: what `_logits` makes logits of, (B, D or V), at the last one, and the cache."""
        kept = {"logits_to_keep": 1} if self._keeps_last else {}
        output = self._body(**called, past_key_values=cache, use_cache=True, **kept)
        whole = output.logits if self._project is None else output.last_hidden_state  # type: ignore[attr-defined]
        if getattr(output, "past_key_values", None) is None:
            raise UsageError(
                f"{self.model.name} ({self.model.family}) keeps no keys and values to decode with, which this version "
                "needs; it can be scored."
            )
        return whole[:, -1], output.past_key_values  # type: ignore[attr-defined]

    def _score_rows(self, batch: TokenBatch, source: TokenBatch | None) -> TokenScores:
        ids, mask = self._tensor(batch.ids), self._tensor(batch.mask)
        with self._computing():
            if source is None:
                called = self._model.backbone.inputs(ids[:, :-1], mask[:, :-1])
            else:
                called = {
                    "input_ids": self._tensor(source.ids),
                    "attention_mask": self._tensor(source.mask).long(),
                    "decoder_input_ids": ids[:, :-1],
                    "decoder_attention_mask": mask[:, :-1].long(),
                }
            output = self._body(**called, use_cache=False)
            whole = output.logits if self._project is None else output.last_hidden_state  # type: ignore[attr-defined]
            wanted = mask[:, 1:]
            states, targets = whole[wanted], ids[:, 1:][wanted]  # (N, D or V), (N,)
            logprobs, greedy = torch.zeros_like(wanted, dtype=torch.float32), torch.zeros_like(wanted)
            every = max(1, LOGITS_BYTES // (4 * self.model.vocabulary))
            pieces = [
                _token_scores(self._logits(states[at : at + every]), targets[at : at + every])
                for at in range(0, states.shape[0], every)
            ]
            if pieces:
                logprobs[wanted] = torch.cat([piece[0] for piece in pieces])
                greedy[wanted] = torch.cat([piece[1] for piece in pieces])
        return TokenScores(logprobs=logprobs.cpu().numpy(), greedy=greedy.cpu().numpy())

    def _logits(self, read: Tensor) -> Tensor:
        """(..., D or V) -> (..., V) in fp32."""
        return read.float() if self._project is None else self._project(read.float())

    def _next(self, read: Tensor) -> Floats32:
        return _numpy(self._logits(read))


def _projection(model: Model) -> Callable[[Tensor], Tensor] | None:
    """Hidden states to next-token logits, in fp32; None where the model does more than that (scales, caps or biases
    its logits), and so has to make them itself.
    """
    layer = model.hf.get_output_embeddings() if model.card.kind == "causal" else None  # type: ignore[operator]
    if not isinstance(layer, nn.Linear):
        return None
    ids = torch.arange(3)[None] % model.card.vocabulary
    mask = torch.ones_like(ids, dtype=torch.bool)
    with torch.inference_mode():
        own = model.hf(**model.backbone.inputs(ids, mask), use_cache=False).logits
        if not torch.allclose(own, model.lm_logits(ids, mask), rtol=1e-4, atol=1e-4):
            return None
    # With bf16 this is a copy in fp32; without a cast it is the model's own tensor, and takes no memory.
    held = {name: value.detach() for name, value in layer.named_parameters()}
    return lambda hidden: functional.linear(hidden, held["weight"].to(hidden), held.get("bias"))


def _token_scores(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (N, V), targets (N,) -> log-probability of each target, and whether no token is more likely."""
    given = logits.gather(1, targets[:, None])[:, 0]
    return given - logits.logsumexp(1), given >= logits.amax(1)


def _pair_inputs(encoded: Tensor, mask: Tensor, ids: Tensor) -> dict[str, object]:
    """What an encoder-decoder is called with, once its source is encoded."""
    return {
        "encoder_outputs": BaseModelOutput(last_hidden_state=encoded),
        "attention_mask": mask.long(),
        "decoder_input_ids": ids,
    }


def _fork(cache: DecodingCache) -> DecodingCache:
    """The same cache, to be continued apart. Layers replace their tensors when they grow, so nothing is copied."""
    if isinstance(cache, EncoderDecoderCache):
        return EncoderDecoderCache(_fork_layers(cache.self_attention_cache), _fork_layers(cache.cross_attention_cache))
    return _fork_layers(cache)


def _fork_layers(cache: DynamicCache) -> DynamicCache:
    forked = copy.copy(cache)
    forked.layers = [copy.copy(layer) for layer in cache.layers]
    return forked


def _rows(batch: TokenBatch, part: slice) -> TokenBatch:
    return TokenBatch(ids=batch.ids[part], mask=batch.mask[part])


def _numpy(values: Tensor) -> Floats32:
    array: Floats32 = values.float().cpu().numpy()
    return array
