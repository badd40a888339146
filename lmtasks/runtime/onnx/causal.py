"""The driver of the emitted graphs of a causal model. Neither torch nor transformers is imported.

A state names rows of a cache, and how many of their tokens are its own. A step writes behind them, in place, where
nobody else does: states that were continued once share one cache. A state that is continued a second time gets rows of
its own; rows that beam search repeats are copied into the places of those that it dropped, all others lie still.

Rows to score are handed to the graph with what each column sees, where it stands, and which places have targets:

>>> sees = tree_mask(np.array([[4, 4, 3, 4]]))  # tokens a b, then c and d behind b
>>> sees[0].astype(int).tolist()
[[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 0, 1]]
>>> sees.sum(axis=-1) - 1  # positions
array([[0, 1, 2, 2]])

Axes: B batch, T time, R rows of a cache, P tokens before, S target tokens, V vocabulary.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from weakref import WeakSet

import numpy as np

from lmtasks.records import Bools, Floats, Floats32, Ints, TokenBatch
from lmtasks.runtime.base import DecodingState, Sharing
from lmtasks.runtime.driver import ScoreInput
from lmtasks.runtime.onnx.decoder import CachedSlots, Caches, DecoderStepper, blocks, cache_shapes, read_prompts
from lmtasks.runtime.onnx.graphs import BoundGraph, GraphDriver, Graphs

SHUT = -1e30
"""Added to the score of a key that is not seen."""
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

    def slots(self, *, rows: int, length: int) -> CachedSlots:
        """See `Runtime`."""
        return CachedSlots(self._graphs, rows=rows, length=length)

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
        self, packed: "Packed", cells: Ints, tokens: Ints, prefix: CausalState | None
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


@dataclass(frozen=True, kw_only=True)
class Packed:
    """Inputs of the score graph."""

    ids: Ints
    """(B, T)"""
    positions: Ints
    """(B, T)"""
    bias: Floats32
    """(B, 1, T, P + T); (1, 1, T, P + T) where all rows are alike."""
    new: Ints
    """(B,): how many columns of each row are tokens."""


def tree_mask(subtree_end: Ints) -> Bools:
    """(B, T) -> (B, T, T): does the token of the first column see that of the second? Each sees itself.
    `subtree_end` is that of `Runtime.score`."""
    columns = np.arange(subtree_end.shape[1])
    own = columns[:, None] == columns  # padding sees itself at least: a softmax over nothing is no number
    found: Bools = ((columns[:, None] >= columns) & (columns[:, None] < subtree_end[:, None, :])) | own
    return found


def plain_rows(ids: Ints, lengths: Ints, subtree_end: Ints | None) -> Packed:
    """Rows padded on the right, one beside the other."""
    rows, columns = ids.shape
    if subtree_end is None:  # attention is causal by itself
        positions = np.tile(np.arange(columns), (rows, 1))
        bias = np.zeros((1, 1, columns, columns), dtype=np.float32)
    else:
        sees = tree_mask(subtree_end)
        positions, bias = sees.sum(axis=-1) - 1, _bias(sees)[:, None]
    return Packed(ids=np.ascontiguousarray(ids), positions=positions, bias=bias, new=lengths)


def one_row(ids: Ints, lengths: Ints, subtree_end: Ints | None, *, before: int) -> tuple[Packed, Ints]:
    """Rows padded on the right, one behind the other in a single row behind `before` others: that row's keys and values
    are then read once, and not copied for every row.

    Returns:
        Besides, where each row begins.
    """
    total = int(lengths.sum())
    starts = np.cumsum(lengths) - lengths
    positions = np.zeros((1, total), dtype=np.int64)
    sees = np.zeros((1, total, total), dtype=np.bool_)
    for row, (start, length) in enumerate(zip(starts.tolist(), lengths.tolist(), strict=True)):
        place = slice(start, start + length)
        inside = np.full((1, length), length) if subtree_end is None else subtree_end[[row], :length]
        sees[0, place, place] = tree_mask(inside)[0]
        positions[0, place] = before + sees[0, place, place].sum(axis=-1) - 1
    bias = np.zeros((1, 1, total, before + total), dtype=np.float32)
    bias[0, 0, :, before:] = _bias(sees[0])
    packed = np.concatenate([row[:length] for row, length in zip(ids, lengths, strict=True)])[None]
    return Packed(ids=packed, positions=positions, bias=bias, new=np.array([total])), starts


def row_groups(shares: Floats) -> Iterator[slice]:
    """Rows beside each other that together take no more than all there is; one that takes more stands alone.

    Args:
        shares: (B,): what each row takes, of 1.

    >>> list(row_groups(np.array([0.5, 0.5, 1.5, 0.4])))
    [slice(0, 2, None), slice(2, 3, None), slice(3, 4, None)]
    """
    first, total = 0, 0.0
    for row, share in enumerate(shares.tolist()):
        if row > first and total + share > 1:
            yield slice(first, row)
            first, total = row, 0.0
        total += share
    yield slice(first, len(shares))


def _bias(sees: Bools) -> Floats32:
    return np.where(sees, np.float32(0), np.float32(SHUT))
