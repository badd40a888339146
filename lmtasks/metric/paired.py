"""Two systems on the same examples: is the difference more than chance, how large is it, what could have been seen?

Where every example is right or wrong: McNemar's test in its exact form. Of the discordant examples (one system right,
the other wrong) half should favour either system; p is the binomial probability of a split as uneven, on both sides.
Everything else: approximate randomization (Riezler & Maxwell 2005, https://aclanthology.org/W05-0908): swap the systems
on each example with probability 1/2, recompute, count differences as large: p = (1 + count) / (1 + resamples).
The interval of the difference is Tango's score interval (1998) where McNemar's test is used: the differences that a
score test does not reject, so that equal answers to 20 examples exclude no loss of 10 points. Bowyer et al. (2025,
https://arxiv.org/abs/2503.01747) show how much too narrow normal and percentile intervals are below some hundreds of
examples. Everything else has the paired bootstrap's percentile interval.
Where examples form clusters, clusters are swapped and drawn, and McNemar's test, which needs independent examples, is
not used.

Effect sizes (Cohen 1988): h, the difference of 2 asin(sqrt(share)), for shares; d_z, the mean difference over the
deviation of differences, for other means; none for corpus scores, where the difference itself says all.
The smallest difference that would be seen four times in five (80 % power, two-sided 5 %) is (1.96 + 0.84) standard
errors of the difference as these examples show it, and at least what six discordant examples make: no fewer pass
McNemar's test.

Where both systems were made several times, by other seeds, the difference is the mean over the seeds. Its variance is
that over examples (the bootstrap's, of the mean over seeds) and that between seeds, divided by their number; p-value
and interval are Student's, with the degrees of freedom of Welch and Satterthwaite. What examples and seeds do together
counts twice, so that the test errs on the side of "open".

Accuracy, 1 example that only a has right and 5 that only b has right: p = 2 (1 + 6) / 2^6 = 0.21875.

Several comparisons made together: what they show when all are counted.

At p < 0.05 one of twenty comparisons of equal systems "shows" something. Holm's step-down procedure (Holm 1979,
https://www.jstor.org/stable/4615733) keeps the chance of a single false alarm among all at 5 %: the smallest of m
p-values is multiplied by m, the next by m - 1, ..., and none falls below the one before it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from lmtasks.errors import WorkError
from lmtasks.metric.base import Metric, resampled, value_of
from lmtasks.metric.custom_aggregations import present
from lmtasks.metric.interval import NORMAL_95, percentile_interval
from lmtasks.metric.resample import bootstrap_weights, by_cluster, cluster_numbers, distinct, swap_weights
from lmtasks.records import Floats, Ints

MCNEMAR = "exact McNemar"
RANDOMIZATION = "approximate randomization"
STUDENT = "Student's t over examples and seeds"
COHENS_H = "h"
COHENS_D = "d_z"

POWER_80 = 1.96 + 0.8416
"""Normal quantiles of a two-sided 5 % and of 80 %."""

ROUNDING = 1e-9
"""A deviation below this share of the values themselves is rounding: all examples differ by the same."""

FEWEST_DISCORDANT = 6
"""2 / 2^6 is the first exact two-sided p below 0.05."""

SURE = 0.05
"""A difference counts where chance would show one as large less often than this, over all comparisons together."""
Verdict = Literal["better", "worse", "open"]
"""open: no difference is shown, which is not to say that there is none."""


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
    """Which test gave the p-value: MCNEMAR, RANDOMIZATION or, over several seeds, STUDENT."""
    effect: float | None
    """b - a as an effect size; None where there is none, or where all examples differ by the same."""
    effect_name: str
    """COHENS_H or COHENS_D; empty for corpus scores."""
    detectable: float | None
    """The smallest difference that n such examples would show four times in five, in the unit of `difference`; None
    where nothing differs that would tell."""
    wins: int
    """Examples on which b is better than a (whichever direction is better)."""
    ties: int
    losses: int


def compare(
    metric: Metric,
    a_statistics: Floats,
    b_statistics: Floats,
    *,
    resamples: int = 1000,
    seed: int = 1234,
    clusters: Sequence[object] | None = None,
) -> PairedResult:
    """Compares two systems by their statistics, (N, K) each, over the same examples in the same order.

    Args:
        clusters: which examples belong together, one value for each; None: all are independent.

    Raises:
        WorkError: the statistics are not of the same examples, or there are none.
    """
    if a_statistics.shape != b_statistics.shape or len(a_statistics) == 0:
        raise WorkError(
            f"{metric.name}: a paired comparison needs the same examples on both sides, was given statistics of shape "
            f"{a_statistics.shape} and {b_statistics.shape}."
        )
    pairs = _pairs(metric, a_statistics, b_statistics, cluster_numbers(clusters, len(a_statistics)))
    a, b = (value_of(metric, rows) for rows in (pairs.a, pairs.b))
    a_values, b_values = metric.per_example(pairs.a), metric.per_example(pairs.b)
    gains = np.sign(_change(a_values, b_values)) * (1 if metric.higher_is_better else -1)
    unit = 100.0 if metric.scale == "fraction" else 1.0

    shares = metric.kind == "mean" and bool(np.isin([a_values, b_values], (0.0, 1.0)).all())
    exact = shares and pairs.clusters is None
    wins, losses = int((gains > 0).sum()), int((gains < 0).sum())
    units = _units(metric, pairs)
    replicates = _differences(metric, units, resamples, seed)
    return PairedResult(
        n=len(pairs.a),
        a=a,
        b=b,
        difference=unit * float(_change(np.array(a), np.array(b))),
        ci95=_interval(unit * replicates, a_values, b_values, exact=exact, unit=unit),
        p_value=mcnemar(wins, losses) if exact else _randomization(metric, units, resamples, seed),
        test=MCNEMAR if exact else RANDOMIZATION,
        effect=cohens_h(a, b) if shares else cohens_d(b_values - a_values) if metric.kind == "mean" else None,
        effect_name=COHENS_H if shares else COHENS_D if metric.kind == "mean" else "",
        detectable=_detectable(replicates, len(pairs.a), unit, shares=shares),
        wins=wins,
        ties=int((gains == 0).sum()),
        losses=losses,
    )


def compare_over_seeds(
    metric: Metric,
    pairs: Sequence[tuple[Floats, Floats]],
    *,
    resamples: int = 1000,
    seed: int = 1234,
    clusters: Sequence[object] | None = None,
) -> PairedResult:
    """Compare two systems that were made several times.

    Args:
        pairs: statistics of both, (N, K) each, over the same examples; one pair a seed.
        clusters: as `compare`.

    Raises:
        WorkError: the statistics are not of the same examples, or there are none.
    """
    if len(pairs) == 1:
        a, b = pairs[0]
        return compare(metric, a, b, resamples=resamples, seed=seed, clusters=clusters)
    shapes = {each.shape for pair in pairs for each in pair}
    if len(shapes) > 1 or not len(pairs[0][0]):
        raise WorkError(
            f"{metric.name}: a paired comparison needs the same examples on both sides and for every seed, was given "
            f"statistics of shape {', '.join(map(str, sorted(shapes)))}."
        )
    columns = pairs[0][0].shape[1]
    everywhere = np.all([present(each) for pair in pairs for each in pair], axis=0)
    numbers = cluster_numbers(clusters, len(everywhere))
    one, other = (np.hstack([pair[side][everywhere] for pair in pairs]) for side in (0, 1))
    joined = _pairs(metric, one, other, None if numbers is None else numbers[everywhere])

    def seeds_of(rows: Floats) -> list[Floats]:
        return [rows[:, start : start + columns] for start in range(0, rows.shape[1], columns)]

    a_values, b_values = ([value_of(metric, rows) for rows in seeds_of(side)] for side in (joined.a, joined.b))
    a_examples, b_examples = ([metric.per_example(rows) for rows in seeds_of(side)] for side in (joined.a, joined.b))
    differences = _change(np.array(a_values), np.array(b_values))
    units = _units(metric, joined)
    each_seed = zip(seeds_of(units.a), seeds_of(units.b), strict=True)  # the same seed: the same examples are drawn
    replicates = np.mean(
        [_differences(metric, replace(units, a=rows, b=others), resamples, seed) for rows, others in each_seed], axis=0
    )
    unit = 100.0 if metric.scale == "fraction" else 1.0
    difference = float(differences.mean())
    spread = _Spread.of(replicates, differences, n=len(joined.a))
    one_value, other_value = float(np.mean(a_values)), float(np.mean(b_values))
    changes = np.mean(b_examples, axis=0) - np.mean(a_examples, axis=0)
    gains = np.sign(changes) * (1 if metric.higher_is_better else -1)
    shares = metric.kind == "mean" and bool(np.isin([*a_examples, *b_examples], (0.0, 1.0)).all())
    return PairedResult(
        n=len(joined.a),
        a=one_value,
        b=other_value,
        difference=unit * difference,
        ci95=None if spread is None else spread.interval(difference, unit=unit),
        p_value=1.0 if spread is None else spread.p_value(difference, least=1 / (1 + resamples)),
        test=STUDENT,
        effect=cohens_h(one_value, other_value) if shares else cohens_d(changes) if metric.kind == "mean" else None,
        effect_name=COHENS_H if shares else COHENS_D if metric.kind == "mean" else "",
        detectable=unit * POWER_80 * spread.error if spread is not None and spread.error > 0 else None,
        wins=int((gains > 0).sum()),
        ties=int((gains == 0).sum()),
        losses=int((gains < 0).sum()),
    )


@dataclass(frozen=True, kw_only=True)
class _Spread:
    """Standard error of a difference over examples and seeds, and its degrees of freedom."""

    error: float
    freedom: float

    @classmethod
    def of(cls, replicates: Floats, differences: Floats, *, n: int) -> "_Spread | None":
        """None where there is one example, or a value is infinite."""
        if n < 2 or len(replicates) < 2 or not (np.isfinite(replicates).all() and np.isfinite(differences).all()):
            return None
        seeds = len(differences)
        examples, between = float(replicates.var(ddof=1)), float(differences.var(ddof=1)) / seeds
        weights = examples**2 / (n - 1) + between**2 / (seeds - 1)
        return cls(
            error=float(np.sqrt(examples + between)), freedom=(examples + between) ** 2 / weights if weights else 1
        )

    def interval(self, difference: float, *, unit: float) -> tuple[float, float]:
        from scipy.special import stdtrit

        half = float(stdtrit(self.freedom, 0.975)) * self.error
        return unit * (difference - half), unit * (difference + half)

    def p_value(self, difference: float, *, least: float) -> float:
        """`least` where all examples of all seeds differ by the same."""
        from scipy.special import stdtr

        if self.error == 0:
            return 1.0 if difference == 0 else least
        return 2 * float(stdtr(self.freedom, -abs(difference) / self.error))


def mcnemar(wins: int, losses: int) -> float:
    """Exact two-sided p-value of a split of discordant pairs; 1 where there are none.

    >>> round(mcnemar(5, 1), 12), mcnemar(0, 0)
    (0.21875, 1.0)
    """
    from scipy.special import bdtr

    if wins == losses:  # the middle one of an even number of splits: twice a half and more
        return 1.0
    return min(1.0, 2 * float(bdtr(min(wins, losses), wins + losses, 0.5)))


def tango_interval(more: int, less: int, n: int) -> tuple[float, float]:
    """95 % interval of the difference of two shares of the same n examples (Tango 1998, score interval).

    Args:
        more: examples that only the second has right.
        less: examples that only the first has right.

    Returns:
        The ends, as shares of 1.

    >>> [round(end, 4) for end in tango_interval(0, 0, 20)]
    [-0.1611, 0.1611]
    """
    from scipy.optimize import brentq

    def score(difference: float) -> float:
        """Standard normal where the true difference is that: falls as it grows."""
        b = -more - less + (2 * n - more + less) * difference
        c = -less * difference * (1 - difference)
        share = (np.sqrt(b * b - 8 * n * c) - b) / (4 * n)  # of the first alone, the likeliest one
        variance = n * (2 * share + difference * (1 - difference))
        return float((more - less - n * difference) / np.sqrt(variance)) if variance > 0 else 0.0

    seen, edge = (more - less) / n, 1 - 1e-9
    low = -1.0 if score(-edge) <= NORMAL_95 else brentq(lambda at: score(at) - NORMAL_95, -edge, seen - 1e-12)
    high = 1.0 if score(edge) >= -NORMAL_95 else brentq(lambda at: score(at) + NORMAL_95, seen + 1e-12, edge)
    return float(low), float(high)


def cohens_h(a: float, b: float) -> float:
    """Effect size of the difference of two shares.

    >>> round(cohens_h(0.5, 0.75), 3)
    0.524
    """
    return float(2 * (np.arcsin(np.sqrt(b)) - np.arcsin(np.sqrt(a))))


def cohens_d(differences: Floats) -> float | None:
    """Effect size of paired differences, (N,): their mean over their deviation.

    >>> cohens_d(np.array([1.0, 2.0, 3.0]))
    2.0
    """
    if not differences.any():
        return 0.0
    deviation = differences.std(ddof=1) if len(differences) > 1 else 0.0
    return float(differences.mean() / deviation) if deviation > ROUNDING * abs(differences).max() else None


@dataclass(frozen=True, kw_only=True)
class _Pairs:
    """Rows of both systems, (U, K) each; what is drawn or swapped together."""

    a: Floats
    b: Floats
    codes: Ints
    """The row of each example."""
    clusters: Ints | None


def _pairs(metric: Metric, a: Floats, b: Floats, clusters: Ints | None) -> _Pairs:
    """Every example that both systems have a value for."""
    both = present(a) & present(b)
    if not both.any():
        raise WorkError(f"{metric.name}: no example has a value on both sides.")
    if clusters is not None:
        clusters = np.unique(clusters[both], return_inverse=True)[1]
    return _Pairs(a=a[both], b=b[both], codes=np.arange(int(both.sum())), clusters=clusters)


def _interval(
    replicates: Floats, a_values: Floats, b_values: Floats, *, exact: bool, unit: float
) -> tuple[float, float] | None:
    """None for a single example, or where a value is infinite."""
    if not len(replicates):
        return None
    if not exact:
        return percentile_interval(replicates)
    more, less = int((b_values > a_values).sum()), int((a_values > b_values).sum())
    low, high = tango_interval(more, less, len(a_values))
    return unit * low, unit * high


def _units(metric: Metric, pairs: _Pairs) -> _Pairs:
    """The same in fewer rows: clusters where sums suffice, else equal examples together."""
    columns = pairs.a.shape[1]
    stacked = np.hstack([pairs.a, pairs.b])
    clusters = pairs.clusters
    if clusters is not None and metric.weighted is None:
        stacked, clusters = by_cluster(stacked, clusters), None
    rows, codes = distinct(stacked) if clusters is None else (stacked, np.arange(len(stacked)))
    return _Pairs(a=rows[:, :columns], b=rows[:, columns:], codes=codes, clusters=clusters)


def _differences(metric: Metric, units: _Pairs, resamples: int, seed: int) -> Floats:
    """(R,) differences over bootstrap resamples; empty where there is but one unit."""
    if len(units.codes) < 2:
        return np.empty(0)
    blocks = bootstrap_weights(units.codes, resamples=resamples, seed=seed, clusters=units.clusters)
    return np.concatenate(
        [_change(resampled(metric, units.a, block), resampled(metric, units.b, block)) for block in blocks]
    )


def _randomization(metric: Metric, units: _Pairs, resamples: int, seed: int) -> float:
    """p-value: how often chance makes a difference as large."""
    counts = np.bincount(units.codes).astype(np.float64)
    apart = _swapped(metric, units, counts)
    seen = abs(apart(np.zeros((1, len(counts)))))
    blocks = swap_weights(units.codes, resamples=resamples, seed=seed, clusters=units.clusters)
    shuffled = abs(np.concatenate([apart(block) for block in blocks]))
    # The same examples summed in another order differ in the last bits; such a difference is as large. (inf also is.)
    as_large = shuffled >= seen * (1 - 1e-9) - 1e-12
    return float(1 + as_large.sum()) / (1 + resamples)


def _swapped(metric: Metric, units: _Pairs, counts: Floats) -> Callable[[Floats], Floats]:
    """How many of each row are swapped, (R, U) -> (R,) differences."""
    if metric.weighted is None:
        a_sums, b_sums, gaps = counts @ units.a, counts @ units.b, units.b - units.a

        def by_sums(swapped: Floats) -> Floats:
            moved = swapped @ gaps
            return _change(metric.aggregate(a_sums + moved), metric.aggregate(b_sums - moved))

        return by_sums
    both = np.concatenate([units.a, units.b])

    def by_rows(swapped: Floats) -> Floats:
        stay = counts - swapped
        a, b = np.hstack([stay, swapped]), np.hstack([swapped, stay])
        return _change(resampled(metric, both, a), resampled(metric, both, b))

    return by_rows


def _detectable(replicates: Floats, n: int, unit: float, *, shares: bool) -> float | None:
    if len(replicates) < 2 or not np.isfinite(replicates).all():
        return None
    spread = float(replicates.std(ddof=1))
    if not shares:
        return unit * POWER_80 * spread if spread > ROUNDING * abs(replicates).max() else None
    return unit * max(POWER_80 * spread, FEWEST_DISCORDANT / n) if n >= FEWEST_DISCORDANT else None


def _change(a: Floats, b: Floats) -> Floats:
    """b - a, and 0 where both are the same infinity."""
    return np.subtract(b, a, out=np.zeros_like(a), where=a != b)


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
    """The direction of a difference, where it is shown at all.

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
