"""Jobs over hands that are only pretended: order, room, what is lost on the way, and what the handing out costs."""

import random
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import pytest

from lmtasks.cluster.dispatch import MOST_LOSSES, ClusterJob, Dispatcher, Event, HandLost, JobEnded, JobOutcome, Needs
from lmtasks.errors import UsageError

ONE = Needs(cores=1)


@dataclass(kw_only=True)
class Machines:
    """One machine with cores; each hand ends the job that it was given first."""

    cores: int
    lose: deque[HandLost | None] = field(default_factory=deque)
    """For each event in turn: instead of it the hand is lost (of that kind)."""
    hands: dict[int, Needs] = field(default_factory=dict)
    given: list[tuple[int, str]] = field(default_factory=list)
    waiting: deque[int] = field(default_factory=deque)
    most: int = 0

    def fits(self, needs: Needs) -> bool:
        return needs.cores <= self.cores and not needs.gpus

    def largest(self) -> str:
        return Needs(cores=self.cores).told

    def start(self, needs: Needs) -> int | None:
        used = sum(each.cores for each in self.hands.values())
        if used + needs.cores > self.cores or (self.hands and needs.alone):
            return None
        hand = len(self.given) + 1000 * len(self.hands) + 1
        while hand in self.hands:
            hand += 1
        self.hands[hand] = needs
        self.most = max(self.most, len(self.hands))
        return hand

    def give(self, hand: int, job: ClusterJob) -> None:
        self.given.append((hand, job.name))
        self.waiting.append(hand)

    def wait(self, seconds: float) -> Sequence[Event]:
        hand = self.waiting.popleft()
        lost = self.lose.popleft() if self.lose else None
        if lost is not None:
            del self.hands[hand]
            return [HandLost(hand=hand, why=lost.why, machine=lost.machine)]
        return [JobEnded(hand=hand, outcome=JobOutcome(value=hand))]

    def stop(self, hand: int) -> None:
        del self.hands[hand]


def carried_out(
    pool: Machines, jobs: Sequence[ClusterJob], more: Iterable[ClusterJob] = ()
) -> list[tuple[str, JobOutcome]]:
    """Names and ends, in the order that they ended."""
    found: list[tuple[str, JobOutcome]] = []
    follow = {"first": list(more)}

    def ended(job: ClusterJob, outcome: JobOutcome) -> Iterable[ClusterJob]:
        found.append((job.name, outcome))
        return follow.pop(job.name, ())

    Dispatcher(pool=pool, ended=ended).run(jobs)
    assert not pool.hands, "no hand is left"
    return found


def job(name: str, holds: str = "", **settings: object) -> ClusterJob:
    return ClusterJob(**{"name": name, "work": name, "needs": ONE, "holds": holds, **settings})  # type: ignore[arg-type]


def test_what_others_wait_for_goes_first_and_what_follows_it_is_added() -> None:
    pool = Machines(cores=1)
    found = carried_out(pool, [job("a"), job("first", first=True)], more=[job("b")])
    assert [name for name, _ in found] == ["first", "a", "b"]


def test_a_hand_keeps_to_what_it_has_loaded() -> None:
    pool = Machines(cores=2)
    jobs = [job(f"{model}{number}", holds=model) for number in range(4) for model in "xy"]
    carried_out(pool, jobs)
    loaded = Counter((hand, name[0]) for hand, name in pool.given)
    assert len(loaded) == 2, "each model in one hand"


def test_the_last_model_is_shared_by_hands_that_have_nothing_else() -> None:
    pool = Machines(cores=3)
    carried_out(pool, [job(str(number), holds="x") for number in range(9)])
    assert len({hand for hand, _ in pool.given}) == 3


def test_jobs_of_other_needs_get_room() -> None:
    pool = Machines(cores=2)
    jobs = [job("small"), job("large", needs=Needs(cores=2)), job("alone", needs=Needs(cores=1, alone=True))]
    assert {name for name, _ in carried_out(pool, jobs)} == {"small", "large", "alone"}


def test_a_job_without_room_is_named() -> None:
    with pytest.raises(UsageError, match=r"cell v--t--s1 needs 8 cores and 1 GPU, and the largest machine .* 2 cores;"):
        carried_out(Machines(cores=2), [job("cell v--t--s1", needs=Needs(cores=8, gpus=1))])


def test_lost_jobs_are_carried_out_again_once() -> None:
    draw = random.Random(5)
    process, machine = HandLost(hand=0, why="killed", machine=False), HandLost(hand=0, why="killed", machine=True)
    lost = [draw.choice([process, machine, None, None, None, None]) for _ in range(50)]
    pool = Machines(cores=3, lose=deque(lost))
    found = carried_out(pool, [job(str(number), holds=str(number % 4)) for number in range(40)])
    assert sorted(name for name, _ in found) == sorted(map(str, range(40))), "each ends once"
    assert all(not outcome.error for _, outcome in found)


def test_a_job_that_ends_its_processes_fails_and_lost_machines_do_not_count() -> None:
    process, machine = HandLost(hand=0, why="signal 9", machine=False), HandLost(hand=0, why="gone", machine=True)
    pool = Machines(cores=1, lose=deque([machine] * 7 + [process] * MOST_LOSSES))
    (found,) = carried_out(pool, [job("bad")])
    assert found[1].error == "its process ended 5 times (signal 9)."


def test_handing_out_costs_little() -> None:
    """20,000 cells of 200 models over 32 hands: far below 20 ms a cell."""
    pool = Machines(cores=32)
    jobs = [job(str(number), holds=str(number % 200)) for number in range(20_000)]
    began = time.process_time()
    carried_out(pool, jobs)
    assert (time.process_time() - began) / len(jobs) < 0.005
