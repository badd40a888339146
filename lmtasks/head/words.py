"""Words of a head: which of the n-grams of its training rows stand in a text, beside the backbone's states ("wide and
deep", Cheng et al. 2016, https://arxiv.org/abs/1606.07792).

An n-gram is a token, or two neighbours, by their ids. What a head adds to its logits is a product with TF-IDF: the sum,
over the places of a text, of the n-gram's weights, divided by the root of the sum of its squared idf. A place counts
once, so that one that is there twice counts twice.

>>> rows = [ngrams_of((5, 6)), ngrams_of((5, 7, 5))]
>>> known = KnownNgrams.of(rows, most=10)
>>> len(known.ngrams), known.matrix(rows).shape, float(known.matrix(rows)[[1]].power(2).sum().round(3))
(6, (2, 6), 1.252)

The n-grams are found exactly, and others not at all: each has one of two slots of a hash table (cuckoo hashing, Pagh
and Rodler 2004), and what lies there is compared. Tokens that a tokenizer adds are tokens as others; what stands
between two texts is one of them, so that no n-gram reaches from one into the other.

Axes: B batch, S tokens, N rows, G n-grams, L slots, C outputs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lmtasks.records import Floats, Floats32, Ints

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

MOST_NGRAMS = 65_536
MOST_WEIGHTS = 2**20
"""Of a head's n-grams, by its labels: 4 MB in fp32."""
FIRST = 1 << 32
"""What the first token of an n-gram counts for in its number."""
MULTIPLIERS = ((1_640_531_527, 668_265_263), (374_761_393, 2_147_001_325))
"""Of the first and second token, for each of the two slots."""
PRIME = 2**31 - 1
"""Products of it with token ids stay within 63 bits."""
ROOM = 2.3
"""Slots for each n-gram; below 2 they would not find a place."""
MOST_MOVES = 500
LOOKUP = ("slots", "ngrams")
"""What finds n-grams: arrays of a head that are no weights."""
Ints32 = NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class WordTable:
    """The weights of n-grams, and how they are found. Row 0 stands for all that are not known, and is nothing."""

    slots: Ints32
    """(L,) the row that lies there; 0: none."""
    ngrams: Ints
    """(G + 1,) number of each row's n-gram, `FIRST` x (first token + 1, or 0) + the last token; -1 in row 0."""
    weights: Floats32
    """(G + 1, C)"""
    squares: Floats32
    """(G + 1,) squared idf."""


@dataclass(frozen=True, kw_only=True)
class KnownNgrams:
    """The n-grams of training rows."""

    ngrams: Ints
    """(G,) in ascending order."""
    idf: Floats
    """(G,) ln((1 + N) / (1 + rows that have it)) + 1, as scikit-learn has it."""

    @classmethod
    def of(cls, rows: Sequence[Ints], *, most: int) -> "KnownNgrams":
        """Count the rows that have each n-gram.

        Args:
            rows: n-grams of each.
            most: the most frequent ones are kept, of equal ones the lower number.
        """
        distinct = [np.unique(row) for row in rows]
        ngrams, counts = np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *distinct]), return_counts=True)
        if len(ngrams) > most:
            kept = np.sort(np.argsort(-counts, kind="stable")[:most])
            ngrams, counts = ngrams[kept], counts[kept]
        return cls(ngrams=ngrams, idf=np.log((1 + len(rows)) / (1 + counts)) + 1)

    def matrix(self, rows: Sequence[Ints]) -> "csr_matrix":
        """TF-IDF of rows, (N, G)."""
        from scipy.sparse import csr_matrix

        found = np.concatenate([np.zeros(0, dtype=np.int64), *rows])
        numbers = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
        known = np.isin(found, self.ngrams)
        numbers, places = numbers[known], np.searchsorted(self.ngrams, found[known])
        idf = self.idf[places]
        lengths = np.sqrt(np.maximum(1.0, np.bincount(numbers, weights=idf**2, minlength=len(rows))))
        return csr_matrix((idf / lengths[numbers], (numbers, places)), shape=(len(rows), len(self.ngrams)))

    def table(self, weights: Floats) -> WordTable:
        """The table of a head.

        Args:
            weights: of the columns of `matrix`, (C, G).
        """
        return WordTable(
            slots=_slots(self.ngrams),
            ngrams=np.concatenate([[-1], self.ngrams]),
            weights=np.concatenate([np.zeros((1, len(weights))), (weights * self.idf).T]).astype(np.float32),
            squares=np.concatenate([[0.0], self.idf**2]).astype(np.float32),
        )


def most_ngrams(outputs: int) -> int:
    """How many n-grams a head of so many outputs has at most."""
    return min(MOST_NGRAMS, MOST_WEIGHTS // outputs)


def ngrams_of(ids: Sequence[int]) -> Ints:
    """The n-grams of a text by its token ids (S,): tokens, then pairs of neighbours, (2 S - 1,).

    >>> [(int(number // FIRST) - 1, int(number % FIRST)) for number in ngrams_of((7, 8))]
    [(-1, 7), (-1, 8), (7, 8)]
    """
    tokens = np.asarray(ids, dtype=np.int64)
    return np.concatenate([tokens, (tokens[:-1] + 1) * FIRST + tokens[1:]])


def _slots(ngrams: Ints) -> Ints32:
    """Rows, counted from 1, by slot: each lies in one of its two."""
    first, last = ngrams // FIRST, ngrams % FIRST
    count = int(ROOM * len(ngrams)) + 2
    while True:
        places = [((first * one + last * other) % PRIME % count).tolist() for one, other in MULTIPLIERS]
        slots = [0] * count
        if all(_put(row, slots, places) for row in range(1, len(ngrams) + 1)):
            return np.array(slots, dtype=np.int32)
        count += 1 + count // 8


def _put(row: int, slots: list[int], places: Sequence[Sequence[int]]) -> bool:
    """Lay a row into one of its slots; what lies there moves to its other one. False where that does not end."""
    slot = places[0][row - 1]
    for _ in range(MOST_MOVES):
        row, slots[slot] = slots[slot], row
        if not row:
            return True
        one, other = places[0][row - 1], places[1][row - 1]
        slot = other if slot == one else one
    return False
