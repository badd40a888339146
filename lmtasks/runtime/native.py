"""The primitives over arrays, for models that are fitted at once: n-grams, linear classifiers. No torch.

A state is where each row stands in the n-gram model, (B, K): the same room however long a row is.

Axes: B batch, T time, S wanted tokens, K lengths of context, V vocabulary, C classes.
"""

import numpy as np

from lmtasks.errors import UsageError, unknown
from lmtasks.model.closed_form import FittedModel, Ngram
from lmtasks.records import Floats32, Ints, RuntimeCard, TokenBatch, TokenScores, TokenTargets
from lmtasks.runtime.align import align
from lmtasks.runtime.base import NOTHING_SHARED, Sharing, Slots
from lmtasks.runtime.memory import free_host_bytes
from lmtasks.runtime.state_slots import StateSlots
from lmtasks.version import __version__

AS_LIKELY = 1e-5
"""Log-probabilities nearer than this are equal: sums of back-off weights differ in their last bits."""


class NativeRuntime:
    """A model that is fitted at once.

    Args:
        model: what computes.
        size_bytes: of its files, for the card.
    """

    def __init__(self, model: FittedModel, *, size_bytes: int = 0) -> None:
        self.model = model.card
        self.card = RuntimeCard(
            runtime="native",
            version=__version__,
            device="cpu",
            precision="fp32",
            threads=1,
            size_bytes=size_bytes,
        )
        self._heads = model.heads
        self._text = model.text

    @property
    def sharing(self) -> Sharing:
        """See `Runtime`. A state stands for everything before it; rows do not branch."""
        return NOTHING_SHARED if self._text is None else Sharing(longest_row=0, prefix=True)

    def predict(self, head: str, batch: TokenBatch) -> Floats32:
        """See `Runtime`."""
        specs = {spec.name: spec for spec in self.model.heads}
        if head not in specs:
            raise unknown("head", head, specs)
        if head not in self._heads:
            raise UsageError(f"head {head!r} of {self.model.name} writes text; it has no logits to predict with.")
        rows = [ids[mask] for ids, mask in zip(batch.ids, batch.mask, strict=True)]
        return self._heads[head].logits(rows).astype(np.float32)

    def score(
        self,
        batch: TokenBatch,
        wanted: TokenTargets,
        *,
        reach: Ints | None = None,
        behind: Ints | None = None,
        source: TokenBatch | None = None,
        source_rows: Ints | None = None,
    ) -> TokenScores:
        """See `Runtime`."""
        if reach is not None or source is not None or source_rows is not None:
            raise UsageError(
                f"{self.model.name} reads tokens one after the other; its rows have neither branches nor sources."
            )
        model = self._writer
        aligned = align(batch, side="right")
        before = model.start(1) if behind is None else behind
        states = model.read(np.repeat(before, len(batch.ids), axis=0), aligned.batch.ids)
        here = states[wanted.rows, aligned.columns_of(wanted)]
        logprobs = model.score(here, wanted.tokens)
        return TokenScores(logprobs=logprobs, greedy=logprobs >= model.best(here) - AS_LIKELY)

    def prefill(self, batch: TokenBatch) -> tuple[Ints, Floats32]:
        """See `Runtime`."""
        aligned = align(batch, side="right").batch
        states = self._writer.read(self._writer.start(len(batch.ids)), aligned.ids)
        last = states[np.arange(len(states)), aligned.mask.sum(axis=1) - 1]
        return last, self._writer.next_logprobs(last)

    def step(self, state: Ints, ids: Ints) -> tuple[Ints, Floats32]:
        """See `Runtime`."""
        after = self._writer.read(state, ids[:, None])[:, 0]
        return after, self._writer.next_logprobs(after)

    def reorder(self, state: Ints, rows: Ints) -> Ints:
        """See `Runtime`."""
        return state[rows]

    def join(self, first: Ints, second: Ints) -> Ints:
        """The rows of two states."""
        return np.concatenate([first, second])

    def slots(self, *, rows: int, length: int) -> Slots | None:
        """See `Runtime`."""
        del length
        return None if self._text is None else StateSlots(self, rows=rows, joins=True)

    def beside(self) -> "NativeRuntime":
        """See `Runtime`."""
        return self

    def free_bytes(self) -> int:
        """See `Runtime`."""
        return free_host_bytes()

    def close(self) -> None:
        """See `Runtime`."""
        del self._heads, self._text

    @property
    def _writer(self) -> Ngram:
        if self._text is None:
            raise UsageError(f"{self.model.name} ({self.model.family}) answers by heads alone; it predicts no tokens.")
        return self._text
