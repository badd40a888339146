"""Resamples as weights of examples: the one expensive step of intervals and paired tests.

A bootstrap resample draws N examples with replacement; as weights it is a row of counts, and a block of resamples times
the statistics is one matrix product. Where many examples have equal statistics (right or wrong, classes), they are
counted together, and a resample is one multinomial draw. Seeded; bounded memory.

Where examples form clusters (questions about one passage), whole clusters are drawn.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from lmtasks.errors import WorkError
from lmtasks.records import Floats, Ints

CELLS_AT_ONCE = 1 << 21
"""Resamples x examples in one block: 16 MiB of counts, and as much of draws."""

MOST_COLUMNS = 8
"""Wider rows are hardly ever equal: nobody looks for equal ones."""


def distinct(statistics: Floats) -> tuple[Floats, Ints]:
    """(N, K) -> the distinct rows (U, K), and which of them each example has (N,). Where it saves nothing, U is N."""
    n, columns = statistics.shape
    if statistics.dtype == np.float64 and columns <= MOST_COLUMNS:
        rows, codes = np.unique(statistics, axis=0, return_inverse=True)
        if 4 * len(rows) <= n:
            return rows, codes.reshape(-1).astype(np.int64)
    return statistics, np.arange(n)


def by_cluster(statistics: Floats, clusters: Ints) -> Floats:
    """(N, K) -> (G, K): the sum over each cluster, where sums suffice; a cluster then stands for an example."""
    order = np.argsort(clusters, kind="stable")
    starts = np.flatnonzero(np.diff(clusters[order], prepend=-1))
    result: Floats = np.add.reduceat(statistics[order], starts, axis=0)
    return result


def bootstrap_weights(codes: Ints, *, resamples: int, seed: int, clusters: Ints | None = None) -> Iterator[Floats]:
    """Blocks (r, U) of how often each distinct row was drawn, `resamples` rows in all.

    Args:
        codes: the distinct row of each example, (N,), numbers from 0 without a gap.
        clusters: the cluster of each example, (N,), numbers from 0 without a gap; then clusters are drawn, and each
            example is a row of its own.
    """
    generator = _generator(seed, "bootstrap")
    n, counts = len(codes), np.bincount(codes)
    if clusters is not None:
        for rows in _blocks(resamples, n):
            yield _drawn(generator, rows, int(clusters.max()) + 1)[:, clusters]
    elif len(counts) == n:
        for rows in _blocks(resamples, n):
            yield _drawn(generator, rows, n)
    else:
        for rows in _blocks(resamples, len(counts)):
            yield generator.multinomial(n, counts / n, size=rows).astype(np.float64)


def swap_weights(codes: Ints, *, resamples: int, seed: int, clusters: Ints | None = None) -> Iterator[Floats]:
    """Blocks (r, U) of how many examples of each distinct row are swapped, each with probability 1/2.

    Args: as `bootstrap_weights`; with clusters, all of a cluster is swapped or nothing of it.
    """
    generator = _generator(seed, "swap")
    n, counts = len(codes), np.bincount(codes)
    if clusters is not None:
        for rows in _blocks(resamples, n):
            yield _coins(generator, rows, int(clusters.max()) + 1)[:, clusters]
    elif len(counts) == n:
        for rows in _blocks(resamples, n):
            yield _coins(generator, rows, n)
    else:
        for rows in _blocks(resamples, len(counts)):
            yield generator.binomial(counts, 0.5, size=(rows, len(counts))).astype(np.float64)


def cluster_numbers(clusters: Sequence[object] | None, n: int) -> Ints | None:
    """The cluster of each example as numbers from 0 without a gap.

    Raises:
        WorkError: there are not as many as examples.
    """
    if clusters is None:
        return None
    if len(clusters) != n:
        raise WorkError(f"there are {len(clusters)} clusters for {n} examples; each example needs one.")
    numbers: dict[str, int] = {}
    # Two values that are written alike are one cluster: a column may hold numbers, texts, or lists of them.
    return np.array([numbers.setdefault(repr(each), len(numbers)) for each in clusters], dtype=np.int64)


def _drawn(generator: np.random.Generator, rows: int, n: int) -> Floats:
    """(rows, n): how often each of n was drawn in n draws."""
    drawn = generator.integers(n, size=(rows, n), dtype=np.int32)
    counts = np.empty((rows, n))
    for place, row in enumerate(drawn):  # one count at a time stays in the processor's cache
        counts[place] = np.bincount(row, minlength=n)
    return counts


def _coins(generator: np.random.Generator, rows: int, n: int) -> Floats:
    """(rows, n) zeros and ones, from one bit each."""
    words = generator.integers(1 << 64, size=(rows, -(-n // 64)), dtype=np.uint64)
    # Little-endian everywhere, so that a seed means the same on every machine.
    return np.unpackbits(words.astype("<u8").view(np.uint8), axis=1, count=n).astype(np.float64)


def _blocks(resamples: int, n: int) -> Iterator[int]:
    size = max(1, CELLS_AT_ONCE // n)
    for start in range(0, resamples, size):
        yield min(size, resamples - start)


def _generator(seed: int, name: str) -> np.random.Generator:
    """A stream of its own for each name."""
    return np.random.default_rng((seed, *name.encode()))
