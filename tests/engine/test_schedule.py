"""Batches over requests."""

import numpy as np
import pytest

from lmtasks.engine.schedule import Limits, schedule
from lmtasks.errors import UsageError


def test_every_request_is_answered_once_and_batches_keep_the_limits() -> None:
    random = np.random.default_rng(0)
    keys = [tuple(random.integers(0, 3, size=random.integers(1, 9)).tolist()) for _ in range(200)]
    plan = schedule(keys, costs=[len(key) for key in keys], limits=Limits(tokens=24, rows=5))
    answered = sorted(copy for batch in plan.batches for index in batch for copy in plan.copies[index])
    assert answered == list(range(200))
    assert all(len(batch) * max(len(keys[index]) for index in batch) <= 24 for batch in plan.batches)
    assert all(len(batch) <= 5 for batch in plan.batches)
    scheduled = [keys[index] for batch in plan.batches for index in batch]
    assert len(set(scheduled)) == len(scheduled)
    assert [len(key) for key in scheduled] == sorted(map(len, scheduled), reverse=True)


def test_what_stands_together_does_not_depend_on_the_order() -> None:
    keys = [(index % 7, index) for index in range(50)]
    costs = [1 + key[0] for key in keys]
    limits = Limits(tokens=20)

    def contents(order: list[int]) -> list[list[tuple[int, ...]]]:
        plan = schedule([keys[index] for index in order], costs=[costs[index] for index in order], limits=limits)
        return [[keys[order[index]] for index in batch] for batch in plan.batches]

    assert contents(list(range(50))) == contents(list(reversed(range(50))))


def test_a_row_above_the_limit_runs_alone() -> None:
    assert schedule([(1,), (2,)], costs=[100, 100], limits=Limits(tokens=10)).batches == ((0,), (1,))


def test_nothing_to_do() -> None:
    assert schedule([], costs=[], limits=Limits(tokens=10)).batches == ()


@pytest.mark.parametrize("limits", [{"tokens": 0}, {"tokens": 1, "rows": 0}])
def test_limits_are_checked(limits: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        Limits(**limits)
