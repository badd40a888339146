import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmtasks.data.batches import SPREAD, pad, plan_batches
from lmtasks.errors import UsageError


@pytest.mark.parametrize(
    ("side", "ids", "mask", "types"),
    [
        (
            "right",
            [[1, 2, 3], [4, 9, 9], [9, 9, 9]],
            [[1, 1, 1], [1, 0, 0], [0, 0, 0]],
            [[0, 1, 1], [1, 0, 0], [0] * 3],
        ),
        ("left", [[1, 2, 3], [9, 9, 4], [9, 9, 9]], [[1, 1, 1], [0, 0, 1], [0, 0, 0]], [[0, 1, 1], [0, 0, 1], [0] * 3]),
    ],
)
def test_pad(side, ids, mask, types) -> None:  # type: ignore[no-untyped-def]
    batch = pad([[1, 2, 3], (4,), []], pad_id=9, types=[(0, 1, 1), (1,), ()], side=side)
    assert batch.ids.tolist() == ids
    assert batch.mask.astype(int).tolist() == mask
    assert batch.types is not None
    assert batch.types.tolist() == types
    assert [str(part.dtype) for part in (batch.ids, batch.mask, batch.types)] == ["int64", "bool", "int64"]
    assert pad([[1]], pad_id=0).types is None


def test_pad_at_the_edges() -> None:
    assert pad([[], []], pad_id=7).ids.tolist() == [[7], [7]]
    with pytest.raises(UsageError, match="at least one row"):
        pad([], pad_id=0)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(0, 60), max_size=80),
    st.integers(1, 200),
    st.one_of(st.none(), st.integers(0, 5)),
    st.one_of(st.none(), st.integers(1, 7)),
)
def test_plan(lengths: list[int], budget: int, seed: int | None, max_rows: int | None) -> None:
    batches = plan_batches(lengths, tokens_per_batch=budget, seed=seed, max_rows=max_rows)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert batches == plan_batches(lengths, tokens_per_batch=budget, seed=seed, max_rows=max_rows)
    for batch in batches:
        longest = max(lengths[index] for index in batch)
        assert len(batch) == 1 or len(batch) * longest <= budget
        assert max_rows is None or len(batch) <= max_rows
    if seed is None:
        flat = [lengths[index] for batch in batches for index in batch]
        assert flat == sorted(lengths, reverse=True)


def test_a_seed_mixes_rows_of_like_length() -> None:
    lengths = np.random.default_rng(0).integers(5, 200, size=2000).tolist()
    first, second = (plan_batches(lengths, tokens_per_batch=2048, seed=seed) for seed in (1, 2))
    assert first != second
    padded = sum(len(batch) * max(lengths[index] for index in batch) for batch in first)
    assert padded <= sum(lengths) * SPREAD**1.5
    sizes = [max(lengths[index] for index in batch) for batch in first]
    assert sizes != sorted(sizes)


def test_budgets_that_make_no_sense() -> None:
    with pytest.raises(UsageError, match="1 token and 1 row or more"):
        plan_batches([1], tokens_per_batch=0)


def test_a_row_by_itself_is_padded_as_beside_others() -> None:
    alone = pad([[5, 6]], pad_id=1, types=[[0, 1]], side="left")
    beside = pad([[5, 6], [7]], pad_id=1, types=[[0, 1], [0]], side="left")
    assert alone.types is not None
    assert beside.types is not None
    for one, other in ((alone.ids, beside.ids), (alone.mask, beside.mask), (alone.types, beside.types)):
        assert one.tolist() == other[:1].tolist()
        assert one.dtype == other.dtype
    assert pad([[]], pad_id=1).mask.tolist() == [[False]]
