"""Every variant of a table against every other one, at once: simultaneous intervals, groups, ranks.

A table of S variants holds S (S - 1) / 2 differences; of 40 equal ones 39 are "significant" at 5 %, by chance alone.
Simultaneous 95 % intervals hold all differences of a task together with 95 % (max-T: Hothorn, Bretz & Westfall 2008,
https://doi.org/10.1002/bimj.200810425): the critical value is the 95 % quantile of the largest studentized difference,
drawn from the covariance of the variants' values, which are correlated because all answer the same examples. With
independent variants of equal variance it is Tukey's, and against one of them Dunnett's.

Covariances are in closed form for means of examples (of clusters, where there are any), else from the bootstrap, the
same examples drawn for everybody. Few examples (Bowyer et al. 2025, https://arxiv.org/abs/2503.01747: normal intervals
are too narrow below some hundreds): Student's quantile with n - 1 degrees of freedom at the level that the largest
difference has, and for shares the standard errors of Bonett & Price (2012, https://doi.org/10.3102/1076998611411915):
one example more that only either side has right, so that equal answers to 20 examples are no proof of anything.

Groups: variants that share a letter cannot be told apart (Piepho 2004, https://doi.org/10.1198/1061860043515).
Ranks: 1 and the number of those that are shown to be better, to S less those that are shown to be worse (Al Mohamad,
Goeman & van Zwet, Biometrics 2022). `evalstats` (PyPI, 0.3) bootstraps ranks instead; such intervals do not hold where
variants are equal, which is the case that they are asked for.

>>> apart = np.array([[False, False, True], [False, False, False], [True, False, False]])
>>> letters(apart)
('a', 'ab', 'b')
>>> rank_intervals(np.array([0.9, 0.8, 0.7]), apart)
((1, 2), (1, 3), (2, 3))
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lmtasks.metric.base import Metric, resampled, value_of
from lmtasks.metric.custom_aggregations import present
from lmtasks.metric.resample import bootstrap_weights, by_cluster, cluster_numbers
from lmtasks.records import Bools, Floats, Ints

DRAWS = 20_000
"""Of the largest difference; its 95 % quantile then varies by less than 1 %."""
DRAWS_AT_ONCE = 1 << 21
"""Draws x pairs in one block."""
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, kw_only=True)
class AllPairs:
    """S variants on the same examples, each against each."""

    n: int
    values: Floats
    """(S,) as the metric counts; means over seeds."""
    halves: Floats
    """(S, S) half widths of the simultaneous intervals of the differences, as the metric counts."""

    @property
    def apart(self) -> Bools:
        """(S, S) which of them are told apart."""
        return told_apart(self.values, self.halves)


def told_apart(values: Floats, halves: Floats) -> Bools:
    """(S,) values and (S, S) half widths -> (S, S) which intervals of differences exclude 0."""
    result: Bools = np.abs(values[:, None] - values[None, :]) > halves
    return result


def all_pairs(
    metric: Metric,
    variants: Sequence[Sequence[Floats]],
    *,
    levels: Sequence[float] = (0.95,),
    resamples: int = 1000,
    seed: int = 1234,
    clusters: Sequence[object] | None = None,
    draws: int = DRAWS,
) -> tuple[AllPairs, ...]:
    """Compare variants of a task, all with all.

    Args:
        variants: of each, its statistics (N, K) under every seed, over the same examples in the same order; as many
            seeds for all.
        levels: of the simultaneous intervals, a result each.
        clusters: which examples belong together; None: all are independent.

    Raises:
        WorkError: there are not as many clusters as examples.
    """
    kept = np.all([present(each) for seeds in variants for each in seeds], axis=0)
    numbers = cluster_numbers(clusters, len(kept))
    numbers = None if numbers is None else np.unique(numbers[kept], return_inverse=True)[1]
    tables = [[each[kept] for each in seeds] for seeds in variants]
    values = np.array([[value_of(metric, each) for each in seeds] for seeds in tables])  # (S, seeds)
    units = int(kept.sum()) if numbers is None else int(numbers.max()) + 1
    covariance = _covariance(metric, tables, numbers, resamples=resamples, seed=seed)
    errors = _errors_of_differences(covariance)
    if metric.kind == "mean" and numbers is None and len(tables[0]) == 1:
        errors = _of_shares(metric, [seeds[0] for seeds in tables], errors)
    freedom = np.full(errors.shape, float(max(1, units - 1)))
    if (seeds := values.shape[1]) > 1:
        between = _errors_of_differences(np.atleast_2d(np.cov(values)) / seeds)
        covariance = covariance + np.atleast_2d(np.cov(values)) / seeds
        errors, freedom = _joined(errors, between, units=units, seeds=seeds)
    largest = largest_differences(covariance, draws=draws, seed=seed)
    return tuple(
        AllPairs(n=int(kept.sum()), values=values.mean(axis=1), halves=_halves(errors, freedom, largest, level))
        for level in levels
    )


def largest_differences(covariance: Floats, *, draws: int = DRAWS, seed: int = 1234, base: int | None = None) -> Floats:
    """(draws,) of the largest studentized difference of S normal values with this covariance, (S, S).

    Args:
        base: differences to this one alone, as Dunnett's; None: all pairs, as Tukey's.
    """
    size = len(covariance)
    errors = _errors_of_differences(covariance)
    rows, columns = np.triu_indices(size, 1)
    if base is not None:
        rows, columns = np.delete(np.arange(size), base), np.full(size - 1, base)
    known = errors[rows, columns] > 0
    rows, columns = rows[known], columns[known]
    if not len(rows):
        return np.zeros(draws)
    eigenvalues, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(eigenvalues, 0.0))
    generator = np.random.default_rng((seed, *b"largest"))
    found = []
    for start in range(0, draws, block := max(1, DRAWS_AT_ONCE // len(rows))):
        drawn = generator.standard_normal((min(block, draws - start), size)) @ root.T
        found.append(np.max(np.abs(drawn[:, rows] - drawn[:, columns]) / errors[rows, columns], axis=1))
    return np.concatenate(found)


def letters(apart: Bools) -> tuple[str, ...]:
    """Letters of S variants, best first: those that share one cannot be told apart, those that share none can.

    Args:
        apart: (S, S) which pairs are told apart.
    """
    groups = [frozenset(range(len(apart)))]
    for one, other in zip(*np.nonzero(np.triu(apart)), strict=True):
        split = [each - {gone} for each in groups if {one, other} <= each for gone in (one, other)]
        groups = [each for each in groups if not {one, other} <= each]
        for each in split:
            if not any(each <= kept for kept in groups):
                groups = [kept for kept in groups if not kept <= each] + [each]
    groups = _needed(groups)
    groups.sort(key=lambda each: sorted(each))
    return tuple(
        "".join(_letter(place) for place, each in enumerate(groups) if who in each) for who in range(len(apart))
    )


def rank_intervals(values: Floats, apart: Bools) -> tuple[tuple[int, int], ...]:
    """The ranks that S variants may have, the larger value the better: 1 and those shown to be better, to S less those
    shown to be worse."""
    better = apart & (values[None, :] > values[:, None])
    worse = apart & (values[None, :] < values[:, None])
    return tuple(
        (1 + int(above), len(values) - int(below))
        for above, below in zip(better.sum(axis=1), worse.sum(axis=1), strict=True)
    )


def mean_ranks(tasks: Sequence[Floats]) -> Floats:
    """(S,) mean rank over tasks, of (S,) values each, the larger the better; equal values share their mean rank."""
    from scipy.stats import rankdata

    result: Floats = np.mean([rankdata(-values) for values in tasks], axis=0)
    return result


def _covariance(
    metric: Metric, tables: Sequence[Sequence[Floats]], clusters: Ints | None, *, resamples: int, seed: int
) -> Floats:
    """(S, S) of the variants' values over examples, seeds averaged."""
    if metric.kind == "mean":
        examples = np.stack([np.mean([each[:, 0] for each in seeds], axis=0) for seeds in tables], axis=1)
        residuals = examples - examples.mean(axis=0)
        if clusters is not None:
            residuals = by_cluster(residuals, clusters)
        units = len(residuals)
        closed: Floats = residuals.T @ residuals * (units / max(1, units - 1)) / len(examples) ** 2
        return closed
    n = len(tables[0][0])
    blocks = bootstrap_weights(np.arange(n), resamples=resamples, seed=seed, clusters=clusters)
    replicates = np.concatenate(
        [
            np.stack([np.mean([resampled(metric, each, block) for each in seeds], axis=0) for seeds in tables], axis=1)
            for block in blocks
        ]
    )
    return np.atleast_2d(np.cov(replicates, rowvar=False))


