"""The driver of the emitted graphs of a causal model. Neither torch nor transformers is imported.

A state names rows of a cache, and how many of their tokens are its own. A step writes behind them, in place, where
nobody else does: states that were continued once share one cache. A state that is continued a second time gets rows of
its own; rows that beam search repeats are copied into the places of those that it dropped, all others lie still.

Slots have a cache of their own. Rows stand left-aligned, each with its own length. A row that leaves is replaced by the
last one, so that the rows in use are always the first ones.

Axes: B batch, T time, R rows of a cache, P tokens before, S target tokens, V vocabulary.
"""

from weakref import WeakSet

import numpy as np

from lmtasks.records import Bools, Floats32, Ints, TokenBatch
from lmtasks.runtime.align import align
from lmtasks.runtime.base import DecodingState, Sharing
from lmtasks.runtime.driver import ScoreInput
from lmtasks.runtime.memory import memory_errors
from lmtasks.runtime.onnx.decoder import Caches, DecoderStepper, blocks, cache_shapes, read_prompts
from lmtasks.runtime.onnx.graphs import BoundGraph, GraphDriver, Graphs
from lmtasks.runtime.onnx.packed_rows import Packed, one_row, plain_rows, row_groups

INTEGER = frozenset({"int8", "int8-tensor"})
INTEGER_PAIRS = 700
"""Pairs as dear as a token (`Sharing`) where products are of integers, and attention is not: a third of fp32's.
4-choice questions, 30M Llama shape: 5 % faster than with fp32's."""
LOGITS_BYTES = 128 * 2**20
"""So much memory may the logits of one call take inside the graph while scoring; further rows are another call."""
PACKED_TOKENS = 512
"""So many tokens stand in one row behind a state: each looks at all of them, if only to see that it must not."""


