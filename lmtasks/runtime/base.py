"""The primitives that every runtime offers, and nothing else. Scheduling and decoding stand above, in `engine/`.

A decoding state is opaque to everybody but the runtime that made it. Rows of a state stand for sequences;
`reorder` picks, drops or repeats them, which is all that beam search needs. Slots are the faster way where rows come
and go: one allocation, written in place.

Axes: B batch, T time, S wanted tokens, V vocabulary.
"""

from dataclasses import dataclass
from typing import Protocol, TypeVar

from lmtasks.records import Floats32, Ints, ModelCard, RuntimeCard, TokenBatch, TokenScores, TokenTargets

State = TypeVar("State")


@dataclass(frozen=True, kw_only=True)
class Sharing:
    """What several rows may share in one pass. It is measured on the loaded model, not listed by family."""

    longest_row: int = 0
    """Longest row that may branch (`reach` of `Runtime.score`), with the state it stands behind; 0: none may."""
    prefix: bool = False
    """May rows stand `behind` a state?"""
    pairs_per_token: int = 2048
    """So many pairs of tokens, one looking at the other, cost as much as the rest of a layer costs for one token. With
    width D a layer multiplies 12 D^2 numbers a token, and 2 D a pair: 6 D, 3,072 for a width of 512."""


NOTHING_SHARED = Sharing()


class Slots(Protocol):
    """Places for rows that are written token by token; each row has its own length. Made by `Runtime.slots`."""

    joins: bool
    """May new rows come while others are being written?"""

    def fill(self, batch: TokenBatch) -> Floats32:
        """Read prompts into the places behind those in use: next-token logits (B, V) behind each."""
        ...

    def step(self, ids: Ints) -> Floats32:
        """Append one token to each row in use, ids (rows in use,): next-token logits (rows in use, V), which stay until
        the next call."""
        ...

    def leave(self, place: int) -> None:
        """Give a place back; the last row in use moves there."""
        ...


class Runtime(Protocol[State]):
    """A loaded model that computes.

    Any primitive may raise `runtime.memory.OutOfMemory`; what was asked may then be asked again, in smaller parts.
    """

    model: ModelCard
    card: RuntimeCard

    @property
    def sharing(self) -> Sharing:
        """What rows may share when they are scored."""
        ...

    def predict(self, head: str, batch: TokenBatch) -> Floats32:
        """Logits of a head: (B, C) for classification, (B, T, C) for tagging, (B, T, 2) for span (start, end)."""
        ...

    def score(
        self,
        batch: TokenBatch,
        wanted: TokenTargets,
        *,
        reach: Ints | None = None,
        behind: State | None = None,
        source: TokenBatch | None = None,
        source_rows: Ints | None = None,
    ) -> TokenScores:
        """How likely tokens are behind columns of the rows. Logits are made where they are wanted, nowhere else.

        Args:
            batch: what is read: for a causal model the rows, for an encoder-decoder what the decoder reads.
            wanted: the tokens; a row's last column may be asked for any.
            reach: (B, T), for rows padded on the right that hold a tree of tokens, parents before children: column j
                is seen by columns j to reach[j] - 1 of its row, and a token's position is the number of others that
                it sees. None: every column sees all before it.
            behind: a state of one row, which all rows of the batch continue.
            source: what the encoder reads, each different source once; None for a causal model.
            source_rows: (B,): which source each row of the batch belongs to; None: the row of the same number.
        """
        ...

    def prefill(self, batch: TokenBatch) -> tuple[State, Floats32]:
        """Read the prompts (for an encoder-decoder: encode the sources, and feed the decoder's start token).

        Returns:
            The state, and the next-token logits (B, V) behind each row's last real token.
        """
        ...

    def step(self, state: State, ids: Ints) -> tuple[State, Floats32]:
        """Append one token to each row, ids (B,), and return the next-token logits (B, V)."""
        ...

    def reorder(self, state: State, rows: Ints) -> State:
        """The state of these rows (B',), in this order; a row may be left out or stand several times."""
        ...

    def slots(self, *, rows: int, length: int) -> Slots | None:
        """Places for `rows` rows of at most `length` tokens, prompt and answer; None: this model, or this runtime, has
        no such thing, and `prefill`, `step`, `reorder` are the way."""
        ...

    def beside(self) -> "Runtime[State]":
        """This runtime, laid out for `card.callers` calls at a time from threads of their own; itself where that is 1.
        Each understands the states of the other; slots and states are still used by one thread at a time."""
        ...

    def free_bytes(self) -> int | None:
        """Memory that can still be taken where this runtime computes; None: nobody knows."""
        ...

    def close(self) -> None:
        """Give memory back. The runtime is not used afterwards."""
        ...
