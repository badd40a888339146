"""The driver over arrays, for models that are fitted at once: n-grams, linear classifiers. No torch.

A state is where each row stands in the n-gram model, (B, K): the same room however long a row is.

Axes: B batch, T time, S target tokens, K lengths of context, V vocabulary, C classes.
"""

from dataclasses import dataclass

import numpy as np

from lmtasks.errors import UsageError
from lmtasks.export.package import is_package
from lmtasks.model.closed_form import FITTED, FittedModel, Ngram, fitted_family, load_fitted
from lmtasks.records import Bools, Floats32, HeadSpec, Ints, RuntimeCard, TokenBatch
from lmtasks.runtime.base import DecodingState, RuntimeInfo, RuntimeOpener, RuntimeRequest, weight_bytes
from lmtasks.runtime.driver import FixedStateDriver, ScoreInput
from lmtasks.settings.runtimes import RUNTIMES
from lmtasks.version import __version__

AS_LIKELY = 1e-5
"""Log-probabilities nearer than this are equal: sums of back-off weights differ in their last bits."""


@dataclass(frozen=True)
class NgramState(DecodingState):
    """Where each row stands in an n-gram model."""

    contexts: Ints
    """(B, K)"""


class NativeRuntime(FixedStateDriver[NgramState]):
    """A model that is fitted at once.

    Args:
        model: what computes.
        size_bytes: of its files, for the card.
    """

    def __init__(self, model: FittedModel, *, size_bytes: int = 0) -> None:
        card = RuntimeCard(
            runtime="native",
            version=__version__,
            device="cpu",
            precision="fp32",
            threads=1,
            size_bytes=size_bytes,
        )
        super().__init__(model.card, card, state_type=NgramState)
        self._heads = model.heads
        self._text = model.text

    @property
    def predicts_tokens(self) -> bool:
        """See `Driver`."""
        return self._text is not None

    def join(self, first: NgramState, second: NgramState) -> NgramState:
        """The rows of two states."""
        return NgramState(np.concatenate([first.contexts, second.contexts]))

    def close(self) -> None:
        """See `Runtime`."""
        del self._heads, self._text

    def _predict(self, spec: HeadSpec, batch: TokenBatch) -> Floats32:
        rows = [ids[mask] for ids, mask in zip(batch.ids, batch.mask, strict=True)]
        return self._heads[spec.name].logits(rows).astype(np.float32)

    def _score(self, given: ScoreInput[NgramState]) -> tuple[Floats32, Bools]:
        model, targets = self._writer, given.targets
        before = model.start(1) if given.prefix_state is None else given.prefix_state.contexts
        states = model.read(np.repeat(before, len(given.rows.ids), axis=0), given.rows.ids)
        here = states[targets.rows, targets.columns]
        logprobs = model.score(here, targets.tokens)
        return logprobs, logprobs >= model.best(here) - AS_LIKELY

    def _prefill(self, prompts: TokenBatch, lengths: Ints) -> tuple[NgramState, Floats32]:
        states = self._writer.read(self._writer.start(len(lengths)), prompts.ids)
        last = states[np.arange(len(states)), lengths - 1]
        return NgramState(last), self._writer.next_logprobs(last)

    def _step(self, state: NgramState, ids: Ints) -> tuple[NgramState, Floats32]:
        after = self._writer.read(state.contexts, ids[:, None])[:, 0]
        return NgramState(after), self._writer.next_logprobs(after)

    def _reorder(self, state: NgramState, rows: Ints) -> NgramState:
        return NgramState(state.contexts[rows])

    @property
    def _writer(self) -> Ngram:
        assert self._text is not None  # asked for tokens, which it predicts
        return self._text


class NativeOpener(RuntimeOpener):
    """The runtime `native`."""

    def info(self) -> RuntimeInfo:
        """See `RuntimeOpener`."""
        return RuntimeInfo(
            name="native",
            about=RUNTIMES["native"].about,
            version=__version__,
            devices=RUNTIMES["native"].devices,
            precisions=("fp32",),
        )

    def open(self, request: RuntimeRequest) -> NativeRuntime:
        """See `RuntimeOpener`."""
        if fitted_family(request.ref) is None:
            raise UsageError(
                f"{request.ref} is no model of {', '.join(FITTED)}, and native runs no others: use --runtime "
                f"{'onnx' if is_package(request.ref) else 'torch'}."
            )
        self.check(device=request.device, precision=request.precision)
        return NativeRuntime(load_fitted(request.ref), size_bytes=weight_bytes(request.ref))
