"""Hot paths of scoring outside the model: which beginnings are read once, and which rows stand together in one."""

import numpy as np
from pytest_benchmark.fixture import BenchmarkFixture

from lmtasks.engine.shared_rows import TreeLimits, build_unit, common_prefixes, group_rows, shared_lengths
from lmtasks.records import Ints

QUESTIONS, CHOICES, SHOTS = 2000, 4, 200


def _rows() -> list[Ints]:
    """Sorted, as scoring has them: worked examples that all share, a question, its four choices."""
    draw = np.random.default_rng(0)
    shots = draw.integers(3, 8000, SHOTS)
    rows = []
    for _ in range(QUESTIONS):
        question = draw.integers(3, 8000, draw.integers(20, 40))
        rows += [np.concatenate([shots, question, draw.integers(3, 8000, draw.integers(2, 8))]) for _ in range(CHOICES)]
    return sorted(rows, key=lambda row: row.tolist())


def test_shared_lengths_of_8000_rows(benchmark: BenchmarkFixture) -> None:
    shared = benchmark(shared_lengths, _rows())
    assert min(shared[1:]) >= SHOTS


def test_prefixes_of_8000_rows(benchmark: BenchmarkFixture) -> None:
    rows = _rows()
    lengths, shared = [len(row) for row in rows], shared_lengths(rows)
    runs = benchmark(common_prefixes, lengths, wanted_from=[length - 2 for length in lengths], shared=shared)
    assert runs[0].before >= SHOTS


def test_trees_of_8000_rows(benchmark: BenchmarkFixture) -> None:
    rows = _rows()
    lengths, shared = [len(row) for row in rows], shared_lengths(rows)
    shape = TreeLimits(longest=1024, tokens=2048, rows=None)

    def plan() -> int:
        groups = group_rows(lengths, range(len(rows)), shared=shared, before=SHOTS, shape=shape)
        return len([build_unit(rows, group, shared=shared, before=SHOTS) for group in groups])

    assert benchmark(plan) < len(rows)
