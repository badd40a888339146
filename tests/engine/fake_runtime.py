"""A toy model in NumPy, deterministic and with real state: an Elman network with fixed random weights.

hidden = tanh(hidden @ A + E[id]); next-token logits = hidden @ W. As an encoder-decoder, the encoder's last hidden
state is the decoder's first. It counts its calls, so that tests can see what was run.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from lmtasks.head import head_of
from lmtasks.records import (
    Floats,
    Floats32,
    HeadSpec,
    Ints,
    ModelCard,
    RuntimeCard,
    TokenBatch,
    TokenScores,
    TokenTargets,
    softmax_log,
)
from lmtasks.runtime.base import NOTHING_SHARED, DecodingState, Runtime, Sharing
from lmtasks.runtime.memory import OutOfMemory

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
    cells: int = 0
    """Places where next-token logits were made for scoring."""
    joined: int = 0
    """Rows that were read into slots while others were being written."""
    refused: int = 0
    """Calls that did not fit."""


class FakeRuntime(Runtime):
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
        sharing: Sharing | None = None,
        keeps_slots: bool = True,
        most_tokens: int = 1 << 30,
        callers: int = 1,
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
        self.card = RuntimeCard(
            runtime="native", version="1", device="cpu", precision="fp32", threads=1, size_bytes=0, callers=callers
        )
        self.calls = Calls()
        self._embed = random.normal(size=(vocabulary, WIDTH))
        self._again = random.normal(size=(WIDTH, WIDTH)) / np.sqrt(WIDTH)
        self._out = random.normal(size=(WIDTH, vocabulary)) / np.sqrt(WIDTH) * sharpness
        self._out_heads = {
            head.name: random.normal(size=(WIDTH, head_of(head).outputs(head))) * sharpness for head in heads
        }
        self._start = start
        self._banned = list(banned)
        everything = Sharing(longest_row=max_length, prefix=True) if kind == "causal" else NOTHING_SHARED
        self._sharing = everything if sharing is None else sharing
        self.most_tokens = most_tokens
        self._keeps_slots = keeps_slots

    @property
    def sharing(self) -> Sharing:
        return self._sharing

    def predict(self, head: str, batch: TokenBatch) -> Floats32:
        hidden = self._read(batch, np.zeros((len(batch.ids), WIDTH)))
        spec = next(spec for spec in self.model.heads if spec.name == head)
        out = self._out_heads[head]
        if not head_of(spec).per_token:
            weights = batch.mask / batch.mask.sum(axis=1, keepdims=True)
            pooled: Floats = (hidden * weights[:, :, None]).sum(axis=1)
            return (pooled @ out).astype(np.float32)
        return (hidden @ out).astype(np.float32)

    def score(
        self,
        batch: TokenBatch,
        targets: TokenTargets,
        *,
        subtree_end: Ints | None = None,
        prefix_state: DecodingState | None = None,
        source: TokenBatch | None = None,
        source_rows: Ints | None = None,
    ) -> TokenScores:
        self.fit(*batch.ids.shape)
        first = np.zeros((len(batch.ids), WIDTH))
        if source is not None:
            assert source_rows is not None
            first = self._last(source)[source_rows]
        if prefix_state is not None:
            assert self.sharing.prefix
            first = np.repeat(hidden_of(prefix_state), len(batch.ids), axis=0)
        hidden = self._read(batch, first) if subtree_end is None else self._read_trees(batch, first, subtree_end)
        cells = set(zip(targets.rows.tolist(), targets.columns.tolist(), strict=True))
        assert all(batch.mask[cell] for cell in cells)
        self.calls.cells += len(cells)
        logits = self._logits(hidden[targets.rows, targets.columns])
        return TokenScores(
            logprobs=np.take_along_axis(softmax_log(logits), targets.tokens[:, None], axis=1)[:, 0].astype(np.float32),
            greedy=logits.argmax(axis=1) == targets.tokens,
        )

    def prefill(self, batch: TokenBatch) -> "tuple[FakeState, Floats32]":
        self.fit(*batch.ids.shape)
        hidden = self._last(batch)
        if self.model.kind == "encoder-decoder":
            return self._feed(hidden, np.full(len(hidden), self._start))
        return FakeState(hidden), self._logits(hidden)

    def step(self, state: DecodingState, ids: Ints) -> "tuple[FakeState, Floats32]":
        hidden = hidden_of(state)
        assert len(ids) == len(hidden)
        self.fit(len(ids), 1)
        self.calls.steps.append(len(ids))
        return self._feed(hidden, ids)

    def reorder(self, state: DecodingState, rows: Ints) -> "FakeState":
        self.calls.reorders += 1
        return FakeState(hidden_of(state)[rows])

    def slots(self, *, rows: int, length: int) -> "FakeSlots | None":
        return FakeSlots(self, rows=rows, length=length) if self._keeps_slots else None

    def free_bytes(self) -> int | None:
        return None

    def fit(self, rows: int, columns: int) -> None:
        """Memory ends at `most_tokens`."""
        if rows * columns > self.most_tokens:
            self.calls.refused += 1
            raise OutOfMemory(f"memory ran out on {rows} rows of {columns} tokens.")

    def _feed(self, hidden: Floats, ids: Ints) -> "tuple[FakeState, Floats32]":
        after: Floats = np.tanh(hidden @ self._again + self._embed[ids])
        return FakeState(after), self._logits(after)

    def _logits(self, hidden: Floats) -> Floats32:
        logits: Floats32 = (hidden @ self._out).astype(np.float32)
        logits[..., self._banned] = -np.inf
        return logits

    def _last(self, batch: TokenBatch) -> Floats:
        hidden = self._read(batch, np.zeros((len(batch.ids), WIDTH)))
        return hidden[np.arange(len(hidden)), [int(np.flatnonzero(row)[-1]) for row in batch.mask]]

    def _read(self, batch: TokenBatch, state: Floats) -> Floats:
        """(B, T, D); padding leaves the state as it is."""
        assert batch.ids.shape[1] <= self.model.max_length_tokens
        self.calls.batches.append((int(batch.ids.shape[0]), int(batch.ids.shape[1])))
        self.calls.rows += [tuple(ids[mask].tolist()) for ids, mask in zip(batch.ids, batch.mask, strict=True)]
        hidden = []
        for column in range(batch.ids.shape[1]):
            after = np.tanh(state @ self._again + self._embed[batch.ids[:, column]])
            state = np.where(batch.mask[:, column, None], after, state)
            hidden.append(state)
        return np.stack(hidden, axis=1)

    def _read_trees(self, batch: TokenBatch, state: Floats, subtree_end: Ints) -> Floats:
        """(B, T, D): each token continues the last one that it sees."""
        self.calls.batches.append((int(batch.ids.shape[0]), int(batch.ids.shape[1])))
        self.calls.rows += [tuple(ids[mask].tolist()) for ids, mask in zip(batch.ids, batch.mask, strict=True)]
        hidden = np.zeros((*batch.ids.shape, WIDTH))
        for row, length in enumerate(batch.mask.sum(axis=1).tolist()):
            assert length <= self.sharing.longest_row
            for column in range(length):
                seen = np.flatnonzero(subtree_end[row, :column] > column)
                before = hidden[row, seen[-1]] if len(seen) else state[row]
                hidden[row, column] = np.tanh(before @ self._again + self._embed[batch.ids[row, column]])
        return hidden


@dataclass(frozen=True)
class FakeState(DecodingState):
    """The hidden state of each row, (B, D)."""

    hidden: Floats


def hidden_of(state: DecodingState) -> Floats:
    assert isinstance(state, FakeState)
    return state.hidden


class FakeSlots:
    """See `lmtasks.runtime.base.Slots`."""

    def __init__(self, runtime: FakeRuntime, *, rows: int, length: int) -> None:
        self.joins = runtime.model.kind == "causal"
        self._runtime = runtime
        self._rows, self._length = rows, length
        self._hidden: Floats = np.zeros((0, WIDTH))
        self._lengths: list[int] = []

    def fill(self, batch: TokenBatch) -> Floats32:
        assert self.joins or not len(self._hidden)
        assert len(self._hidden) + len(batch.ids) <= self._rows
        self._runtime.calls.joined += len(batch.ids) if len(self._hidden) else 0
        state, logits = self._runtime.prefill(batch)
        self._hidden = np.concatenate([self._hidden, state.hidden])
        self._lengths += batch.mask.sum(axis=1).tolist() if self.joins else [1] * len(state.hidden)
        assert max(self._lengths) <= self._length
        return logits

    def step(self, ids: Ints) -> Floats32:
        self._runtime.fit(len(ids), 8)
        state, logits = self._runtime.step(FakeState(self._hidden), ids)
        self._hidden = state.hidden
        self._lengths = [length + 1 for length in self._lengths]
        assert max(self._lengths) <= self._length
        return logits

    def leave(self, place: int) -> None:
        self._hidden[place] = self._hidden[-1]
        self._hidden = self._hidden[:-1].copy()
        self._lengths[place] = self._lengths[-1]
        self._lengths.pop()
