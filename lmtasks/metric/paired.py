"""Two systems on the same examples: is the difference more than chance?

Where every example is right or wrong: McNemar's test in its exact form. Of the discordant examples (one system right,
the other wrong) half should favour either system; p is the binomial probability of a split as uneven, on both sides.
Everything else: approximate randomization (Riezler & Maxwell 2005, https://aclanthology.org/W05-0908): swap the systems
on each example with probability 1/2, recompute, count differences as large: p = (1 + count) / (1 + resamples).
The interval of the difference is the paired bootstrap's percentile interval for both.

Accuracy, 1 example that only a has right and 5 that only b has right: p = 2 (1 + 6) / 2^6 = 0.21875.
"""

from dataclasses import dataclass

import numpy as np

from lmtasks.errors import WorkError
from lmtasks.metric.base import Metric
from lmtasks.metric.interval import percentile_interval
from lmtasks.metric.resample import bootstrap_sums, swapped_sums
from lmtasks.records import Floats

MCNEMAR = "exact McNemar"
RANDOMIZATION = "approximate randomization"


@dataclass(frozen=True, kw_only=True)
class PairedResult:
    """b compared with a: what changes when a is replaced by b."""

    n: int
    a: float
    b: float
    difference: float
    """b - a, as the metric counts: above zero is worse where lower is better.
    Fractions and points in points (0-100), raw metrics in their own unit."""
    ci95: tuple[float, float] | None
    """Of the difference; None for a single example, or where a value is infinite."""
    p_value: float
    """That there is no difference, two-sided."""
    test: str
    """Which test gave the p-value: MCNEMAR or RANDOMIZATION."""
    wins: int
    """Examples on which b is better than a (whichever direction is better)."""
    ties: int
    losses: int


def compare(
    metric: Metric, a_statistics: Floats, b_statistics: Floats, *, resamples: int = 1000, seed: int = 1234
) -> PairedResult:
    """Compares two systems by their statistics, (N, K) each, over the same examples in the same order.

    Raises:
        WorkError: the statistics are not of the same examples, or there are none.
    """
    if a_statistics.shape != b_statistics.shape or len(a_statistics) == 0:
        raise WorkError(
            f"{metric.name}: a paired comparison needs the same examples on both sides, was given statistics of shape "
            f"{a_statistics.shape} and {b_statistics.shape}."
        )
    a, b = (float(metric.aggregate(each.sum(axis=0))) for each in (a_statistics, b_statistics))
    a_values, b_values = metric.per_example(a_statistics), metric.per_example(b_statistics)
    gains = np.sign(_change(a_values, b_values)) * (1 if metric.higher_is_better else -1)
    unit = 100.0 if metric.scale == "fraction" else 1.0

    binary = metric.kind == "mean" and bool(np.isin([a_values, b_values], (0.0, 1.0)).all())
    if binary:
        p_value = mcnemar(int((gains > 0).sum()), int((gains < 0).sum()))
    else:
        p_value = _randomization(metric, a_statistics, b_statistics, resamples, seed)
    return PairedResult(
        n=len(a_statistics),
        a=a,
        b=b,
        difference=unit * float(_change(np.array(a), np.array(b))),
        ci95=_interval(metric, a_statistics, b_statistics, resamples, seed, unit),
        p_value=p_value,
        test=MCNEMAR if binary else RANDOMIZATION,
        wins=int((gains > 0).sum()),
        ties=int((gains == 0).sum()),
        losses=int((gains < 0).sum()),
    )


def mcnemar(wins: int, losses: int) -> float:
    """Exact two-sided p-value of a split of discordant pairs.

    >>> mcnemar(5, 1)
    0.21875
    """
    n = wins + losses
    ways = total = 1  # integers: exact, however many
    for k in range(min(wins, losses)):
        ways = ways * (n - k) // (k + 1)
        total += ways
    return min(1.0, 2 * total / (1 << n))


def _randomization(metric: Metric, a_statistics: Floats, b_statistics: Floats, resamples: int, seed: int) -> float:
    moved = swapped_sums(b_statistics - a_statistics, resamples=resamples, seed=seed)
    a_sums, b_sums = a_statistics.sum(axis=0), b_statistics.sum(axis=0)
    seen = abs(_change(metric.aggregate(a_sums), metric.aggregate(b_sums)))
    shuffled = abs(_change(metric.aggregate(a_sums + moved), metric.aggregate(b_sums - moved)))
    # The same examples summed in another order differ in the last bits; such a difference is as large. (inf also is.)
    as_large = shuffled >= seen * (1 - 1e-9) - 1e-12
    return float(1 + as_large.sum()) / (1 + resamples)


def _interval(
    metric: Metric, a_statistics: Floats, b_statistics: Floats, resamples: int, seed: int, unit: float
) -> tuple[float, float] | None:
    if len(a_statistics) < 2:
        return None
    columns = a_statistics.shape[1]
    sums = bootstrap_sums(np.hstack([a_statistics, b_statistics]), resamples=resamples, seed=seed)
    replicates = _change(metric.aggregate(sums[:, :columns]), metric.aggregate(sums[:, columns:]))
    return percentile_interval(unit * replicates)


def _change(a: Floats, b: Floats) -> Floats:
    """b - a, and 0 where both are the same infinity."""
    return np.subtract(b, a, out=np.zeros_like(a), where=a != b)
