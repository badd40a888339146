"""A metric's value with its standard error and 95 % interval.

Means: s / sqrt(n) with the sample deviation (n - 1), and value +- 1.96 of it, cut to the scale's range.
Means of zeros and ones: the same standard error, but Wilson's interval (1927), which stays right near 0 and 1:
8 of 8 right answers are 1.0 with (0.68, 1.0), not 1.0 +- 0.
Functions of a ratio of sums (perplexity per word, bits per byte): the ratio estimator (Cochran 1977, chapter 6) and the
delta method; the interval is made for the ratio and then transformed, so a perplexity's is wider above than below.
Everything else: a bootstrap over examples (Efron & Tibshirani 1993), its percentiles and its deviation.
One example tells no uncertainty.

With clusters (several questions about one passage) the residuals of a cluster are added before they are squared, times
G / (G - 1) for G clusters (Miller 2024, https://arxiv.org/abs/2411.00640; Cameron & Miller 2015), and the bootstrap
draws clusters. Where every cluster has one example, all is as without.

Accuracy 3/4: s = 0.5, standard error 0.25, Wilson's interval (0.30, 0.95).

lm-evaluation-harness' own bootstrap (0.4.13, `api/metrics.py`): the same draws, so the same standard errors.

The original cuts `iters` draws into chunks of min(1000, iters); what does not fill a chunk is not drawn. Chunk i uses
`random.Random(i).choices(items, k=n)` again and again, that is item floor(u n) for each u of the generator, and the
standard error is the sample deviation of all replicates. It draws for the aggregations of `BOOTSTRAPPED`, at most
`FEWER` times for metrics of the names in `COSTLY`; means have their closed form there too, the rest has none.

`numpy.random.RandomState([i]).random_sample()` yields the numbers of `random.Random(i).random()` (both are the Mersenne
Twister, seeded by an array of one number, and make a float of 53 bits in the same way; a test compares them).
Chunks do not depend on each other: they run on all cores, as the original's do.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np

from lmtasks.cores import usable_cores
from lmtasks.errors import WorkError
from lmtasks.metric.base import IDENTITY, Formula, Metric, Scale, resampled, value_of
from lmtasks.metric.custom_aggregations import present
from lmtasks.metric.resample import bootstrap_weights, by_cluster, cluster_numbers, distinct
from lmtasks.records import Estimate, Floats, Ints

Draws = Literal["ours", "lm-eval"]

RANGES: Mapping[Scale, tuple[float, float]] = {"fraction": (0.0, 1.0), "points": (0.0, 100.0), "raw": (0.0, np.inf)}
"""Which values a mean on this scale can take; a raw one may be negative where its examples are."""

RESAMPLES = 1000
NORMAL_95 = 1.96
PERCENTILES_95 = (2.5, 97.5)

Uncertainty = tuple[float | None, tuple[float, float] | None]
UNKNOWN: Uncertainty = (None, None)

BOOTSTRAPPED = frozenset(
    {"median", "matthews_corrcoef", "f1", "perplexity", "bleu", "chrf", "chrf++", "ter", "nanmean"}
)
COSTLY = frozenset({"bleu", "chrf", "chrf++", "ter"})
FEWER = 100
DRAWS = 100_000
"""The original's default, `bootstrap_iters`."""
CHUNK = 1000
CELLS_AT_ONCE = 1 << 16
"""Draws x items in one block: they stay in the processor's cache."""
MOST_SUMS = 4
"""Up to so many columns it is faster to sum what was drawn than to count it."""


