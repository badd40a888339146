"""Batches over requests."""

from collections.abc import Callable, Sequence
from threading import Barrier, Event, get_ident
from typing import TypeVar

import numpy as np
import pytest

from lmtasks.engine.schedule import Budget, CallerChoice, distinct, run_batches
from lmtasks.errors import UsageError, WorkError
from lmtasks.runtime.memory import OutOfMemory

Key = tuple[int, ...]
Item = TypeVar("Item")


def batches_of(keys: Sequence[Key], budget: Budget) -> list[list[Key]]:
    plan, ran = distinct(keys), list[list[Key]]()
    run_batches([keys[index] for index in plan.firsts], size=len, budget=budget, run=itself, give=noted(ran))
    return ran


def itself(batch: list[Item], concurrent: bool) -> list[Item]:
    """A batch's answer is the batch."""
    return batch


def noted(ran: list[list[Item]]) -> Callable[[list[Item], list[Item]], None]:
    """Keeps the answers in the order in which they are given."""

    def give(batch: list[Item], found: list[Item]) -> None:
        assert batch == found
        ran.append(found)

    return give


def random_keys(count: int) -> list[Key]:
    random = np.random.default_rng(0)
    return [tuple(random.integers(0, 3, size=random.integers(1, 9)).tolist()) for _ in range(count)]


def test_every_request_is_answered_once_and_batches_keep_the_limits() -> None:
    keys = random_keys(200)
    plan = distinct(keys)
    assert sorted(copy for copies in plan.copies.values() for copy in copies) == list(range(200))
    assert all(keys[copy] == keys[first] for first, copies in plan.copies.items() for copy in copies)
    ran = batches_of(keys, Budget(tokens=24, rows=5))
    assert all(len(batch) * max(map(len, batch)) <= 24 for batch in ran)
    assert all(len(batch) <= 5 for batch in ran)
    scheduled = [key for batch in ran for key in batch]
    assert len(set(scheduled)) == len(scheduled) == len(set(keys))
    assert [len(key) for key in scheduled] == sorted(map(len, scheduled), reverse=True)


def test_what_stands_together_does_not_depend_on_the_order() -> None:
    keys = [(index % 7, index, *range(index % 5)) for index in range(50)]
    assert batches_of(keys, Budget(tokens=20)) == batches_of(keys[::-1], Budget(tokens=20))


def test_a_row_above_the_limit_runs_alone() -> None:
    assert batches_of([(1,) * 100, (2,) * 100], Budget(tokens=10)) == [[(1,) * 100], [(2,) * 100]]


def test_a_full_batch_is_not_filled_up_with_much_shorter_rows() -> None:
    ran = batches_of([(number,) * length for number, length in enumerate([600] * 4 + [20] * 9)], Budget(tokens=9000))
    assert [[len(key) for key in batch] for batch in ran] == [[600] * 4, [20] * 9]


def test_rows_that_share_take_no_more_room_than_they_would_alone() -> None:
    # Each stands for rows of 3 tokens: two rows a batch are 6 tokens, whatever they share.
    ran: list[list[str]] = []
    run_batches(
        ["abcdef", "ghi", "jkl"],
        size=len,
        unshared=lambda item: 3,
        budget=Budget(tokens=99, rows=2),
        run=itself,
        give=noted(ran),
    )
    assert ran == [["abcdef"], ["ghi", "jkl"]]


def test_nothing_to_do() -> None:
    assert batches_of([], Budget(tokens=10)) == []