def _errors_of_differences(covariance: Floats) -> Floats:
    """(S, S) -> (S, S) standard errors; what lies within rounding of 0 is 0."""
    variances = np.diag(covariance)
    squares = variances[:, None] + variances[None, :] - 2 * covariance
    scale = np.maximum(variances[:, None] + variances[None, :], np.finfo(float).tiny)
    result: Floats = np.sqrt(np.where(squares > 1e-12 * scale, squares, 0.0))
    return result


def _of_shares(metric: Metric, tables: Sequence[Floats], errors: Floats) -> Floats:
    """Standard errors of Bonett and Price, where all values are right or wrong."""
    examples = np.stack([metric.per_example(each) for each in tables], axis=1)
    if not np.isin(examples, (0.0, 1.0)).all():
        return errors
    n = len(examples)
    alone = examples.T @ (1 - examples)  # (S, S): how many examples one has right and the other has not
    more, less = (alone + 1) / (n + 2), (alone.T + 1) / (n + 2)
    adjusted: Floats = np.sqrt((more + less - (more - less) ** 2) / (n + 2))
    np.fill_diagonal(adjusted, 0.0)
    return adjusted


def _joined(errors: Floats, between: Floats, *, units: int, seeds: int) -> tuple[Floats, Floats]:
    """Errors over examples and seeds, and their degrees of freedom (Welch and Satterthwaite)."""
    squares = errors**2 + between**2
    weights = errors**4 / max(1, units - 1) + between**4 / (seeds - 1)
    return np.sqrt(squares), np.divide(squares**2, weights, out=np.ones_like(squares), where=weights > 0)


def _halves(errors: Floats, freedom: Floats, largest: Floats, level: float) -> Floats:
    """Student's quantile at the level that the largest difference has alone."""
    from scipy.special import ndtr, stdtrit

    each = float(ndtr(np.quantile(largest, level))) if largest.any() else 0.5 + level / 2
    result: Floats = stdtrit(freedom, each) * errors
    return result


def _needed(groups: Sequence[frozenset[int]]) -> list[frozenset[int]]:
    """Without those whose pairs all stand in others, the smallest first."""
    kept = list(groups)
    for each in sorted(groups, key=len):
        others = [other for other in kept if other != each]
        pairs = [{one, other} for one in each for other in each]
        if others and all(any(pair <= other for other in others) for pair in pairs):
            kept = others
    return kept


def _letter(place: int) -> str:
    """a to z, then a1 to z1."""
    turn, rest = divmod(place, len(LETTERS))
    return LETTERS[rest] + (str(turn) if turn else "")