def estimate(
    metric: Metric,
    statistics: Floats,
    *,
    resamples: int | None = None,
    seed: int = 1234,
    clusters: Sequence[object] | None = None,
    draws: Draws = "ours",
) -> Estimate:
    """The value over the examples of `statistics`, (N, K).

    Args:
        resamples: of the bootstrap; without it 1,000, or 100,000 of the original's.
        clusters: which examples belong together, one value for each; None: all are independent.
        draws: `lm-eval` takes lm-evaluation-harness' standard errors: its own random draws where it bootstraps, no
            clusters. Metrics for which it has none keep ours.

    Raises:
        WorkError: there are no examples, or not as many clusters.
    """
    groups = cluster_numbers(clusters, len(statistics))
    kept = present(statistics)
    statistics = statistics[kept]
    if groups is not None:
        groups = np.unique(groups[kept], return_inverse=True)[1]
    if len(statistics) == 0:
        raise WorkError(f"{metric.name}: there are no examples to score.")
    value = value_of(metric, statistics)
    if len(statistics) < 2 or not np.isfinite(value):
        stderr, ci95 = UNKNOWN
    elif draws == "lm-eval" and metric.original in BOOTSTRAPPED:
        replicates = original_replicates(metric, statistics, draws=resamples or DRAWS)
        stderr, ci95 = _of_replicates(metric, replicates, value)
    elif metric.rate is not None:
        closed_there = draws == "lm-eval" and metric.original == "mean"
        stderr, ci95 = _closed(metric, statistics, value, None if closed_there else groups)
    else:
        stderr, ci95 = _bootstrap(metric, statistics, value, resamples or RESAMPLES, seed, groups)
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


def wilson_interval(share: float, n: float) -> tuple[float, float]:
    """95 % interval of a share of n independent answers (Wilson, 1927).

    >>> [round(end, 4) for end in wilson_interval(0.75, 4)]
    [0.3006, 0.9544]
    """
    z2 = NORMAL_95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = NORMAL_95 * np.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def ratio_error(numerators: Floats, denominators: Floats, clusters: Ints | None = None) -> float | None:
    """Standard error of the ratio of two sums, (N,) each; None where there is but one cluster.

    Where all denominators are 1 it is that of a mean, s / sqrt(n).

    >>> round(ratio_error(np.array([1.0, 1.0, 1.0, 0.0]), np.ones(4)), 4)
    0.25
    """
    residuals = numerators - numerators.sum() / denominators.sum() * denominators
    if clusters is not None:
        residuals = by_cluster(residuals[:, None], clusters)[:, 0]
    units = len(residuals)
    if units < 2:
        return None
    return float(np.sqrt(units / (units - 1) * np.square(residuals).sum()) / denominators.sum())


def _closed(metric: Metric, statistics: Floats, value: float, clusters: Ints | None) -> Uncertainty:
    """Of a function of column 0 over column 1."""
    rate = metric.rate or IDENTITY
    tops, units = statistics[:, 0], statistics[:, 1]
    ratio = np.array(tops.sum() / max(units.sum(), 1.0))
    error = ratio_error(tops, units, clusters) if units.sum() > 0 else None
    if error is None:
        return UNKNOWN
    stderr = float(abs(rate.slope(ratio))) * error
    if metric.kind == "mean" and metric.scale == "fraction" and np.isin(tops[units > 0], (0.0, 1.0)).all():
        return stderr, wilson_interval(value, _effective_size(value, error, len(tops), clusters))
    ends = sorted(float(rate.value(ratio + sign * NORMAL_95 * error)) for sign in (-1, 1))
    lowest, highest = RANGES[metric.scale]
    if metric.scale == "raw" and rate is IDENTITY and (tops < 0).any():
        lowest = -np.inf
    return stderr, (max(lowest, ends[0]), min(highest, ends[1]))


def _effective_size(share: float, error: float, n: int, clusters: Ints | None) -> float:
    """How many independent answers would tell as much (Korn & Graubard 1998)."""
    if clusters is None:
        return n
    groups = int(clusters.max()) + 1
    return min(n, 1 + share * (1 - share) / error**2) if error > 0 else groups


