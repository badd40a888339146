"""Sums over resampled examples, the one expensive step of intervals and paired tests. Seeded; bounded memory.

A bootstrap resample draws N examples with replacement. How often each was drawn (a multinomial) times the statistics is
its sum, so a block of resamples is one matrix product.
"""

from collections.abc import Iterator

import numpy as np

from lmtasks.records import Floats

CELLS_AT_ONCE = 1 << 21
"""Resamples x examples in one block: 16 MiB of counts, and as much of draws."""


def bootstrap_sums(statistics: Floats, *, resamples: int, seed: int) -> Floats:
    """(N, K) -> (R, K): sums of the statistics over each resample."""
    n = len(statistics)
    generator = _generator(seed, "bootstrap")
    blocks = []
    for rows in _blocks(resamples, n):
        drawn = generator.integers(n, size=(rows, n)) + n * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n)
        blocks.append(counts.astype(np.float64) @ statistics)
    return np.concatenate(blocks)


def swapped_sums(statistics: Floats, *, resamples: int, seed: int) -> Floats:
    """(N, K) -> (R, K): sums of the statistics over a random half of the examples (each with probability 1/2)."""
    n = len(statistics)
    generator = _generator(seed, "swap")
    blocks = []
    for rows in _blocks(resamples, n):
        swapped = generator.integers(2, size=(rows, n), dtype=np.uint8)
        blocks.append(swapped.astype(np.float64) @ statistics)
    return np.concatenate(blocks)


def _blocks(resamples: int, n: int) -> Iterator[int]:
    size = max(1, CELLS_AT_ONCE // n)
    for start in range(0, resamples, size):
        yield min(size, resamples - start)


def _generator(seed: int, name: str) -> np.random.Generator:
    """A stream of its own for each name."""
    return np.random.default_rng((seed, *name.encode()))
