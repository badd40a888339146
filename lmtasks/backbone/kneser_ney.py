"""Counting n-grams, and interpolated modified Kneser-Ney smoothing over the counts (Chen and Goodman 1998,
"An Empirical Study of Smoothing Techniques for Language Modeling", section 3), three discounts for each order.

Lower orders are counted by how many different tokens stand before an n-gram; those that begin a line have nothing
before them, and keep how often they stand there.

Axes: as in `ngram`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lmtasks.backbone.ngram import NEVER, Ngram, NgramOrder
from lmtasks.errors import UsageError
from lmtasks.records import Bools, Floats, Floats32, Ints

FALLBACK = (0.5, 1.0, 1.5)
"""Discounts where the counts define none, as KenLM's `--discount_fallback` has them."""


@dataclass(frozen=True, kw_only=True)
class Counted:
    """All n-grams of one order in a text, sorted by their keys."""

    keys: Ints
    """(N,)"""
    counts: Ints
    """(N,) how often each stands in the text."""
    suffixes: Ints
    """(N,) place of its last n - 1 tokens in the level below; empty for single tokens."""
    begins: Bools
    """(N,) does it begin a line?"""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """The n-grams of a text, order by order."""

    vocabulary: int
    ends: tuple[int, ...]
    levels: tuple[Counted, ...]


def count_ngrams(rows: Sequence[Ints], *, order: int, vocabulary: int, ends: tuple[int, ...]) -> Counts:
    """Count all n-grams of up to `order` tokens; none reaches over the end of a line or a row.

    Args:
        rows: token ids. A row begins a line; end tokens in front of it are no part of it.
        ends: tokens that end a line.

    Raises:
        UsageError: no line is as long as the order.
    """
    stream = _with_starts(rows, vocabulary=vocabulary, ends=ends)
    here = np.arange(len(stream))
    depth = here - np.maximum.accumulate(np.where(stream == vocabulary, here, 0))
    longest = int(depth.max(initial=0)) + 1
    if longest < 2 or longest < order:
        raise UsageError(
            f"the text is shorter than the order: its longest line has {longest - 1} tokens, its end included, and an "
            f"order of {order} needs {max(1, order - 1)}; give more text, or order={max(1, longest)}."
        )
    levels = [_unigrams(stream, vocabulary=vocabulary)]
    places = stream
    for length in range(2, order + 1):
        (ending,) = np.nonzero(depth >= length - 1)
        keys, first, inverse, counts = _distinct(places[ending - 1] * (vocabulary + 1) + stream[ending])
        levels.append(
            Counted(
                keys=keys,
                counts=counts,
                suffixes=places[ending[first]],
                begins=depth[ending[first]] == length - 1,
            )
        )
        places = np.full(len(stream), -1, dtype=np.int64)
        places[ending] = inverse
    return Counts(vocabulary=vocabulary, ends=ends, levels=tuple(levels))


def kneser_ney(counts: Counts, *, cutoffs: Sequence[int] = (), fallback: bool = False) -> Ngram:
    """The smoothed model of a text.

    Args:
        cutoffs: n-grams that stand in the text so often or less are left out, order by order, the last number for all
            further ones; their share goes to shorter contexts. Single tokens always stay. Empty: all stay.
        fallback: take fixed discounts for an order whose counts define none.

    Raises:
        UsageError: the counts of an order define no discounts; cut-offs that fall.
    """
    limits = _limits(cutoffs, order=len(counts.levels))
    levels: list[NgramOrder] = []
    lower: Floats = np.full(0, 0.0)
    renumbered: Ints = np.arange(counts.vocabulary + 1)
    for number, counted in enumerate(counts.levels):
        adjusted = _adjusted(counts, number)
        kept = counted.counts > limits[number] if number else np.ones(len(counted.keys), dtype=np.bool_)
        discounts = _discounts(adjusted, order=number + 1, fallback=fallback)
        taken = np.where(kept, np.array([0.0, *discounts])[np.minimum(adjusted, 3)], adjusted)
        if number == 0:
            total = adjusted.sum()
            # Every token may come; the start of a line never does.
            probabilities = (adjusted - taken) / total + taken.sum() / total / counts.vocabulary
            probabilities[counts.vocabulary] = np.exp(NEVER)
            keys = counted.keys
        else:
            parents = counted.keys // (counts.vocabulary + 1)
            below = len(counts.levels[number - 1].keys)
            total = np.bincount(parents, adjusted, below)
            with np.errstate(invalid="ignore", divide="ignore"):
                weight = np.where(total > 0, np.bincount(parents, taken, below) / total, 1.0)
            levels[-1] = _with_backoffs(levels[-1], weight[renumbered >= 0])
            probabilities = (adjusted - taken) / total[parents] + weight[parents] * lower[counted.suffixes]
            keys = (renumbered[parents] * (counts.vocabulary + 1) + counted.keys % (counts.vocabulary + 1))[kept]
        renumbered = np.where(kept, np.cumsum(kept) - 1, -1)
        levels.append(NgramOrder(keys=keys, logprobs=_log(probabilities[kept]), backoffs=np.zeros(0, dtype=np.float32)))
        lower = probabilities
    return Ngram(vocabulary=counts.vocabulary, ends=counts.ends, levels=tuple(levels))


