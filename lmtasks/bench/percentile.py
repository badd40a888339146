"""Percentiles only where there are enough samples for them, and intervals of throughputs.

How many samples (MLPerf loadgen, `early_stopping.cc`): if n samples all lie below a value, it is not below the p-th
percentile with 99 % confidence once p^n < 1 %, so n = ceil(ln 0.01 / ln p).

>>> [least_samples(p) for p in (50, 90, 95, 99)]
[7, 44, 90, 459]
>>> percentile([1.0, 2.0, 3.0], 50) is None  # three samples tell no median
True
"""

import math
from collections.abc import Sequence

import numpy as np

PERCENTILES = (50, 90, 95, 99)
CONFIDENCE = 0.99
RESAMPLES = 1000
INTERVAL_95 = (2.5, 97.5)


def least_samples(p: float) -> int:
    """How many samples the p-th percentile needs, 0 < p < 100."""
    return math.ceil(math.log(1 - CONFIDENCE) / math.log(p / 100))


def percentile(samples: Sequence[float], p: float) -> float | None:
    """The p-th percentile, linear between samples as NumPy has it; None with fewer samples than it needs."""
    return float(np.percentile(samples, p)) if len(samples) >= least_samples(p) else None


def upper_bound(samples: Sequence[float], p: float) -> float | None:
    """The p-th percentile is at most this, with 99 % confidence; None with fewer samples than `least_samples`.

    The smallest order statistic k with P(Binomial(n, p) < k) >= 0.99, MLPerf's early-stopping estimate: it assumes
    nothing of how the samples are distributed. With the least number of samples it is the largest of them.

    >>> upper_bound(range(100), 90), upper_bound(range(1000), 90)
    (96, 921)
    """
    n, share = len(samples), p / 100
    if n < least_samples(p):
        return None
    from scipy.special import bdtr

    k = int(np.searchsorted(bdtr(np.arange(n + 1), n, share), CONFIDENCE))
    return sorted(samples)[min(k, n - 1)]


def rounded(value: float) -> float:
    """Six digits, which is more than any timing has."""
    return float(f"{value:.6g}")


def throughput_interval(
    *, units: Sequence[float], seconds: Sequence[float], seed: int = 1234
) -> tuple[float, float] | None:
    """95 % bootstrap interval of sum(units) / sum(seconds) over calls; None for a single call."""
    if len(units) < 2:
        return None
    drawn = np.random.default_rng(seed).integers(len(units), size=(RESAMPLES, len(units)))
    rates = np.asarray(units, float)[drawn].sum(axis=1) / np.asarray(seconds, float)[drawn].sum(axis=1)
    low, high = np.percentile(rates, INTERVAL_95)
    return float(low), float(high)
