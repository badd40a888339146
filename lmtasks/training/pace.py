"""How long an adaptation learns, from how many rows at once, and how often it looks at validation rows meanwhile.

What nobody says follows from the rows: four passes where they are many; where they are few, steps are counted and not
passes, and looking takes half as long as learning at most.

>>> few, many = HeadSize(train=64, judged=1000, tokens=20.0), HeadSize(train=20_000, judged=1000, tokens=20.0)
>>> pace_of([few], WITH_BACKBONE, epochs=None, tokens_per_batch=None, looks=None)
Pace(epochs=10.0, tokens_per_batch=2048, rows_at_once=(16,), looks=4, judged=240)
>>> pace_of([many], WITH_BACKBONE, epochs=None, tokens_per_batch=None, looks=None)
Pace(epochs=4.0, tokens_per_batch=2048, rows_at_once=(None,), looks=8, judged=1000)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

Example = TypeVar("Example")

EPOCHS = 4.0
"""Passes over many rows."""
TOKENS_PER_BATCH = 2048
FEW_ROWS, FEW_AT_ONCE = 1000, 16
"""Rows that are few, and how many of them a batch has."""
TAGGED_AT_ONCE = 32
"""Rows of a batch of a head that answers at each token, however short they are: it begins at random and needs steps."""
MOST_LOOKS, LEAST_LOOKS = 8, 4
"""At validation rows. Where they take too long first their number falls, then that of the rows, then theirs again."""
MOST_JUDGED, LEAST_JUDGED = 1000, 100
"""Validation rows of a head that are looked at: as many as are set apart from training rows, and as few as still tell
weights apart."""
LOOKING_SHARE = 0.5
"""Of the time that learning takes."""


@dataclass(frozen=True, kw_only=True)
class Learner:
    """Cost of learning and of looking, in passes of a token through the backbone."""

    least_steps: int
    """Steps of a head, where four passes over its rows take fewer."""
    each_time: bool
    """Does the backbone read at each pass and each look? Else features are read once."""


WITH_BACKBONE = Learner(least_steps=40, each_time=True)
HEADS_ALONE = Learner(least_steps=300, each_time=False)


@dataclass(frozen=True, kw_only=True)
class HeadSize:
    """How many rows a head has, and how long."""

    train: int
    judged: int
    """Validation rows."""
    tokens: float
    """Of a row, the mean."""
    streamed: bool = False
    """Are they windows of a running text, which stand in a batch as its tokens allow?"""
    per_token: bool = False
    """Has it one answer a token?"""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Length and looks of an adaptation."""

    epochs: float
    tokens_per_batch: int
    rows_at_once: tuple[int | None, ...]
    """Of a batch of each head at most; None: as many as its tokens allow."""
    looks: int
    judged: int
    """Validation rows of each head that are looked at, at most."""


def pace_of(
    heads: Sequence[HeadSize],
    learner: Learner,
    *,
    epochs: float | None,
    tokens_per_batch: int | None,
    looks: int | None,
) -> Pace:
    """The pace that suits the rows of some heads.

    Args:
        epochs, tokens_per_batch, looks: what somebody said, and is then so; with `looks` all of `MOST_JUDGED` rows are
            looked at, however few are learned from.
    """
    at_once = tuple(None if tokens_per_batch is not None else _rows_at_once(head) for head in heads)
    tokens = tokens_per_batch or TOKENS_PER_BATCH
    batches = sum(
        math.ceil(head.train / min(most or math.inf, max(1.0, tokens // max(1.0, head.tokens))))
        for head, most in zip(heads, at_once, strict=True)
    )
    suited = max(EPOCHS, learner.least_steps * len(heads) / max(1, batches))
    passes = epochs or suited

    def room(passes: float) -> float:
        read = sum(head.train * head.tokens for head in heads)
        return LOOKING_SHARE * read * (3 * passes if learner.each_time else 1)

    def looking(rows: int, times: int) -> float:
        return sum(min(rows, head.judged) * head.tokens for head in heads) * (times if learner.each_time else 1)

    judged = MOST_JUDGED
    if looks is None:
        there = max((head.judged for head in heads), default=0)
        least = looking(judged, LEAST_LOOKS)
        if least > room(suited):  # not by `epochs`: settings that are chosen among are judged on the same rows
            judged = max(LEAST_JUDGED, int(min(judged, there) * room(suited) / least))
        looks = next((times for times in range(MOST_LOOKS, 1, -1) if looking(judged, times) <= room(passes)), 1)
    return Pace(epochs=passes, tokens_per_batch=tokens, rows_at_once=at_once, looks=looks, judged=judged)


def _rows_at_once(head: HeadSize) -> int | None:
    if head.streamed:
        return None
    return FEW_AT_ONCE if is_few([head.train]) else TAGGED_AT_ONCE if head.per_token else None


def is_few(rows: Sequence[int]) -> bool:
    """Are the training rows of every head few?"""
    return max(rows, default=0) <= FEW_ROWS


def judged_rows(rows: Sequence[Example], most: int) -> Sequence[Example]:
    """At most so many validation rows, drawn; fewer of them are among more."""
    if len(rows) <= most:
        return rows
    return [rows[place] for place in sorted(np.random.default_rng(0).permutation(len(rows))[:most].tolist())]
