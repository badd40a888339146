"""One label for every token, of which the first one of a word speaks for it.

Where the labels are of a scheme (IOB2, IOBES, ...), the answer is the best sequence of tags that keeps to it, by
Viterbi's algorithm; else the likeliest tag of each word.

Words are joined by blanks and encoded as one text, so that a tokenizer sees what it was trained on; where a word's
tokens stand is read off their offsets.

Axes: B batch, T time (tokens), C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from lmtasks.errors import UsageError
from lmtasks.head.base import IGNORED, EncodedInput, EncodedRow, Head, HeadOperators, HeadTokenizer, Targets, Value
from lmtasks.records import Floats32, HeadInput, HeadSpec, Text
from lmtasks.tag_scheme import FORBIDDEN, OUTSIDE, best_path, label_scheme, transitions

if TYPE_CHECKING:
    from torch import Tensor


class TaggingHead(Head):
    """Hidden states to class logits at every position."""

    def layers(self, spec: HeadSpec, *, width: int) -> Mapping[str, tuple[int, int]]:
        """One, D -> C."""
        return {"output": (width, len(spec.labels))}

    def logits(self, operators: HeadOperators[Value], hidden: Value, spec: HeadSpec) -> Value:
        """(B, T, D) -> (B, T, C); what stands at padded positions is not read."""
        return operators.dense("output", operators.dropout(hidden))

    def loss(self, logits: Tensor, targets: Tensor, *, smoothing: float = 0.0) -> Tensor:
        """Over judged positions, of logits (B, T, C) and tags (B, T)."""
        from torch.nn import functional

        return functional.cross_entropy(
            logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, label_smoothing=smoothing
        )

    def judged(self, logits: Tensor, targets: Tensor) -> tuple[float, int]:
        """Right tags, and words."""
        judged = targets >= 0
        return float((logits.argmax(-1) == targets)[judged].sum()), int(judged.sum())

    def encode(
        self, given: HeadInput, *, tokenizer: HeadTokenizer, max_length: int, causal: bool = False
    ) -> EncodedInput:
        """One row. Too long a sentence loses its last words."""
        return TaggedWords(given=given, rows=(tagging_row(given, tokenizer=tokenizer, max_length=max_length),))


class RoleHead(TaggingHead):
    """The same over a sentence in which one word, the predicate, is marked. The marks have no tags."""

    def encode(
        self, given: HeadInput, *, tokenizer: HeadTokenizer, max_length: int, causal: bool = False
    ) -> EncodedInput:
        """One row. Too long a sentence loses its last words."""
        marked = replace(given, tokens=given.marked_tokens)
        row = tagging_row(marked, tokenizer=tokenizer, max_length=max_length)
        if given.predicate is not None:
            places, mark = row.places, given.predicate  # the place of the first mark
            row = replace(row, places=(*places[:mark], places[mark + 1], *places[mark + 3 :]))
        return TaggedWords(given=given, rows=(row,))


@dataclass(frozen=True, kw_only=True)
class TaggingRow(EncodedRow):
    """One sentence for a tagging head."""

    places: tuple[int | None, ...]
    """For each word the token that speaks for it; None: it has none, or was cut off."""


@dataclass(frozen=True, kw_only=True)
class TaggedWords(EncodedInput):
    """Words and the numbers of their tags."""

    rows: Sequence[TaggingRow]

    def targets(self) -> Sequence[tuple[EncodedRow, Targets]]:
        """Each word's tag at the token that speaks for it; nothing where no word has one."""
        (row,) = self.rows
        targets = [IGNORED] * len(row.ids)
        for tag, place in zip(self.given.tags, row.places, strict=True):
            if place is not None:
                targets[place] = tag
        return [(row, tuple(targets))] if any(target != IGNORED for target in targets) else ()

    def unaligned(self) -> tuple[str, ...]:
        """Words without a token, where none was cut off."""
        (row,) = self.rows
        if row.truncated:
            return ()
        return tuple(word for word, place in zip(self.given.tokens, row.places, strict=True) if place is None)

    def outcome(self, logits: Sequence[Floats32], *, labels: Sequence[str], order: Sequence[int]) -> Text:
        """The best tags with blanks between, from logits (T, C). A word that no token speaks for is outside, where the
        task has such a tag."""
        table = logits[0][:, list(order)].astype(np.float64)
        scores = np.zeros((len(self.given.tokens), len(labels)))
        outside = labels.index(OUTSIDE) if OUTSIDE in labels else None
        for word, place in enumerate(self.rows[0].places):
            if place is not None:
                scores[word] = table[place]
            elif outside is not None:
                scores[word] = FORBIDDEN
                scores[word, outside] = 0.0
        follows = transitions(tuple(labels), self.given.scheme or label_scheme(labels))
        return Text(
            references=(" ".join(labels[tag] for tag in self.given.tags),),
            prediction=" ".join(labels[tag] for tag in best_path(scores, follows)),
            source=self.given.first,
        )


def tagging_row(given: HeadInput, *, tokenizer: HeadTokenizer, max_length: int) -> TaggingRow:
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


TAGGING = TaggingHead(
    name="tagging", about="one label for every token", per_token=True, linear_layer="output", softmax=True
)
SEMANTIC_ROLES = RoleHead(
    name="semantic_roles",
    about="one label for every token, about one word that is marked",
    per_token=True,
    linear_layer="output",
    softmax=True,
)
