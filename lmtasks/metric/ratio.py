"""How many times as much, from values that were measured in rounds.

A round measures everybody in alternation, so that what disturbs a machine disturbs all of them alike, and ratios are
formed within a round. The value is the geometric mean over rounds, its interval Student's t over the logarithms.

>>> ratio = ratio_of([2.0, 2.1, 1.9], [1.0, 1.0, 1.0])
>>> round(ratio.value, 3), [round(end, 2) for end in ratio.ci95]
(1.998, [1.76, 2.26])
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """How many times as much."""

    value: float
    """Geometric mean of the rounds' ratios."""
    ci95: tuple[float, float] | None
    """None for a single round."""
    rounds: tuple[float, ...]
    """Empty where the sides were not measured in the same rounds."""


def ratio_of(values: Sequence[float], base: Sequence[float]) -> Ratio:
    """Ratio of paired positive values, one pair a round."""
    from scipy.special import stdtrit

    ratios = tuple(a / b for a, b in zip(values, base, strict=True))
    logs = [math.log(ratio) for ratio in ratios]
    centre = fmean(logs)
    if len(logs) < 2:
        return Ratio(value=math.exp(centre), ci95=None, rounds=ratios)
    half = float(stdtrit(len(logs) - 1, 0.975)) * stdev(logs) / math.sqrt(len(logs))
    return Ratio(value=math.exp(centre), ci95=(math.exp(centre - half), math.exp(centre + half)), rounds=ratios)


def unpaired_ratio(values: Sequence[float], base: Sequence[float]) -> Ratio:
    """Ratio of positive values of rounds that did not alternate: Welch's interval over their logarithms.

    >>> ratio = unpaired_ratio([2.0, 2.1, 1.9], [1.0, 1.1, 0.9])
    >>> round(ratio.value, 2), [round(end, 2) for end in ratio.ci95]
    (2.01, [1.63, 2.47])
    """
    from scipy.special import stdtrit

    mine, theirs = [math.log(each) for each in values], [math.log(each) for each in base]
    centre = fmean(mine) - fmean(theirs)
    if len(mine) < 2 or len(theirs) < 2:
        return Ratio(value=math.exp(centre), ci95=None, rounds=())
    parts = [stdev(logs) ** 2 / len(logs) for logs in (mine, theirs)]
    if not sum(parts):
        return Ratio(value=math.exp(centre), ci95=(math.exp(centre), math.exp(centre)), rounds=())
    freedom = sum(parts) ** 2 / sum(part**2 / (len(logs) - 1) for part, logs in zip(parts, (mine, theirs), strict=True))
    half = float(stdtrit(freedom, 0.975)) * math.sqrt(sum(parts))
    return Ratio(value=math.exp(centre), ci95=(math.exp(centre - half), math.exp(centre + half)), rounds=())


def ratio_apart(
    values: Sequence[float],
    base: Sequence[float],
    *,
    intervals: Sequence[tuple[float, float] | None],
    base_intervals: Sequence[tuple[float, float] | None],
) -> Ratio:
    """Geometric mean of ratios of values that were measured apart, one pair a task, with the interval that theirs make.

    Args:
        intervals: 95 % intervals of `values`; one that is unknown leaves that of the ratio unknown.

    >>> ratio = ratio_apart([2.0], [1.0], intervals=[(1.9, 2.1)], base_intervals=[(0.9, 1.1)])
    >>> ratio.value, [round(end, 2) for end in ratio.ci95]
    (2.0, [1.79, 2.24])
    """
    logs = [math.log(a / b) for a, b in zip(values, base, strict=True)]
    known = [each for each in (*intervals, *base_intervals) if each is not None and each[0] > 0]
    value = math.exp(fmean(logs))
    if len(known) < 2 * len(logs):
        return Ratio(value=value, ci95=None, rounds=())
    half = math.sqrt(sum((math.log(high / low) / 2) ** 2 for low, high in known)) / len(logs)
    return Ratio(value=value, ci95=(value * math.exp(-half), value * math.exp(half)), rounds=())