def _bootstrap(
    metric: Metric, statistics: Floats, value: float, resamples: int, seed: int, clusters: Ints | None
) -> Uncertainty:
    if clusters is not None and int(clusters.max()) == 0:
        return UNKNOWN
    if clusters is not None and metric.weighted is None:
        statistics, clusters = by_cluster(statistics, clusters), None
    rows, codes = distinct(statistics) if clusters is None else (statistics, np.arange(len(statistics)))
    blocks = bootstrap_weights(codes, resamples=resamples, seed=seed, clusters=clusters)
    return _of_replicates(metric, np.concatenate([resampled(metric, rows, block) for block in blocks]), value)


def _of_replicates(metric: Metric, replicates: Floats, value: float) -> Uncertainty:
    interval = percentile_interval(replicates) if len(replicates) > 1 else None
    if interval is None:
        return UNKNOWN
    stderr = float(replicates.std(ddof=1))
    if metric.skewed:
        lowest, highest = RANGES[metric.scale]
        interval = max(lowest, value - NORMAL_95 * stderr), min(highest, value + NORMAL_95 * stderr)
    return stderr, interval


def original_replicates(metric: Metric, statistics: Floats, *, draws: int) -> Floats:
    """The values of all of the original's resamples, in its order; empty where it draws none for this metric.

    Args:
        draws: its `bootstrap_iters`.
    """
    if metric.original not in BOOTSTRAPPED:
        return np.empty(0)
    wanted = min(draws, FEWER) if metric.name in COSTLY else draws
    chunk = min(CHUNK, wanted)
    one = _Chunk(metric, statistics, size=chunk)
    with ThreadPoolExecutor(max_workers=usable_cores()) as pool:
        return np.concatenate([np.empty(0), *pool.map(one, range(wanted // chunk))])


class _Chunk:
    """Chunk number -> its replicates."""

    def __init__(self, formula: Formula, statistics: Floats, *, size: int) -> None:
        self.formula, self.statistics, self.size = formula, statistics, size
        self.rows, self.codes = distinct(statistics)
        moving = np.flatnonzero(np.ptp(statistics, axis=0)).tolist() if formula.weighted is None else []
        self.columns = {place: np.ascontiguousarray(statistics[:, place]) for place in moving}
        self.ones = np.ones(len(statistics))

    def __call__(self, chunk: int) -> Floats:
        blocks = drawn_items(chunk, n=len(self.codes), draws=self.size)
        if self._few_columns():
            return self.formula.aggregate(self._sums(blocks))
        return np.concatenate([self._by_counts(drawn) for drawn in blocks])

    def _few_columns(self) -> bool:
        return self.formula.weighted is None and len(self.rows) == len(self.codes) and len(self.columns) <= MOST_SUMS

    def _sums(self, blocks: Iterable[Ints]) -> Floats:
        sums = np.tile(self.statistics[0] * len(self.codes), (self.size, 1))
        start = 0
        for drawn in blocks:
            rows = slice(start, start + len(drawn))
            for place, column in self.columns.items():
                # wrap: nothing is out of bounds, and it looks at each place once. The product with ones is a sum.
                sums[rows, place] = column.take(drawn, mode="wrap") @ self.ones
            start = rows.stop
        return sums

    def _by_counts(self, drawn: Ints) -> Floats:
        kinds = len(self.rows)
        flat = (drawn if kinds == len(self.codes) else self.codes[drawn]) + kinds * np.arange(len(drawn))[:, None]
        counts = np.bincount(flat.ravel(), minlength=kinds * len(drawn)).reshape(len(drawn), kinds)
        return resampled(self.formula, self.rows, counts.astype(np.float64))


def drawn_items(chunk: int, *, n: int, draws: int) -> Iterator[Ints]:
    """Blocks (r, n) of the items that a chunk draws, `draws` rows in all."""
    stream = np.random.RandomState([chunk])
    size = max(1, CELLS_AT_ONCE // n)
    for start in range(0, draws, size):
        uniform = stream.random_sample((min(size, draws - start), n))
        uniform *= n
        # All are at least 0, so that cutting off is rounding down; to 32 bits first, which a processor does at once.
        yield uniform.astype(np.int32).astype(np.int64)
