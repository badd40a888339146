"""Words with tags become rows of tokens: the first token of a word speaks for it.

Words are joined by blanks and encoded as one text, so that a tokenizer sees what it was trained on; where a word's
tokens stand is read off their offsets.
"""

from dataclasses import dataclass
from itertools import accumulate

from lmtasks.data.tokenizer import Tokenizer
from lmtasks.errors import UsageError
from lmtasks.records import HeadInput


@dataclass(frozen=True, kw_only=True)
class TaggingRow:
    """One sentence for a tagging head."""

    ids: tuple[int, ...]
    """(T,)"""
    types: tuple[int, ...]
    """(T,) segment ids."""
    places: tuple[int | None, ...]
    """For each word the token that speaks for it; None: it has none, or was cut off."""
    truncated: bool


def tagging_row(given: HeadInput, *, tokenizer: Tokenizer, max_length: int) -> TaggingRow:
    """The words of a sentence as a head reads them. Too long a sentence loses its last words.

    Raises:
        UsageError: `max_length` does not hold even the tokens that the tokenizer adds.
    """
    encoded = tokenizer.encode_for_head(" ".join(given.tokens))
    surplus = len(encoded.ids) - max_length
    words = [place for place, sequence in enumerate(encoded.sequences) if sequence == 0]
    if surplus > len(words):
        raise UsageError(f"a length of {max_length} tokens holds no text besides the tokenizer's own tokens.")
    cut = set(words[len(words) - surplus :]) if surplus > 0 else set()
    kept = [place for place in range(len(encoded.ids)) if place not in cut]
    word_of = _words(given.tokens)
    speaks: dict[int, int] = {}
    for column, place in enumerate(kept):
        _, end = encoded.offsets[place]
        # A token may begin with the blank before its word; its last character is the word's own.
        if encoded.sequences[place] == 0 and 0 < end <= len(word_of) and (word := word_of[end - 1]) is not None:
            speaks.setdefault(word, column)
    return TaggingRow(
        ids=tuple(encoded.ids[place] for place in kept),
        types=tuple(encoded.types[place] for place in kept),
        places=tuple(speaks.get(number) for number in range(len(given.tokens))),
        truncated=surplus > 0,
    )


def _words(tokens: tuple[str, ...]) -> list[int | None]:
    """For each character of the joined words the word that it is of; None for blanks between.

    >>> _words(("a", "of"))
    [0, None, 1, 1]
    """
    ends = list(accumulate(len(token) + 1 for token in tokens))
    found: list[int | None] = [None] * max(0, (ends[-1] if ends else 0) - 1)
    for number, (end, token) in enumerate(zip(ends, tokens, strict=True)):
        found[end - 1 - len(token) : end - 1] = [number] * len(token)
    return found
