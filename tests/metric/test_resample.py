"""Resamples as weights: they count what was drawn, and neither blocks nor equal rows change their distribution."""

import numpy as np
import pytest

from lmtasks.metric import resample
from lmtasks.metric.resample import bootstrap_weights, by_cluster, cluster_numbers, distinct, swap_weights
from lmtasks.records import Floats, Ints


def bootstrap(codes: Ints, *, resamples: int, seed: int = 7, clusters: Ints | None = None) -> Floats:
    return np.concatenate(list(bootstrap_weights(codes, resamples=resamples, seed=seed, clusters=clusters)))


def swaps(codes: Ints, *, resamples: int, seed: int = 7, clusters: Ints | None = None) -> Floats:
    return np.concatenate(list(swap_weights(codes, resamples=resamples, seed=seed, clusters=clusters)))


ALONE = np.arange(50)
EQUAL = np.repeat(np.arange(3), [5, 20, 25])
CLUSTERS = np.repeat(np.arange(10), 5)


@pytest.mark.parametrize("weights", [bootstrap, swaps])
def test_blocks_change_nothing(weights: object, monkeypatch: pytest.MonkeyPatch) -> None:
    draws = {"alone": (ALONE, None), "equal": (EQUAL, None), "clusters": (ALONE, CLUSTERS)}
    for codes, clusters in draws.values():
        call = bootstrap if weights is bootstrap else swaps
        whole = call(codes, resamples=33, clusters=clusters)
        with monkeypatch.context() as patch:
            patch.setattr(resample, "CELLS_AT_ONCE", 104)  # a few resamples at once
            parts = call(codes, resamples=33, clusters=clusters)
        assert len(whole) == 33
        assert np.array_equal(whole, parts)


def test_a_resample_draws_as_many_examples_as_there_are() -> None:
    assert (bootstrap(ALONE, resamples=9).sum(axis=1) == 50).all()
    assert (bootstrap(EQUAL, resamples=9).sum(axis=1) == 50).all()
    assert bootstrap(EQUAL, resamples=9).shape == (9, 3)


def test_equal_rows_together_are_drawn_as_one_by_one() -> None:
    """The same mean and covariance, whether 50 examples are drawn or three kinds of them."""
    apart = bootstrap(ALONE, resamples=20_000)
    summed = np.stack([apart[:, kind == EQUAL].sum(axis=1) for kind in range(3)], axis=1)
    together = bootstrap(EQUAL, resamples=20_000, seed=8)
    np.testing.assert_allclose(summed.mean(axis=0), together.mean(axis=0), atol=0.15)
    np.testing.assert_allclose(np.cov(summed.T), np.cov(together.T), atol=0.5)
    halves = swaps(EQUAL, resamples=20_000)
    np.testing.assert_allclose(halves.mean(axis=0), [2.5, 10, 12.5], atol=0.1)
    np.testing.assert_allclose(halves.var(axis=0), [1.25, 5, 6.25], atol=0.3)


def test_a_cluster_stays_together() -> None:
    drawn = bootstrap(ALONE, resamples=20, clusters=CLUSTERS).reshape(20, 10, 5)
    assert (drawn == drawn[:, :, :1]).all()
    assert (drawn[:, :, 0].sum(axis=1) == 10).all()
    swapped = swaps(ALONE, resamples=20, clusters=CLUSTERS).reshape(20, 10, 5)
    assert (swapped == swapped[:, :, :1]).all()
    assert set(np.unique(swapped)) == {0.0, 1.0}


def test_sums_over_clusters() -> None:
    rows = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]])
    numbers = cluster_numbers(["b", "a", "b", "c"], 4)
    assert numbers is not None
    assert by_cluster(rows, numbers).tolist() == [[6.0, 8.0], [3.0, 4.0], [7.0, 8.0]]
    assert cluster_numbers(None, 4) is None
    lists = cluster_numbers([["a"], ["a"], [1], "['a']"], 4)
    assert lists is not None
    assert lists.tolist() == [0, 0, 1, 2]


def test_distinct_rows_give_the_table_back() -> None:
    table = np.random.default_rng(0).integers(3, size=(60, 2)).astype(float)
    rows, codes = distinct(table)
    assert len(rows) == 9
    assert np.array_equal(rows[codes], table)
    unlike = np.random.default_rng(0).random((60, 2))
    rows, codes = distinct(unlike)
    assert np.array_equal(rows[codes], unlike)