class CausalState(DecodingState):
    """Which row of a shared cache each row is, and how many of its tokens are its own.

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


class OnnxCausalRuntime(GraphDriver[CausalState]):
    """A package of an emitted causal model in ONNX Runtime.

    Args:
        graphs: of the package.
    """

    def __init__(self, graphs: Graphs) -> None:
        super().__init__(graphs, state_type=CausalState, longest_prompt_tokens=graphs.model.max_length_tokens)

    @property
    def sharing(self) -> Sharing:
        """See `Runtime`: what each column sees, and where it stands, are inputs of the score graph."""
        pairs = INTEGER_PAIRS if self.card.precision in INTEGER else Sharing.pairs_per_token
        return Sharing(longest_row=self.model.max_length_tokens, prefix=True, pairs_per_token=pairs)

    def slots(self, *, rows: int, length: int) -> "OnnxCausalSlots":
        """See `Runtime`."""
        return OnnxCausalSlots(self._graphs, rows=rows, length=length)

    def _score(self, given: ScoreInput[CausalState]) -> tuple[Floats32, Bools]:
        """Rows go through the graph as many at a time as `LOGITS_BYTES` allow."""
        self._check_lengths(given.lengths)
        targets, prefix, lengths = given.targets, given.prefix_state, given.lengths
        logprobs = np.zeros(len(targets.rows), dtype=np.float32)
        greedy = np.zeros(len(targets.rows), dtype=np.bool_)
        before = 0 if prefix is None else int(prefix.lengths[0])
        places = np.zeros(given.rows.ids.shape, dtype=np.bool_)
        places[targets.rows, targets.columns] = True
        shares = places.sum(axis=1) * (4 * self.model.vocabulary / LOGITS_BYTES)
        if prefix is not None:
            # A row of the graph may not be longer than a row of the model, wherever its tokens stand.
            shares = np.maximum(shares, lengths / min(PACKED_TOKENS, self.model.max_length_tokens))
        for part in row_groups(shares):
            (mine,) = np.nonzero((targets.rows >= part.start) & (targets.rows < part.stop))
            if not len(mine):
                continue
            ids = given.rows.ids[part]
            trees = None if given.subtree_end is None else given.subtree_end[part]
            if prefix is None:
                packed, starts = plain_rows(ids, lengths[part], trees), np.arange(len(ids)) * ids.shape[1]
            else:
                packed, starts = one_row(ids, lengths[part], trees, before=before)
            cells = starts[targets.rows[mine] - part.start] + targets.columns[mine]
            logprobs[mine], greedy[mine] = self._score_packed(packed, cells, targets.tokens[mine], prefix)
        return logprobs, greedy

    def _prefill(self, prompts: TokenBatch, lengths: Ints) -> tuple[CausalState, Floats32]:
        room = min(blocks(int(lengths.max()) + 1), self.model.max_length_tokens)
        caches = Caches(cache_shapes(self._graphs), rows=len(lengths), columns=room)
        logits = read_prompts(self._graphs, caches, prompts, first=0)
        return CausalState(SharedRows(caches, lengths), places=np.arange(len(lengths)), lengths=lengths), logits

    def _step(self, state: CausalState, ids: Ints) -> tuple[CausalState, Floats32]:
        longest = int(state.lengths.max())
        if longest >= self.model.max_length_tokens:
            raise self._too_long(longest + 1)
        state = self._in_own_rows(state)
        stepper = self._stepper(state.shared, count=len(ids), longest=longest)
        order = np.argsort(state.places)
        stepper.place(state.places, lengths=state.lengths[order])
        logits = stepper.step(ids[order])
        lengths = state.lengths + 1
        state.shared.lengths[state.places] = lengths
        return CausalState(state.shared, places=state.places, lengths=lengths), logits

    def _reorder(self, state: CausalState, rows: Ints) -> CausalState:
        """Nothing is moved before the next step."""
        return CausalState(state.shared, places=state.places[rows], lengths=state.lengths[rows])

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

    def _in_own_rows(self, state: CausalState) -> CausalState:
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

    def _score_packed(
        self, packed: Packed, cells: Ints, tokens: Ints, prefix: CausalState | None
    ) -> tuple[Floats32, Bools]:
        rows, columns = packed.ids.shape
        if int(packed.positions.max()) >= self.model.max_length_tokens:
            raise self._too_long(int(packed.positions.max()) + 1)
        before = 0 if prefix is None else int(prefix.lengths[0])
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
        if prefix is None:
            past = Caches(cache_shapes(self._graphs), rows=rows, columns=0).arrays
        else:
            place = int(prefix.places[0])
            past = {name: array[place : place + 1] for name, array in prefix.shared.caches.arrays.items()}
        bound.give({f"past_{name}": array for name, array in past.items()})
        bound.run()
        return logprobs, greedy


class OnnxCausalSlots:
    """Places for rows that come and go at any time; see `Slots`.

    Args:
        rows: there is room for so many.
        length: of the longest row, prompt and answer.

    Raises:
        OutOfMemory: there is no room for them.
    """

    joins = True

    def __init__(self, graphs: Graphs, *, rows: int, length: int) -> None:
        self._graphs = graphs
        self._most = length
        self._rows = rows
        self._caches = Caches(cache_shapes(graphs), rows=0, columns=0)
        self._lengths: list[int] = []
        """Of the rows in use, as they were when `_stepper` was made."""
        self._stepper: DecoderStepper | None = None
        """For the rows in use."""

    def fill(self, batch: TokenBatch) -> Floats32:
        """See `Slots`."""
        right = align(batch, side="right").batch
        lengths: list[int] = right.mask.sum(axis=1).tolist()
        self._take_over_lengths()
        first = len(self._lengths)
        after, longest = first + len(lengths), max(lengths)
        if after > self._rows or longest > self._most:
            raise ValueError(f"{self._rows} places of {self._most} tokens cannot take {len(lengths)} more")
        with memory_errors(f"reading {len(lengths)} prompts of {longest} tokens"):
            self._reserve(after, min(self._most, blocks(longest + 1)))
            logits = read_prompts(self._graphs, self._caches, right, first=first)
        self._lengths += lengths
        return logits

    def step(self, ids: Ints) -> Floats32:
        """See `Slots`."""
        stepper = self._stepper
        if stepper is None or stepper.longest >= self._caches.columns:
            stepper = self._next_stepper()
        return stepper.step(ids)

    def leave(self, place: int) -> None:
        """See `Slots`."""
        self._take_over_lengths()
        last = self._lengths.pop()
        if place != len(self._lengths):
            self._caches.move(len(self._lengths), place, columns=last)
            self._lengths[place] = last

    def _next_stepper(self) -> DecoderStepper:
        self._take_over_lengths()
        longest = max(self._lengths)
        if longest == self._most:
            raise ValueError(f"a place holds {self._most} tokens")
        with memory_errors(f"continuing {len(self._lengths)} rows"):
            self._reserve(len(self._lengths), longest + 1)
            self._stepper = DecoderStepper(self._graphs, self._caches, lengths=np.array(self._lengths))
        return self._stepper

    def _take_over_lengths(self) -> None:
        """Rows will change: take over what was appended to them."""
        if self._stepper is not None:
            self._lengths = self._stepper.lengths.tolist()
            self._stepper = None

    def _reserve(self, rows: int, columns: int) -> None:
        if not self._caches.fits(rows=rows, columns=columns):
            self._caches.grow(rows=rows, columns=columns, most=self._most, kept=len(self._lengths))


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
