"""Padding anywhere becomes padding on one side, and answers find their way back."""

from typing import Literal

import numpy as np
import pytest

from lmtasks.records import TokenBatch, TokenTargets
from lmtasks.runtime.align import Aligned, align, every_next

HOLES = TokenBatch(
    ids=np.array([[0, 5, 0, 6, 7, 0], [0, 0, 0, 8, 0, 0]]),
    mask=np.array([[False, True, False, True, True, False], [False, False, False, True, False, False]]),
    types=np.array([[0, 1, 0, 2, 3, 0], [0, 0, 0, 4, 0, 0]]),
)


def test_tokens_go_to_one_side_in_their_order() -> None:
    right, left = align(HOLES, side="right").batch, align(HOLES, side="left").batch
    assert right.ids[right.mask].tolist() == left.ids[left.mask].tolist() == [5, 6, 7, 8]
    assert right.mask.tolist() == [[True, True, True], [True, False, False]]
    assert left.mask.tolist() == [[True, True, True], [False, False, True]]
    assert right.types is not None
    assert right.types[right.mask].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("side", ["left", "right"])
def test_values_return_to_their_places(side: str) -> None:
    aligned: Aligned = align(HOLES, side=side)  # type: ignore[arg-type]
    restored = aligned.restore(aligned.batch.ids.astype(np.float32)[..., None], padding=-1.0)[..., 0]
    assert restored.tolist() == [[-1, 5, -1, 6, 7, -1], [-1, -1, -1, 8, -1, -1]]


def test_wanted_columns_are_found_again() -> None:
    aligned = align(HOLES, side="right")
    wanted = TokenTargets(rows=np.array([0, 0, 1]), columns=np.array([4, 1, 3]), tokens=np.array([0, 0, 0]))
    assert aligned.columns_of(wanted).tolist() == [2, 0, 0]


def test_every_next_token_is_wanted_behind_the_one_before_it() -> None:
    read, wanted = every_next(HOLES)
    assert read.ids[read.mask].tolist() == [5, 6]  # the last token of a row is not read
    assert (wanted.rows.tolist(), wanted.columns.tolist(), wanted.tokens.tolist()) == ([0, 0], [1, 3], [6, 7])


def test_a_row_without_tokens_stays_a_row() -> None:
    empty = TokenBatch(ids=np.zeros((1, 3), dtype=np.int64), mask=np.zeros((1, 3), dtype=np.bool_))
    assert align(empty, side="left").batch.ids.shape == (1, 1)


@pytest.mark.parametrize("side", ["left", "right"])
def test_rows_without_padding_stay_as_they_are(side: Literal["left", "right"]) -> None:
    """The short way for them gives what the long way gives beside a shorter row."""
    batch = TokenBatch(ids=np.array([[5, 6, 7], [8, 9, 4]]), mask=np.ones((2, 3), dtype=np.bool_))
    beside = TokenBatch(
        ids=np.array([[5, 6, 7], [8, 9, 4], [0, 3, 0]]),
        mask=np.array([[True] * 3, [True] * 3, [False, True, False]]),
    )
    short, long = align(batch, side=side), align(beside, side=side)
    np.testing.assert_array_equal(short.batch.ids, long.batch.ids[:2])
    np.testing.assert_array_equal(short.lengths, long.lengths[:2])
    asked = TokenTargets(rows=np.array([1, 0]), columns=np.array([2, 0]), tokens=np.array([3, 3]))
    np.testing.assert_array_equal(short.columns_of(asked), long.columns_of(asked))
    values = np.arange(9, dtype=np.float32).reshape(3, 3)
    np.testing.assert_array_equal(short.restore(values[:2]), long.restore(values)[:2])
