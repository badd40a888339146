"""The primitives over the emitted graphs of a causal model. Neither torch nor transformers is imported.

A state names rows of a cache, and how many of their tokens are its own. A step writes behind them, in place, where
nobody else does: states that were continued once share one cache. A state that is continued a second time gets rows of
its own; rows that beam search repeats are copied into the places of those that it dropped, all others lie still.

Axes: B batch, T time, R rows of a cache, P tokens before, S wanted tokens, V vocabulary.
"""

from weakref import WeakSet

import numpy as np

from lmtasks.errors import UsageError
from lmtasks.records import Bools, Floats32, Ints, TokenBatch, TokenScores, TokenTargets
from lmtasks.runtime.align import align
from lmtasks.runtime.base import Sharing
from lmtasks.runtime.batch_limits import check_batch, too_long
from lmtasks.runtime.memory import free_host_bytes, memory_errors
from lmtasks.runtime.onnx.binding import BoundGraph
from lmtasks.runtime.onnx.caches import Caches, blocks, cache_shapes
from lmtasks.runtime.onnx.decoder import DecoderStepper, read_prompts
from lmtasks.runtime.onnx.graphs import Graphs
from lmtasks.runtime.onnx.packed_rows import Packed, one_row, plain_rows, row_groups
from lmtasks.runtime.onnx.slots import OnnxSlots

INTEGER = frozenset({"int8", "int8-tensor"})
INTEGER_PAIRS = 700
"""Pairs as dear as a token (`Sharing`) where products are of integers, and attention is not: a third of fp32's.
4-choice questions, 30M Llama shape: 5 % faster than with fp32's."""
LOGITS_BYTES = 128 * 2**20
"""So much memory may the logits of one call take inside the graph while scoring; further rows are another call."""
PACKED_TOKENS = 512
"""So many tokens stand in one row behind a state: each looks at all of them, if only to see that it must not."""


class CausalState:
    """Where each row stands. What it names is not changed by later steps.

    Args:
        shared: the cache.
        places: (B,): which row of the cache each one is. Changed where rows are moved.
        lengths: (B,): so many of its tokens are this state's.
    """

    def __init__(self, shared: "SharedRows", *, places: Ints, lengths: Ints) -> None:
        self.shared, self.places, self.lengths = shared, places, lengths
        shared.states.add(self)


class SharedRows:
    """A cache that states share, and how far its rows are written.

    Args:
        caches: with as many rows as there are lengths.
        lengths: (R,)
    """

    def __init__(self, caches: Caches, lengths: Ints) -> None:
        self.caches = caches
        self.lengths = lengths.copy()
        self.states: WeakSet[CausalState] = WeakSet()
        self.stepper: DecoderStepper | None = None

    def is_last(self, state: CausalState) -> bool:
        """Are the state's rows the first ones of the cache, each once, and did nobody write behind them?"""
        count = len(state.places)
        return (
            len(np.unique(state.places)) == count
            and int(state.places.max()) < count
            and np.array_equal(self.lengths[state.places], state.lengths)
        )


