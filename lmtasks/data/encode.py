"""Texts, questions and tagged words become rows of tokens for heads; for continuations see `continuation`.

A causal tokenizer and an encoder's differ in what they put around texts; `Tokenizer.encode_for_head` knows that, and
nothing else is assumed. Nothing is ever cut without saying so in `truncated`.

Questions over contexts of any length become windows of tokens, for the span head:

    [CLS] question [SEP] part of the context [SEP]      an encoder
    question <|sep|> part of the context <|endoftext|>  a causal model; only the last token has seen everything

Words with tags are joined by blanks and encoded as one text, so that a tokenizer sees what it was trained on; where a
word's tokens stand is read off their offsets, and the first token of a word speaks for it.

Axes: T time (tokens).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from lmtasks.data.tokenizer import Encoded, Tokenizer
from lmtasks.errors import UsageError
from lmtasks.records import HeadInput

LONGEST_QUESTION = 3
"""A question may take one part in this many of a window."""


@dataclass(frozen=True, kw_only=True)
class SpanWindow:
    """A question and a part of its context, long contexts having several such windows."""

    ids: tuple[int, ...]
    """(T,)"""
    types: tuple[int, ...]
    """(T,) segment ids."""
    offsets: tuple[tuple[int, int], ...]
    """(T,) characters of the context that each token covers, without white space around them, end exclusive;
    (0, 0) outside the context."""
    context: tuple[bool, ...]
    """(T,) does the position belong to the context?"""
    start: int | None
    """Position of the first token of the right answer; None where this window does not hold it."""
    end: int | None
    """Position of its last token, inclusive."""
    null: int
    """The position that means `no answer here`: what both ends are trained to point at where `start` is None."""
    trainable: bool
    """False: the question has an answer, but its text is nowhere in the context, so there is nothing to learn."""
    truncated: bool
    """Was the question cut? The context never is."""


def span_windows(
    input: HeadInput, *, tokenizer: Tokenizer, max_length: int, stride: int = 128, null_at_end: bool = False
) -> tuple[SpanWindow, ...]:
    """Question (`input.first`) and context (`input.second`), in windows of at most `max_length` tokens.

    Args:
        input: `answers` and `starts` (characters) give the gold positions; the first answer counts. Where the text at
            its start is another (some public data is wrong there) the nearest place with the answer's text is taken.
        tokenizer: how to encode.
        max_length: tokens a window holds.
        stride: tokens of context that two neighbours share.
        null_at_end: point at the last token, not the first, for `no answer`. A causal model must: its first token has
            seen neither question nor context.

    Raises:
        UsageError: a window holds no context besides the question, or `null_at_end` and there is no end token.
    """
    context = input.second or ""
    encoded = tokenizer.encode_for_head(input.first, context)
    question = encoded.sequences.count(0)
    kept_question = min(question, max_length // LONGEST_QUESTION)
    keep = first_tokens(encoded, [kept_question, len(encoded.ids)])
    inside = [position for position in keep if encoded.sequences[position] == 1]
    first = keep.index(inside[0]) if inside else _end_of_head(encoded, keep)
    head, tail = keep[:first], keep[first + len(inside) :]
    ids, types = encoded.ids, encoded.types
    if null_at_end and not tail:
        ids, types, tail = _with_end(encoded, tokenizer)
    room = max_length - len(head) - len(tail)
    if room < 1:
        raise UsageError(
            f"a window of {max_length} tokens holds no context besides the question; give a length of 16 or more."
        )
    offsets = _trimmed_offsets(encoded, context)
    span = _find_answer(input, context)
    step = max(1, room - min(stride, room // 2))
    windows: list[SpanWindow] = []
    for begin in range(0, max(1, len(inside)), step):
        part = inside[begin : begin + room]
        positions = [*head, *part, *tail]
        flags = (False,) * len(head) + (True,) * len(part) + (False,) * len(tail)
        start, end = _gold([offsets[position] for position in part], span)
        windows.append(
            SpanWindow(
                ids=tuple(ids[position] for position in positions),
                types=tuple(types[position] for position in positions),
                offsets=tuple(
                    offsets[position] if flag else (0, 0) for position, flag in zip(positions, flags, strict=True)
                ),
                context=flags,
                start=None if start is None else start + len(head),
                end=None if end is None else end + len(head),
                null=len(positions) - 1 if null_at_end else 0,
                trainable=span is not None or not input.answers,
                truncated=kept_question < question,
            )
        )
        if begin + room >= len(inside):
            break
    return tuple(windows)


def first_tokens(encoded: Encoded, counts: Sequence[int]) -> list[int]:
    """Positions that stay when of each text only its first so many tokens do, and of added tokens all."""
    left = list(counts)
    keep: list[int] = []
    for position, sequence in enumerate(encoded.sequences):
        if sequence >= 0:
            left[sequence] -= 1
        if sequence < 0 or left[sequence] >= 0:
            keep.append(position)
    return keep


def _end_of_head(encoded: Encoded, keep: Sequence[int]) -> int:
    """Where the context would stand if it had a token: before the added tokens at the end, but behind one separator."""
    last = max((index for index, position in enumerate(keep) if encoded.sequences[position] == 0), default=-1)
    return min(last + 2, len(keep))


def _with_end(encoded: Encoded, tokenizer: Tokenizer) -> tuple[tuple[int, ...], tuple[int, ...], list[int]]:
    """Ids and types with the end token behind them, and its position: some tokenizers add only a first token."""
    if tokenizer.eos is None:
        raise UsageError("the tokenizer has no end token, which a causal model needs to point at for `no answer`.")
    last = encoded.types[-1] if encoded.types else 0
    return (*encoded.ids, tokenizer.eos), (*encoded.types, last), [len(encoded.ids)]


def _trimmed_offsets(encoded: Encoded, context: str) -> list[tuple[int, int]]:
    """Offsets without the white space that byte-level tokens hold (` word`), so that answers come out without it."""
    trimmed: list[tuple[int, int]] = []
    for (start, end), sequence in zip(encoded.offsets, encoded.sequences, strict=True):
        text = context[start:end] if sequence == 1 else ""
        if text.strip():
            start, end = start + len(text) - len(text.lstrip()), end - len(text) + len(text.rstrip())
        trimmed.append((start, end))
    return trimmed


def _find_answer(input: HeadInput, context: str) -> tuple[int, int] | None:
    """The first answer's characters in the context: at its given start, or at the nearest place where it stands."""
    answer = input.answers[0].strip() if input.answers else ""
    if not answer:
        return None
    given = input.starts[0] if input.starts else 0
    given += len(input.answers[0]) - len(input.answers[0].lstrip())
    before, after = context.rfind(answer, 0, max(0, given) + len(answer)), context.find(answer, max(0, given))
    places = [place for place in (before, after) if place >= 0]
    if not places:
        return None
    place = min(places, key=lambda place: abs(place - given))
    return place, place + len(answer)


def _gold(offsets: Sequence[tuple[int, int]], span: tuple[int, int] | None) -> tuple[int | None, int | None]:
    """First and last token that overlap the answer, if this part of the context holds all of it."""
    if span is None or not offsets or offsets[0][0] > span[0] or offsets[-1][1] < span[1]:
        return None, None
    touching = [index for index, (start, end) in enumerate(offsets) if start < span[1] and end > span[0]]
    return (touching[0], touching[-1]) if touching else (None, None)


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
