"""The batches of a proof: every side of padding, every token once."""

from typing import get_args

import numpy as np
import pytest

from lmtasks.prove.parity import Case, Side
from lmtasks.runtime.align import align

ROWS = ((5, 6, 7), (8,), (9, 10))


@pytest.mark.parametrize("side", get_args(Side))
def test_padding_moves_tokens_and_segments_and_changes_none(side: Side) -> None:
    batch = Case(name="x", rows=ROWS, side=side).batch
    assert batch.types is not None
    for number, row in enumerate(ROWS):
        assert tuple(batch.ids[number][batch.mask[number]]) == row
        assert batch.types[number][batch.mask[number]].tolist() == [0] * -(-len(row) // 2) + [1] * (len(row) // 2)
    assert not batch.ids[~batch.mask].any()
    plain = Case(name="x", rows=ROWS, side="right").batch
    np.testing.assert_array_equal(align(batch, side="right").batch.ids, plain.ids)


def test_holes_stand_between_tokens_and_not_only_at_the_ends() -> None:
    mask = Case(name="x", rows=ROWS, side="between").batch.mask
    assert mask[0].tolist() == [True, False, True, False, True, False]
