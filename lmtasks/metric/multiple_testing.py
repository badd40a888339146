"""Several comparisons made together: what they show when all are counted.

At p < 0.05 one of twenty comparisons of equal systems "shows" something. Holm's step-down procedure (Holm 1979,
https://www.jstor.org/stable/4615733) keeps the chance of a single false alarm among all at 5 %: the smallest of m
p-values is multiplied by m, the next by m - 1, ..., and none falls below the one before it.
"""

from collections.abc import Sequence
from typing import Literal

SURE = 0.05
"""A difference counts where chance would show one as large less often than this, over all comparisons together."""

Verdict = Literal["better", "worse", "open"]
"""open: no difference is shown, which is not to say that there is none."""


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Adjusted p-values, in the order that was given.

    >>> [round(p, 4) for p in holm([0.01, 0.04, 0.03, 0.005])]
    [0.03, 0.06, 0.06, 0.02]
    """
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return tuple(adjusted)


def verdict(difference: float, *, p_value: float, higher_is_better: bool, sure: float = SURE) -> Verdict:
    """Which way a difference goes, where it is shown at all.

    Args:
        difference: of what replaces and what was there, as the metric counts.
        p_value: adjusted for all comparisons that were made together.
    """
    if p_value >= sure or difference == 0:
        return "open"
    return "better" if (difference > 0) == higher_is_better else "worse"


def resamples_for(comparisons: int) -> int:
    """Resamples of a test whose smallest p-value is 1 / (1 + resamples), so that it can pass Holm's procedure."""
    return max(1000, 200 * comparisons)
