"""Pretrained word vectors in the text format of word2vec and GloVe: a word and its numbers on each line.

word2vec's first line tells how many words and numbers there are; GloVe has no such line. A file may be gzipped.
"""

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lmtasks.data.tokenizer import Tokenizer
from lmtasks.errors import UsageError
from lmtasks.records import Floats32

MARKS = "Ġ▁ "
"""How tokenizers write the blank before a word."""


@dataclass(frozen=True, kw_only=True)
class TokenVectors:
    """Vectors for the tokens of a tokenizer."""

    values: Floats32
    """(V, D); not a number where the file lacks the token."""
    found: int
    """Tokens that the file has."""


def read_vectors(file: Path, *, tokenizer: Tokenizer) -> TokenVectors:
    """The vectors of a tokenizer's tokens, as they are written, else in small letters. Others are not kept.

    Raises:
        UsageError: the file is not there, a line is not text or has too few numbers, or no token is found.
    """
    places: dict[str, list[int]] = {}
    exact: dict[str, int] = {}
    for token, index in tokenizer.raw.get_vocab(with_added_tokens=False).items():
        word = token.lstrip(MARKS)
        exact[word] = index
        places.setdefault(word.lower(), []).append(index)
    values = np.empty((0, 0), dtype=np.float32)
    for number, word, numbers in _lines(file):
        width = len(numbers)
        if not values.size:
            values = np.full((tokenizer.vocabulary, width), np.nan, dtype=np.float32)
        if width != values.shape[1]:
            raise UsageError(f"{file}, line {number}: {width} numbers, the lines before have {values.shape[1]}.")
        rows = [row for row in places.get(word, ()) if np.isnan(values[row, 0])]
        rows += [exact[word]] if word in exact and exact[word] not in rows else []
        if rows:
            try:
                values[rows] = np.array(numbers, dtype=np.float32)
            except ValueError:
                raise UsageError(f"{file}, line {number}: the vector of {word!r} holds what is no number.") from None
    found = int((~np.isnan(values[:, 0])).sum()) if values.size else 0
    if not found:
        raise UsageError(f"{file} has a vector for none of the {tokenizer.vocabulary} tokens; is it of this language?")
    return TokenVectors(values=values, found=found)


def _lines(file: Path) -> Iterator[tuple[int, str, list[str]]]:
    """(number of the line, word, its numbers as they are written)."""
    if not file.is_file():
        raise UsageError(f"the file of word vectors {file} does not exist.")
    offset = 0
    with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as lines:
        for number, raw in enumerate(lines, start=1):
            try:
                parts = raw.decode().rstrip("\n").rstrip(" ").split(" ")
            except UnicodeDecodeError as error:
                raise UsageError(f"{file}, line {number}: byte {offset + error.start} is not UTF-8.") from error
            offset += len(raw)
            if number == 1 and len(parts) == 2:
                continue  # word2vec's header
            if len(parts) < 3:
                raise UsageError(f"{file}, line {number}: a word and at least two numbers are needed: {raw[:40]!r}.")
            yield number, parts[0], parts[1:]