def _with_starts(rows: Sequence[Ints], *, vocabulary: int, ends: tuple[int, ...]) -> Ints:
    """All rows in one, with the token V where a line begins."""
    trimmed = []
    for row in rows:
        text = np.flatnonzero(~np.isin(row, ends))
        if len(text):
            trimmed.append(row[text[0] :])
    if not trimmed:
        return np.full(1, vocabulary, dtype=np.int64)
    joined = np.concatenate(trimmed).astype(np.int64)
    begins = np.zeros(len(joined), dtype=np.bool_)
    begins[np.cumsum([0, *(len(row) for row in trimmed[:-1])])] = True
    begins[1:] |= np.isin(joined[:-1], ends)
    return np.insert(joined, np.flatnonzero(begins), vocabulary)


def _unigrams(stream: Ints, *, vocabulary: int) -> Counted:
    return Counted(
        keys=np.arange(vocabulary + 1),
        counts=np.bincount(stream, minlength=vocabulary + 1),
        suffixes=np.zeros(0, dtype=np.int64),
        begins=np.arange(vocabulary + 1) == vocabulary,
    )


def _distinct(keys: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """Sorted different keys, a place of each, the number of each place's key, and how often each stands there.

    As `np.unique`, but any place will do, which lets the sort be several times as fast as a stable one.
    """
    order = np.argsort(keys)
    ordered = keys[order]
    new = np.ones(len(keys), dtype=np.bool_)
    new[1:] = ordered[1:] != ordered[:-1]
    firsts = np.flatnonzero(new)
    inverse = np.empty(len(keys), dtype=np.int64)
    inverse[order] = np.cumsum(new) - 1
    return ordered[firsts], order[firsts], inverse, np.diff(np.append(firsts, len(keys)))


def _adjusted(counts: Counts, number: int) -> Ints:
    """Counts of Kneser-Ney: at the highest order n-grams, below it the different tokens before them."""
    level = counts.levels[number]
    if number + 1 == len(counts.levels):
        adjusted = level.counts.copy()
    else:
        before: Ints = np.bincount(counts.levels[number + 1].suffixes, minlength=len(level.keys))
        adjusted = np.where(level.begins, level.counts, before)
    if number == 0:
        adjusted[counts.vocabulary] = 0
    return adjusted


def _discounts(adjusted: Ints, *, order: int, fallback: bool) -> tuple[float, float, float]:
    """For counts of 1, of 2, and of 3 or more (Chen and Goodman 1998, equation 26)."""
    ones, twos, threes, fours = (int(n) for n in np.bincount(np.minimum(adjusted, 5), minlength=6)[1:5])
    if min(ones, twos, threes) > 0:
        share = ones / (ones + 2 * twos)
        found = (1 - 2 * share * twos / ones, 2 - 3 * share * threes / twos, 3 - 4 * share * fours / threes)
        if all(0 <= discount <= count for count, discount in enumerate(found, start=1)):
            return found
    if fallback:
        return FALLBACK
    raise UsageError(
        f"the text defines no Kneser-Ney discounts of order {order}: {ones} of its n-grams count 1, {twos} count 2, "
        f"{threes} count 3, {fours} count 4, and their numbers must fall; the text is too short for this order or "
        "this vocabulary, or its vocabulary is so small that every token is frequent. Give more text, a lower order, "
        "another vocabulary, or fallback=1, which discounts "
        f"{FALLBACK[0]:g}, {FALLBACK[1]:g} and {FALLBACK[2]:g} there."
    )


def _limits(cutoffs: Sequence[int], *, order: int) -> list[int]:
    given = list(cutoffs) or [0]
    limits = [*given, *[given[-1]] * order][:order]
    if sorted(limits) != limits:
        raise UsageError(
            f"cut-offs must not fall from one order to the next, were {'+'.join(map(str, given))}: an n-gram that "
            "stays needs the shorter ones inside it."
        )
    return limits


def _with_backoffs(level: NgramOrder, weights: Floats) -> NgramOrder:
    return NgramOrder(keys=level.keys, logprobs=level.logprobs, backoffs=_log(weights))


def _log(values: Floats) -> Floats32:
    with np.errstate(divide="ignore"):
        found: Floats32 = np.maximum(np.log(values), NEVER).astype(np.float32)
    return found
