"""Drops in quality: how much worse one artefact is than another on the same examples, and whether it could be worse
than allowed.

A drop is in points of 100; of a metric that has no such scale (perplexity) it is in percent of the first one's value.
What is measured decides; the interval says how sure that is, and how many examples it would take to be sure.

Shares (every example right or wrong): the interval of Bonett & Price (2012, https://doi.org/10.3102/1076998611411915),
Wald's with one more example on either side, which stays honest where hardly any example differs: of 300 examples on
which nothing differs, the bootstrap's would say [0, 0]. Everything else: the paired bootstrap of `compare`; and where
no example differs at all, at most 1 - 0.025^(1/n) of them do, and each of those costs all 100 points at most.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from lmtasks.errors import WorkError
from lmtasks.metric.base import Metric
from lmtasks.metric.interval import NORMAL_95
from lmtasks.metric.paired import COHENS_H, PairedResult, compare
from lmtasks.records import Floats

Unit = Literal["points", "%"]

ROUNDING = 1e-9
"""1 of 200 answers is 0.5 points, also in floating point."""
TAIL = 0.025
MOST_EXAMPLES = 10**9

Ends = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Loss:
    """A difference of two values, turned so that above zero is worse."""

    value: float
    ci95: Ends | None
    unit: Unit


def loss_of(
    difference: float, *, base: float, ci95: Sequence[float] | None, scale: str, higher_is_better: bool
) -> Loss:
    """A difference, as `compare` gives it, as a loss.

    Args:
        difference: the second value less the first one; in points, or as a metric without such a scale counts.
        base: the first value.
        ci95: of the difference.
        scale: of the metric, as in `Estimate`.
        higher_is_better: of the metric.

    >>> loss_of(-0.5, base=0.9, ci95=(-1.0, 0.25), scale="fraction", higher_is_better=True)
    Loss(value=0.5, ci95=(-0.25, 1.0), unit='points')
    >>> loss_of(3.0, base=20.0, ci95=None, scale="raw", higher_is_better=False)
    Loss(value=15.0, ci95=None, unit='%')
    """
    unit: Unit = "%" if scale == "raw" else "points"
    factor = 100 / abs(base) if unit == "%" and base else 1.0
    factor = -factor if higher_is_better else factor
    ends = None if ci95 is None else sorted(factor * float(end) for end in ci95)
    # no minus before a zero
    return Loss(
        value=factor * difference + 0.0, ci95=None if ends is None else (ends[0] + 0.0, ends[1] + 0.0), unit=unit
    )


@dataclass(frozen=True, kw_only=True)
class Drop:
    """Drop from `base` to `found`."""

    n: int
    base: float
    found: float
    """Values as the metric counts."""
    unit: Unit
    """Of `drop`, `ci95` and `most`."""
    drop: float
    """Above zero: worse."""
    ci95: Ends | None
    """None for a single example, or where a value is infinite."""
    most: float
    """Allowed."""
    ok: bool
    """Is the drop that was measured at most that?"""
    excluded: bool
    """Does the interval exclude a larger one?"""
    needed: int | None
    """Examples that would exclude it, if they differed as these do; None where it is excluded, or no number would."""
    better: int
    """Examples on which `found` is better."""
    equal: int
    worse: int


def measure_drop(
    metric: Metric,
    base: Floats,
    found: Floats,
    *,
    most: float,
    seed: int = 1234,
    clusters: Sequence[object] | None = None,
) -> Drop:
    """Compare the statistics of two artefacts, (N, K) each, over the same examples in the same order.

    Raises:
        WorkError: they are not of the same examples, or the first one's value is no number to measure a drop from.
    """
    result = compare(metric, base, found, seed=seed, clusters=clusters)
    if not math.isfinite(result.a) or (metric.scale == "raw" and result.a == 0):
        raise WorkError(f"{metric.name} is {result.a} in fp32: no drop can be measured from that.")
    loss = loss_of(
        result.difference,
        base=result.a,
        ci95=result.ci95,
        scale=metric.scale,
        higher_is_better=metric.higher_is_better,
    )
    drop = loss.value
    interval = _interval(result, drop, loss.ci95, clusters)
    ci95 = interval(result.n)
    sure = ci95 is not None and ci95[1] <= most + ROUNDING
    ok = bool(drop <= most + ROUNDING)
    return Drop(
        n=result.n,
        base=result.a,
        found=result.b,
        unit=loss.unit,
        drop=drop,
        ci95=ci95,
        most=most,
        ok=ok,
        excluded=sure,
        needed=None if sure or not ok else _needed(interval, result.n, most),
        better=result.wins,
        equal=result.ties,
        worse=result.losses,
    )


def share_interval(n: float, *, worse: float, better: float) -> Ends:
    """95 % interval of a drop in points: of n examples so many are right in one artefact alone (Bonett & Price 2012).

    >>> [round(end, 2) for end in share_interval(1000, worse=6, better=2)]
    [-0.22, 1.02]
    >>> [round(end, 2) for end in share_interval(300, worse=0, better=0)]
    [-0.92, 0.92]
    """
    lost, won = (worse + 1) / (n + 2), (better + 1) / (n + 2)
    centre = lost - won
    half = NORMAL_95 * math.sqrt((lost + won - centre**2) / (n + 2))
    return max(-100.0, 100 * (centre - half)), min(100.0, 100 * (centre + half))


_Interval = Callable[[int], Ends | None]
"""What so many examples, which differ as those seen do, would tell."""


def _interval(result: PairedResult, drop: float, ends: Ends | None, clusters: Sequence[object] | None) -> _Interval:
    if clusters is None and result.effect_name == COHENS_H:
        shares = result.losses / result.n, result.wins / result.n
        return lambda n: share_interval(n, worse=n * shares[0], better=n * shares[1])
    if result.wins + result.losses == 0 and drop == 0:
        units = result.n if clusters is None else len({repr(each) for each in clusters})

        def equal_ends(n: int) -> Ends:
            most = 100 * (1 - TAIL ** (result.n / (n * units)))
            return -most, most

        return equal_ends

    def spread(n: int) -> Ends | None:
        shrunk = math.sqrt(result.n / n)
        return None if ends is None else (drop - (drop - ends[0]) * shrunk, drop + (ends[1] - drop) * shrunk)

    return spread


def _needed(interval: _Interval, n: int, most: float) -> int | None:
    """The smallest number of examples whose interval would exclude a larger drop."""

    def excludes(count: int) -> bool:
        found = interval(count)
        return found is not None and found[1] <= most

    if not excludes(MOST_EXAMPLES):
        return None
    low, high = n, MOST_EXAMPLES
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if excludes(middle) else (middle, high)
    return high
