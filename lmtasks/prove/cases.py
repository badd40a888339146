"""The inputs of a proof: real texts in the shapes where exports go wrong.

Lengths from one token to the longest that the model takes; one row and several; padding on either side, and between
tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from lmtasks.errors import UsageError
from lmtasks.records import TokenBatch

LONGEST_TOKENS = 1024
"""Models that take more are checked up to here."""
TEXTS = 6
"""So many texts stand in one batch."""

Side = Literal["left", "right", "between"]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One batch of a proof."""

    name: str
    rows: tuple[tuple[int, ...], ...]
    side: Side
    """Where the shorter rows are padded; between: behind every token."""

    @property
    def batch(self) -> TokenBatch:
        """The rows as a batch, (B, T); the second half of each has the other segment id."""
        longest, step = max(map(len, self.rows)), 2 if self.side == "between" else 1
        shape = (len(self.rows), step * longest)
        ids, types = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        mask = np.zeros(shape, dtype=np.bool_)
        for number, row in enumerate(self.rows):
            start = longest - len(row) if self.side == "left" else 0
            places = start + step * np.arange(len(row))
            ids[number, places], mask[number, places] = row, True
            types[number, places[(len(row) + 1) // 2 :]] = 1
        return TokenBatch(ids=ids, mask=mask, types=types)


def read_rows(texts: Sequence[str], *, tokenizer: Path) -> tuple[tuple[int, ...], ...]:
    """The texts as token ids.

    Args:
        tokenizer: a `tokenizer.json`.

    Raises:
        UsageError: no text has any token.
    """
    from tokenizers import Tokenizer

    raw = Tokenizer.from_file(str(tokenizer))
    raw.no_padding()
    raw.no_truncation()
    rows = tuple(tuple(item.ids) for item in raw.encode_batch(list(texts)) if item.ids)
    if not rows:
        raise UsageError("a proof needs texts to compare the answers on, and none was given.")
    return rows


def proof_cases(rows: Sequence[tuple[int, ...]], *, longest: int) -> tuple[Case, ...]:
    """The batches on which heads and scores are compared.

    >>> [(case.name, [len(row) for row in case.rows]) for case in proof_cases([(5, 6, 7), (8, 9)], longest=4)]
    ... # doctest: +NORMALIZE_WHITESPACE
    [('one token', [1]), ('two tokens', [2]), ('one text', [3]), ('texts padded right', [3, 2, 4]),
     ('texts padded left', [3, 2, 4]), ('texts with holes', [3, 2, 4]), ('longest', [4]),
     ('one below the longest', [3])]
    """
    longest = min(longest, LONGEST_TOKENS)
    stream = endless(rows, longest)
    texts = tuple(row[:longest] for row in rows[:TEXTS])
    mixed = (*texts, stream[: min(longest, 2 * max(map(len, texts)))])
    return (
        Case(name="one token", rows=(stream[:1],), side="right"),
        Case(name="two tokens", rows=(stream[:2],), side="right"),
        Case(name="one text", rows=texts[:1], side="right"),
        Case(name="texts padded right", rows=mixed, side="right"),
        Case(name="texts padded left", rows=mixed, side="left"),
        Case(name="texts with holes", rows=mixed, side="between"),
        Case(name="longest", rows=(stream[:longest],), side="right"),
        Case(name="one below the longest", rows=(stream[: longest - 1],), side="right"),
    )


def prompts(rows: Sequence[tuple[int, ...]], *, longest: int, steps: int) -> tuple[tuple[int, ...], ...]:
    """Prompts of different lengths, short enough for `steps` more tokens."""
    room = max(1, min(longest, LONGEST_TOKENS) - steps)
    stream = endless(rows, room)
    return tuple(stream[:length] for length in (min(room, 9), 1, min(room, 4), min(room, 33)))


def endless(rows: Sequence[tuple[int, ...]], length: int) -> tuple[int, ...]:
    """The texts behind each other, again and again, up to `length` tokens."""
    joined = tuple(token for row in rows for token in row)
    return (joined * (length // len(joined) + 1))[:length]
