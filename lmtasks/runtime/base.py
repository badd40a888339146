"""The primitives that every runtime offers, and nothing else. Scheduling and decoding stand above, in `engine/`.

A decoding state is opaque to everybody but the runtime that made it. Rows of a state stand for sequences;
`reorder` picks, drops or repeats them, which is all that beam search and a shrinking batch need.
"""

from typing import Protocol, TypeVar

from lmtasks.records import Floats32, Ints, ModelCard, RuntimeCard, TokenBatch, TokenScores

State = TypeVar("State")


class Runtime(Protocol[State]):
    """A loaded model that computes."""

    model: ModelCard
    card: RuntimeCard

    def predict(self, head: str, batch: TokenBatch) -> Floats32:
        """Logits of a head: (B, C) for classification, (B, T, C) for tagging, (B, T, 2) for span (start, end)."""
        ...

    def score(self, batch: TokenBatch, source: TokenBatch | None = None) -> TokenScores:
        """Log-probability of every next token of the rows.

        Args:
            batch: for a causal model the whole rows. For an encoder-decoder, what the decoder reads: its start
                token, then the target.
            source: what the encoder reads; None for a causal model.
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

    def close(self) -> None:
        """Give memory back. The runtime is not used afterwards."""
        ...
