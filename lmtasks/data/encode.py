"""Texts become rows of tokens: for heads (here and in `spans`), and for continuations (in `continuation`).

A causal tokenizer and an encoder's differ in what they put around texts; `Tokenizer.encode_for_head` knows that, and
nothing else is assumed. Nothing is ever cut without saying so in `truncated`.

Axes: T time (tokens).
"""

from dataclasses import dataclass

from lmtasks.data.continuation import ContinuationRow, continuation_row, prompt_ids, rolling_windows, seq2seq_row
from lmtasks.data.spans import SpanWindow, first_tokens, span_windows
from lmtasks.data.tokenizer import Tokenizer
from lmtasks.errors import UsageError
from lmtasks.records import HeadInput

__all__ = [
    "ContinuationRow",
    "EncodedRow",
    "SpanWindow",
    "classification_row",
    "continuation_row",
    "prompt_ids",
    "rolling_windows",
    "seq2seq_row",
    "span_windows",
]


@dataclass(frozen=True, kw_only=True)
class EncodedRow:
    """One example for a head."""

    ids: tuple[int, ...]
    """(T,)"""
    types: tuple[int, ...]
    """(T,) segment ids."""
    truncated: bool


def classification_row(input: HeadInput, *, tokenizer: Tokenizer, max_length: int) -> EncodedRow:
    """One or two texts as a head reads them. Too long a pair loses tokens at the end of the longer text first.

    Raises:
        UsageError: `max_length` does not hold even the tokens that the tokenizer adds.
    """
    encoded = tokenizer.encode_for_head(input.first, input.second)
    surplus = len(encoded.ids) - max_length
    if surplus <= 0:
        return EncodedRow(ids=encoded.ids, types=encoded.types, truncated=False)
    counts = [encoded.sequences.count(0), encoded.sequences.count(1)]
    if surplus > sum(counts):
        raise UsageError(f"a length of {max_length} tokens holds no text besides the tokenizer's own tokens.")
    room = sum(counts) - surplus
    shorter = min(min(counts), room // 2)
    kept = [shorter, room - shorter] if counts[0] <= counts[1] else [room - shorter, shorter]
    keep = first_tokens(encoded, kept)
    return EncodedRow(
        ids=tuple(encoded.ids[position] for position in keep),
        types=tuple(encoded.types[position] for position in keep),
        truncated=True,
    )
