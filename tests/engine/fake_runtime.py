"""A toy model in NumPy, deterministic and with real state: an Elman network with fixed random weights.

hidden = tanh(hidden @ A + E[id]); next-token logits = hidden @ W. As an encoder-decoder, the encoder's last hidden
state is the decoder's first. It counts its calls, so that tests can see what was run.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from lmtasks.records import (
    Floats,
    Floats32,
    HeadSpec,
    Ints,
    ModelCard,
    RuntimeCard,
    TokenBatch,
    TokenScores,
    softmax_log,
)

WIDTH = 16
SHARPNESS = 3.0


@dataclass
class Calls:
    """What was asked of the runtime."""

    batches: list[tuple[int, int]] = field(default_factory=list)
    """Shape of every batch of ids."""
    steps: list[int] = field(default_factory=list)
    """Rows of every step."""
    reorders: int = 0
    rows: list[tuple[int, ...]] = field(default_factory=list)
    """Every row that was read, without padding."""


class FakeRuntime:
    """See above. `banned` tokens are never the next one."""

    def __init__(
        self,
        *,
        vocabulary: int,
        kind: str = "causal",
        heads: Sequence[HeadSpec] = (),
        max_length: int = 64,
        seed: int = 0,
        start: int = 0,
        banned: Sequence[int] = (),
        sharpness: float = SHARPNESS,
    ) -> None:
        random = np.random.default_rng(seed)
        self.model = ModelCard(
            name="fake",
            family="elman",
            kind=kind,  # type: ignore[arg-type]
            adaptation="prompt",
            parameters=0,
            weights_hash=f"{seed:016x}",
            tokenizer_hash="",
            max_length_tokens=max_length,
            vocabulary=vocabulary,
            heads=tuple(heads),
        )
        self.card = RuntimeCard(runtime="native", version="1", device="cpu", precision="fp32", threads=1, size_bytes=0)
        self.calls = Calls()
        self._embed = random.normal(size=(vocabulary, WIDTH))
        self._again = random.normal(size=(WIDTH, WIDTH)) / np.sqrt(WIDTH)
        self._out = random.normal(size=(WIDTH, vocabulary)) / np.sqrt(WIDTH) * sharpness
        self._out_heads = {head.name: random.normal(size=(WIDTH, len(head.labels) or 2)) * sharpness for head in heads}
        self._start = start
        self._banned = list(banned)

    def predict(self, head: str, batch: TokenBatch) -> Floats32:
        hidden = self._read(batch, np.zeros((len(batch.ids), WIDTH)))
        spec = next(spec for spec in self.model.heads if spec.name == head)
        out = self._out_heads[head]
        if spec.kind == "classification":
            weights = batch.mask / batch.mask.sum(axis=1, keepdims=True)
            pooled: Floats = (hidden * weights[:, :, None]).sum(axis=1)
            return (pooled @ out).astype(np.float32)
        return (hidden @ out).astype(np.float32)

    def score(self, batch: TokenBatch, source: TokenBatch | None = None) -> TokenScores:
        first = self._last(source) if source is not None else np.zeros((len(batch.ids), WIDTH))
        # As promised in runtime.base: a row's last token is scored, never read.
        hidden = self._read(TokenBatch(ids=batch.ids[:, :-1], mask=batch.mask[:, :-1]), first)
        assert hidden.shape[1] <= self.model.max_length_tokens
        logits = self._logits(hidden)
        logprobs = softmax_log(logits)
        following = batch.ids[:, 1:, None]
        return TokenScores(
            logprobs=np.take_along_axis(logprobs, following, axis=2)[:, :, 0].astype(np.float32),
            greedy=logits.argmax(axis=2) == batch.ids[:, 1:],
        )

    def prefill(self, batch: TokenBatch) -> tuple[Floats, Floats32]:
        state = self._last(batch)
        if self.model.kind == "encoder-decoder":
            return self._feed(state, np.full(len(state), self._start))
        return state, self._logits(state)

    def step(self, state: Floats, ids: Ints) -> tuple[Floats, Floats32]:
        assert len(ids) == len(state)
        self.calls.steps.append(len(ids))
        return self._feed(state, ids)

    def reorder(self, state: Floats, rows: Ints) -> Floats:
        self.calls.reorders += 1
        return state[rows]

    def close(self) -> None:
        pass

    def _feed(self, state: Floats, ids: Ints) -> tuple[Floats, Floats32]:
        after: Floats = np.tanh(state @ self._again + self._embed[ids])
        return after, self._logits(after)

    def _logits(self, hidden: Floats) -> Floats32:
        logits: Floats32 = (hidden @ self._out).astype(np.float32)
        logits[..., self._banned] = -np.inf
        return logits

    def _last(self, batch: TokenBatch) -> Floats:
        hidden = self._read(batch, np.zeros((len(batch.ids), WIDTH)))
        return hidden[np.arange(len(hidden)), [int(np.flatnonzero(row)[-1]) for row in batch.mask]]

    def _read(self, batch: TokenBatch, state: Floats) -> Floats:
        """(B, T, D); padding leaves the state as it is."""
        self.calls.batches.append((int(batch.ids.shape[0]), int(batch.ids.shape[1])))
        self.calls.rows += [tuple(ids[mask].tolist()) for ids, mask in zip(batch.ids, batch.mask, strict=True)]
        hidden = []
        for column in range(batch.ids.shape[1]):
            after = np.tanh(state @ self._again + self._embed[batch.ids[:, column]])
            state = np.where(batch.mask[:, column, None], after, state)
            hidden.append(state)
        return np.stack(hidden, axis=1)