class OnnxCausalRuntime:
    """A package of an emitted causal model in ONNX Runtime.

    Args:
        graphs: of the package.
    """

    def __init__(self, graphs: Graphs) -> None:
        self._graphs = graphs
        self.model = graphs.model
        self.card = graphs.card

    @property
    def sharing(self) -> Sharing:
        """See `Runtime`: the score graph is told what each column sees, and where it stands."""
        pairs = INTEGER_PAIRS if self.card.precision in INTEGER else Sharing.pairs_per_token
        return Sharing(longest_row=self.model.max_length_tokens, prefix=True, pairs_per_token=pairs)

    def predict(self, head: str, batch: TokenBatch) -> Floats32:
        """See `Runtime`."""
        check_batch(batch, self.model, most=self.model.max_length_tokens)
        return self._graphs.predict(head, batch)

    def score(
        self,
        batch: TokenBatch,
        wanted: TokenTargets,
        *,
        reach: Ints | None = None,
        behind: CausalState | None = None,
        source: TokenBatch | None = None,
        source_rows: Ints | None = None,
    ) -> TokenScores:
        """See `Runtime`. Rows go through the graph as many at a time as `LOGITS_BYTES` allow."""
        if source is not None or source_rows is not None:
            raise UsageError(f"{self.model.name} is a causal model; it reads no source.")
        logprobs = np.zeros(len(wanted.rows), dtype=np.float32)
        greedy = np.zeros(len(wanted.rows), dtype=np.bool_)
        if not len(logprobs):
            return TokenScores(logprobs=logprobs, greedy=greedy)
        aligned = align(batch, side="right")
        columns = aligned.columns_of(wanted)
        lengths = aligned.batch.mask.sum(axis=1)
        before = 0 if behind is None else int(behind.lengths[0])
        check_batch(batch, self.model)
        places = np.zeros(aligned.batch.ids.shape, dtype=np.bool_)
        places[wanted.rows, columns] = True
        shares = places.sum(axis=1) * (4 * self.model.vocabulary / LOGITS_BYTES)
        if behind is not None:
            # A row of the graph may not be longer than a row of the model, wherever its tokens stand.
            shares = np.maximum(shares, lengths / min(PACKED_TOKENS, self.model.max_length_tokens))
        for part in row_groups(shares):
            (mine,) = np.nonzero((wanted.rows >= part.start) & (wanted.rows < part.stop))
            if not len(mine):
                continue
            ids = aligned.batch.ids[part]
            trees = None if reach is None else reach[part, : ids.shape[1]]
            with memory_errors(f"scoring {len(ids)} rows of {ids.shape[1]} tokens"):
                if behind is None:
                    packed, starts = plain_rows(ids, lengths[part], trees), np.arange(len(ids)) * ids.shape[1]
                else:
                    packed, starts = one_row(ids, lengths[part], trees, before=before)
                cells = starts[wanted.rows[mine] - part.start] + columns[mine]
                logprobs[mine], greedy[mine] = self._score(packed, cells, wanted.tokens[mine], behind)
        return TokenScores(logprobs=logprobs, greedy=greedy)

    def prefill(self, batch: TokenBatch) -> tuple[CausalState, Floats32]:
        """See `Runtime`."""
        check_batch(batch, self.model, most=self.model.max_length_tokens)
        right = align(batch, side="right").batch
        lengths = right.mask.sum(axis=1)
        room = min(blocks(int(lengths.max()) + 1), self.model.max_length_tokens)
        with memory_errors(f"reading {len(lengths)} prompts of {lengths.max()} tokens"):
            caches = Caches(cache_shapes(self._graphs), rows=len(lengths), columns=room)
            logits = read_prompts(self._graphs, caches, right, first=0)
        shared = SharedRows(caches, lengths)
        return CausalState(shared, places=np.arange(len(lengths)), lengths=lengths), logits

    def step(self, state: CausalState, ids: Ints) -> tuple[CausalState, Floats32]:
        """See `Runtime`."""
        longest = int(state.lengths.max())
        if longest >= self.model.max_length_tokens:
            raise too_long(longest + 1, self.model)
        with memory_errors(f"continuing {len(ids)} rows"):
            state = self._own(state)
            stepper = self._stepper(state.shared, count=len(ids), longest=longest)
        order = np.argsort(state.places)
        stepper.place(state.places, lengths=state.lengths[order])
        logits = stepper.step(ids[order])
        lengths = state.lengths + 1
        state.shared.lengths[state.places] = lengths
        return CausalState(state.shared, places=state.places, lengths=lengths), logits

    def reorder(self, state: CausalState, rows: Ints) -> CausalState:
        """See `Runtime`. Nothing is moved before the next step."""
        return CausalState(state.shared, places=state.places[rows], lengths=state.lengths[rows])

    def slots(self, *, rows: int, length: int) -> OnnxSlots:
        """See `Runtime`."""
        return OnnxSlots(self._graphs, rows=rows, length=length)

    def beside(self) -> "OnnxCausalRuntime":
        """See `Runtime`."""
        return OnnxCausalRuntime(self._graphs.beside())

    def free_bytes(self) -> int:
        """See `Runtime`."""
        return free_host_bytes()

    def close(self) -> None:
        """See `Runtime`."""
        self._graphs.close()

    def _stepper(self, shared: SharedRows, *, count: int, longest: int) -> DecoderStepper:
        """For a token behind each of the first `count` rows of a cache, the longest of `longest` tokens."""
        rows = shared.caches.rows
        if not shared.caches.fits(rows=rows, columns=longest + 1):
            shared.stepper = None
            shared.caches.grow(rows=rows, columns=longest + 1, most=self.model.max_length_tokens, kept=rows)
        if shared.stepper is None or len(shared.stepper.lengths) != count:
            shared.stepper = DecoderStepper(self._graphs, shared.caches, lengths=shared.lengths[:count])
        else:
            shared.stepper.renew()
        return shared.stepper

    def _own(self, state: CausalState) -> CausalState:
        """The same state over the first rows of a cache in which nobody else writes behind them."""
        shared, count = state.shared, len(state.places)
        if shared.is_last(state):
            return state
        if len(shared.states) == 1 and count <= shared.caches.rows:
            state.places = _rearranged(state)
            shared.lengths[state.places] = state.lengths
            return state
        longest = int(state.lengths.max())
        caches = shared.caches.picked(state.places, columns=longest, room=max(shared.caches.columns, longest))
        return CausalState(SharedRows(caches, state.lengths), places=np.arange(count), lengths=state.lengths)

    def _score(self, packed: Packed, cells: Ints, tokens: Ints, behind: CausalState | None) -> tuple[Floats32, Bools]:
        rows, columns = packed.ids.shape
        if int(packed.positions.max()) >= self.model.max_length_tokens:
            raise too_long(int(packed.positions.max()) + 1, self.model)
        before = 0 if behind is None else int(behind.lengths[0])
        wanted, index = np.unique(cells, return_inverse=True)
        logprobs, greedy = np.empty(len(tokens), dtype=np.float32), np.empty(len(tokens), dtype=np.bool_)
        bound = BoundGraph(self._graphs, "score")
        bound.take("logprob", logprobs)
        bound.take("greedy", greedy)
        bound.give(
            {
                "ids": packed.ids,
                "positions": packed.positions,
                "bias": packed.bias,
                "new": packed.new.astype(np.int32),
                "seqlens_k": (before + packed.new - 1).astype(np.int32),
                "total_sequence_length": np.array(before + columns, dtype=np.int32),
                "wanted": wanted,
                "index": index.reshape(-1),
                "targets": tokens,
            }
        )
        if behind is None:
            past = Caches(cache_shapes(self._graphs), rows=rows, columns=0).arrays
        else:
            place = int(behind.places[0])
            past = {name: array[place : place + 1] for name, array in behind.shared.caches.arrays.items()}
        bound.give({f"past_{name}": array for name, array in past.items()})
        bound.run()
        return logprobs, greedy


def _rearranged(state: CausalState) -> Ints:
    """Bring a state's rows to the first places of its cache: the first child of a row stays where it is; further ones,
    and rows behind the first places, are copied into places that are free.

    Returns:
        (B,): where each row is now.
    """
    count = len(state.places)
    places = np.full(count, -1, dtype=np.int64)
    kept: dict[int, int] = {}
    for row, place in enumerate(state.places.tolist()):
        if place < count and place not in kept:
            kept[place] = row
            places[row] = place
    free = iter([place for place in range(count) if place not in kept])
    for row, place in enumerate(state.places.tolist()):
        if places[row] < 0:
            places[row] = next(free)
            state.shared.caches.move(place, int(places[row]), columns=int(state.lengths[row]))
    return places