@pytest.mark.parametrize("limits", [{"tokens": 0}, {"tokens": 1, "rows": 0}])
def test_limits_are_checked(limits: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        Budget(**limits)


@pytest.mark.parametrize("room", [8, 13, 50, 1000])
@pytest.mark.parametrize("callers", [1, 3])
def test_what_does_not_fit_runs_again_in_halves_and_is_said_once(room: int, callers: int) -> None:
    keys, said = random_keys(300), list[str]()
    answered: list[list[Key]] = []
    refused = 0

    def run(batch: list[Key], concurrent: bool) -> list[Key]:
        nonlocal refused
        if len(batch) * max(map(len, batch)) > room:
            refused += 1
            raise OutOfMemory("memory ran out")
        return batch

    budget = Budget(tokens=1024, warn=said.append)
    plan = distinct(keys)
    run_batches(
        [keys[index] for index in plan.firsts],
        size=len,
        budget=budget,
        run=run,
        give=noted(answered),
        callers=callers,
    )
    assert sorted(key for batch in answered for key in batch) == sorted(set(keys))
    assert refused <= 8 + 2 * callers  # halving finds the size in a few steps, and keeps to it
    assert len(said) == 1
    assert "memory ran out on a batch of" in said[0]


def test_a_row_that_does_not_fit_alone_is_named_by_its_length() -> None:
    def run(batch: list[Key], concurrent: bool) -> list[Key]:
        if max(map(len, batch)) > 5:
            raise OutOfMemory("memory ran out")
        return batch

    keys = [(1,) * length for length in (2, 8, 3)]
    for callers in (1, 2):
        with pytest.raises(WorkError, match="a single row of 8 tokens does not fit into memory"):
            run_batches(keys, size=len, budget=Budget(tokens=9), run=run, give=noted([]), callers=callers)


def test_what_can_be_split_is_split_before_it_is_given_up() -> None:
    ran: list[list[str]] = []

    def run(batch: list[str], concurrent: bool) -> list[str]:
        if len(batch[0]) > 2:
            raise OutOfMemory("memory ran out")
        return batch

    run_batches(
        ["abcd"],
        size=len,
        split=lambda item: [item[:2], item[2:]],
        budget=Budget(tokens=9),
        run=run,
        give=noted(ran),
    )
    assert ran == [["ab"], ["cd"]]


def test_batches_run_concurrently_each_other_and_are_given_in_order() -> None:
    """Two calls meet: each waits until the other one has begun."""
    meeting, here, ran = Barrier(2, timeout=30), get_ident(), list[list[Key]]()
    threads: set[int] = set()

    def run(batch: list[Key], concurrent: bool) -> list[Key]:
        assert concurrent
        threads.add(get_ident())
        meeting.wait()
        return batch

    def give(batch: list[Key], found: list[Key]) -> None:
        assert get_ident() == here
        ran.append(found)

    keys = [(1,) * length for length in range(1, 9)]
    run_batches(keys, size=len, budget=Budget(tokens=99, rows=1), run=run, give=give, callers=2)
    assert ran == [[key] for key in reversed(keys)]
    assert len(threads) == 2
    assert here not in threads


def test_a_single_batch_has_all_threads_for_itself() -> None:
    told: list[bool] = []

    def run(batch: list[Key], concurrent: bool) -> list[Key]:
        told.append(concurrent)
        return batch

    run_batches([(1,), (2,)], size=len, budget=Budget(tokens=9), run=run, give=noted([]), callers=4)
    assert told == [False]


def test_callers_are_given_equal_shares() -> None:
    """By memory alone nine rows would stand in one batch and one in another."""
    ran: list[list[Key]] = []
    keys = [(number,) * 100 for number in range(10)]
    run_batches(
        keys,
        size=len,
        budget=Budget(tokens=900, enough=100),
        run=lambda batch, concurrent: batch,
        give=noted(ran),
        callers=2,
    )
    assert [len(batch) for batch in ran] == [5, 5]


def test_an_error_of_one_batch_ends_all() -> None:
    ran: list[list[Key]] = []

    def run(batch: list[Key], concurrent: bool) -> list[Key]:
        if len(batch[0]) == 5:
            raise UsageError("no")
        return batch

    keys = [(1,) * length for length in range(1, 9)]
    with pytest.raises(UsageError, match="no"):
        run_batches(keys, size=len, budget=Budget(tokens=9, rows=1), run=run, give=noted(ran), callers=2)
    assert ran == [[key] for key in reversed(keys[5:])]


class Clock:
    """Seconds that pass as batches run."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def ran_at(choice: CallerChoice, clock: Clock, seconds_a_batch: Callable[[bool], float], *, batches: int) -> list[bool]:
    """The layout in which each batch of 100 tokens ran."""
    told = []
    for _ in range(batches):
        told.append(choice.beside)
        clock.now += seconds_a_batch(choice.beside)
        if not choice.finished(100):
            choice.begin()
    return told


def test_layouts_are_timed_on_the_work_and_the_faster_one_goes_on() -> None:
    for faster in (True, False):
        clock = Clock()
        choice = CallerChoice(clock=clock)
        told = ran_at(choice, clock, lambda beside, faster=faster: 1.0 if beside is faster else 2.0, batches=60)  # type: ignore[misc]
        assert told[0]  # beside each other first
        assert told[20:] == [faster] * 40
        assert 6 <= told.count(not faster) <= 8


def test_layouts_that_are_alike_run_beside_each_other() -> None:
    clock = Clock()
    choice = CallerChoice(clock=clock)
    assert ran_at(choice, clock, lambda beside: 1.0 if beside else 0.98, batches=40)[-1]


def test_layouts_are_compared_again_once_the_rate_falls() -> None:
    clock = Clock()
    choice = CallerChoice(clock=clock)
    ran_at(choice, clock, lambda beside: 1.2 if beside else 1.0, batches=40)
    assert not choice.beside
    told = ran_at(choice, clock, lambda beside: 2.0 if beside else 10.0, batches=60)  # a core was taken
    assert told[-1]
    assert told.count(False) <= 20


def test_a_choice_changes_layout_between_batches_and_loses_none() -> None:
    clock, ran, layouts = Clock(), list[list[Key]](), list[bool]()
    budget = Budget(tokens=12, enough=4)
    budget.choice = CallerChoice(clock=clock)

    def run(batch: list[Key], concurrent: bool) -> list[Key]:
        layouts.append(concurrent)
        return batch

    def give(batch: list[Key], found: list[Key]) -> None:
        clock.now += 2.0 if layouts[-1] else 1.0
        ran.append(batch)

    keys = [(number, 1, 1, 1) for number in range(300)]
    run_batches(keys, size=len, budget=budget, run=run, give=give, callers=2, choice=budget.choice)
    assert sorted(key for batch in ran for key in batch) == keys
    assert layouts[0]
    assert not layouts[-1]
    assert max(len(batch) * 4 for batch, beside in zip(ran, layouts, strict=True) if beside) <= 6 + 4  # one's share


def test_an_error_behind_which_others_wait_to_be_given_ends_all() -> None:
    """The second caller runs ahead as far as it may, and waits; then the first batch fails."""
    others, ahead = list[list[Key]](), Event()

    def run(batch: list[Key], concurrent: bool) -> list[Key]:
        if len(batch[0]) == 8:
            assert ahead.wait(timeout=30)
            raise UsageError("no")
        others.append(batch)
        if len(others) == 3:
            ahead.set()
        return batch

    ran: list[list[Key]] = []
    keys = [(1,) * length for length in range(1, 9)]
    with pytest.raises(UsageError, match="no"):
        run_batches(keys, size=len, budget=Budget(tokens=9, rows=1), run=run, give=noted(ran), callers=2)
    assert not ran
    assert len(others) < 7
