"""lm-evaluation-harness' own bootstrap (0.4.13, `api/metrics.py`): the same draws, so the same standard errors.

The original cuts `iters` draws into chunks of min(1000, iters); what does not fill a chunk is not drawn. Chunk i uses
`random.Random(i).choices(items, k=n)` again and again, that is item floor(u n) for each u of the generator, and the
standard error is the sample deviation of all replicates. It draws for the aggregations of `BOOTSTRAPPED`, at most
`FEWER` times for metrics of the names in `COSTLY`; means have their closed form there too, the rest has none.

`numpy.random.RandomState([i]).random_sample()` yields the numbers of `random.Random(i).random()` (both are the Mersenne
Twister, seeded by an array of one number, and make a float of 53 bits in the same way; a test compares them).
Chunks do not depend on each other: they run on all cores, as the original's do.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from lmtasks.cores import usable_cores
from lmtasks.metric.base import Formula, Metric, resampled
from lmtasks.metric.resample import distinct
from lmtasks.records import Floats, Ints

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
