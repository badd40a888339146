"""How varied the answers are, whatever is right: `distinct_1`, `distinct_2`, `repetition`.

Each looks at one answer at a time and is then averaged, so a long answer weighs no more than a short one. (Li et al.
2016, https://aclanthology.org/N16-1014, count distinct n-grams over a whole corpus, which falls as the corpus grows.)
"no no no no no no": distinct_1 is 1/6; its three 4-grams are one and two repeats of it, so repetition is 2/3.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np

from lmtasks.metric.base import Formula, Settings, mean, only
from lmtasks.metric.words import pieces
from lmtasks.records import Floats, Outcome, Text

REPETITION_ORDER = 4


def distinct_1(settings: Settings) -> Formula:
    """`distinct_1`: distinct words over words; 0 for an empty answer."""
    return mean(partial(_distinct, order=1), signature="order:1|tok:words-or-han-or-clusters|case:lower")


def distinct_2(settings: Settings) -> Formula:
    """`distinct_2`: distinct pairs of words over pairs; 0 for an answer without a pair."""
    return mean(partial(_distinct, order=2), signature="order:2|tok:words-or-han-or-clusters|case:lower")


def repetition(settings: Settings) -> Formula:
    """`repetition`: the share of 4-grams that stood earlier in the same answer; 0 for an answer without one."""
    return mean(_repeated, signature=f"order:{REPETITION_ORDER}|tok:words-or-han-or-clusters|case:lower")


def _distinct(outcomes: Sequence[Outcome], order: int) -> Floats:
    counts = [_distinct_and_all(text.prediction, order) for text in only(Text, outcomes)]
    return np.array([distinct / max(total, 1) for distinct, total in counts])


def _repeated(outcomes: Sequence[Outcome]) -> Floats:
    counts = [_distinct_and_all(text.prediction, REPETITION_ORDER) for text in only(Text, outcomes)]
    return np.array([(total - distinct) / max(total, 1) for distinct, total in counts])


def _distinct_and_all(text: str, order: int) -> tuple[int, int]:
    found = pieces(text)
    ngrams = list(zip(*(found[start:] for start in range(order)), strict=False))
    return len(set(ngrams)), len(ngrams)
