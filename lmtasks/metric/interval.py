"""A metric's value with its standard error and 95 % interval.

Means: s / sqrt(n) with the sample deviation (n - 1), and value +- 1.96 of it, cut to the scale's range.
Means of zeros and ones: the same standard error, but Wilson's interval (1927), which stays right near 0 and 1:
8 of 8 right answers are 1.0 with (0.68, 1.0), not 1.0 +- 0.
Everything else: a bootstrap over examples (Efron & Tibshirani 1993), its percentiles and its deviation.
One example tells no uncertainty.

Accuracy 3/4: s = 0.5, standard error 0.25, Wilson's interval (0.30, 0.95).
"""

from collections.abc import Mapping

import numpy as np

from lmtasks.errors import WorkError
from lmtasks.metric.base import Metric, Scale
from lmtasks.metric.resample import bootstrap_sums
from lmtasks.records import Estimate, Floats

RANGES: Mapping[Scale, tuple[float, float]] = {"fraction": (0.0, 1.0), "points": (0.0, 100.0), "raw": (0.0, np.inf)}
"""Which values a mean on this scale can take."""

NORMAL_95 = 1.96
PERCENTILES_95 = (2.5, 97.5)


def estimate(metric: Metric, statistics: Floats, *, resamples: int = 1000, seed: int = 1234) -> Estimate:
    """The value over the examples of `statistics`, (N, K).

    Raises:
        WorkError: there are no examples.
    """
    if len(statistics) == 0:
        raise WorkError(f"{metric.name}: there are no examples to score.")
    value = float(metric.aggregate(statistics.sum(axis=0)))
    stderr, ci95 = _uncertainty(metric, statistics, value, resamples, seed)
    return Estimate(
        value=value,
        stderr=stderr,
        ci95=ci95,
        higher_is_better=metric.higher_is_better,
        scale=metric.scale,
        signature=metric.signature,
    )


def percentile_interval(replicates: Floats) -> tuple[float, float] | None:
    """(R,) -> 2.5th and 97.5th percentile; None where a replicate is infinite."""
    if not np.isfinite(replicates).all():
        return None
    low, high = np.percentile(replicates, PERCENTILES_95)
    return float(low), float(high)


def wilson_interval(share: float, n: int) -> tuple[float, float]:
    """95 % interval of a share of n independent answers (Wilson, 1927).

    >>> [round(end, 4) for end in wilson_interval(0.75, 4)]
    [0.3006, 0.9544]
    """
    z2 = NORMAL_95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = NORMAL_95 * np.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def _uncertainty(
    metric: Metric, statistics: Floats, value: float, resamples: int, seed: int
) -> tuple[float | None, tuple[float, float] | None]:
    n = len(statistics)
    if n < 2:
        return None, None
    if metric.kind == "mean":
        values = metric.per_example(statistics)
        stderr = float(values.std(ddof=1) / np.sqrt(n))
        if metric.scale == "fraction" and np.isin(values, (0.0, 1.0)).all():
            return stderr, wilson_interval(value, n)
        lowest, highest = RANGES[metric.scale]
        return stderr, (max(lowest, value - NORMAL_95 * stderr), min(highest, value + NORMAL_95 * stderr))
    replicates = metric.aggregate(bootstrap_sums(statistics, resamples=resamples, seed=seed))
    interval = percentile_interval(replicates)
    return (None, None) if interval is None else (float(replicates.std(ddof=1)), interval)
