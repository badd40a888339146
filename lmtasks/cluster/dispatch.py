"""Jobs handed to processes of a cluster, one at a time each, until all have ended; what is lost with a process or a
machine is handed out again. Knows no engine: `ray_pool` has the processes.

A process ("hand") keeps what it has loaded. So it is given jobs that need the same as its last one first, then jobs
that need what no other hand has, so that a model is loaded by as few hands as keep all of them busy.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from lmtasks.errors import UsageError

MOST_LOSSES = 5
"""Times that a job's process may end under it before the job fails: then it is the job that ends processes. Machines
that are lost are not counted."""
TICK_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Needs:
    """Resources that a job has for itself while it is carried out."""

    cores: int = 1
    gpus: int = 0
    memory_bytes: int = 0
    alone: bool = False
    """Nothing else of this run is on its machine."""

    @property
    def told(self) -> str:
        """For people: `2 cores, 1 GPU and 800 MB of memory`."""
        parts = [f"{self.cores} {'core' if self.cores == 1 else 'cores'}"]
        parts += [f"{self.gpus} {'GPU' if self.gpus == 1 else 'GPUs'}"] if self.gpus else []
        parts += [f"{self.memory_bytes / 1e6:,.0f} MB of memory"] if self.memory_bytes else []
        return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


@dataclass(frozen=True, kw_only=True)
class ClusterJob:
    """Something to be carried out once."""

    name: str
    """For people."""
    work: object
    """Can be pickled; what it means is known to the hand's context."""
    needs: Needs
    holds: str = ""
    """What it needs loaded: jobs with the same share a hand. Empty: nothing."""
    first: bool = False
    """Others wait for it: it goes before those that nobody waits for."""
    wants: tuple[str, ...] = ()
    """Folders below the run's that it reads, and that a machine without that folder is sent."""


@dataclass(frozen=True, kw_only=True)
class JobOutcome:
    """How a job ended."""

    value: object = None
    error: str = ""
    """Why it failed, in a sentence; empty where it did not."""


@dataclass(frozen=True, kw_only=True)
class JobEnded:
    """A hand has ended its job."""

    hand: int
    outcome: JobOutcome


@dataclass(frozen=True, kw_only=True)
class HandLost:
    """A hand is gone."""

    hand: int
    why: str
    machine: bool
    """Was its machine lost? Else its process alone ended."""


Event = JobEnded | HandLost


class HandPool(Protocol):
    """Processes of a cluster."""

    def fits(self, needs: Needs) -> bool:
        """Could a machine of the cluster, were it empty, carry that out?"""
        ...

    def largest(self) -> str:
        """The largest machine, for people."""
        ...

    def start(self, needs: Needs) -> int | None:
        """A new hand with these resources; None where there is no room for it now."""
        ...

    def give(self, hand: int, job: ClusterJob) -> None:
        """Let an idle hand carry out a job."""
        ...

    def wait(self, seconds: float) -> Sequence[Event]:
        """Events since the last call; comes back at the first one."""
        ...

    def stop(self, hand: int) -> None:
        """End an idle hand."""
        ...


@dataclass(kw_only=True)
class _Queue:
    """Jobs of the same needs that wait."""

    first: deque[ClusterJob] = field(default_factory=deque)
    by_key: dict[str, deque[ClusterJob]] = field(default_factory=dict)

    def add(self, job: ClusterJob) -> None:
        if job.first:
            self.first.append(job)
        else:
            self.by_key.setdefault(job.holds, deque()).append(job)

    def __bool__(self) -> bool:
        return bool(self.first or self.by_key)

    def take(self, *, held: str, others: frozenset[str]) -> ClusterJob:
        """The next job for a hand.

        Args:
            held: by the hand.
            others: held by other hands.
        """
        if self.first:
            return self.first.popleft()
        key = held if held in self.by_key else next((each for each in self.by_key if each not in others), None)
        if key is None:  # the others have begun with all of them: the one with most to do is loaded once more
            key = max(self.by_key, key=lambda each: len(self.by_key[each]))
        job = self.by_key[key].popleft()
        if not self.by_key[key]:
            del self.by_key[key]
        return job


@dataclass(kw_only=True)
class Dispatcher:
    """Carries out jobs over a pool.

    Args:
        ended: is told how a job ended, and names jobs that may be carried out now.
        told: is handed a sentence on what was lost.
    """

    pool: HandPool
    ended: Callable[[ClusterJob, JobOutcome], Iterable[ClusterJob]]
    told: Callable[[str], None] = lambda sentence: None
    at_work: dict[int, ClusterJob] = field(default_factory=dict)
    """By hand."""
    _hands: dict[int, Needs] = field(default_factory=dict)
    _held: dict[int, str] = field(default_factory=dict)
    _queues: dict[Needs, _Queue] = field(default_factory=dict)
    _losses: dict[int, int] = field(default_factory=dict)
    """By the identity of a job."""

    def run(self, jobs: Iterable[ClusterJob]) -> None:
        """Carry out these and all that follow from them.

        Raises:
            UsageError: no machine of the cluster could carry out one of them.
        """
        for job in jobs:
            self._add(job)
        while self.at_work or any(self._queues.values()):
            self._hand_out()
            for event in self.pool.wait(TICK_SECONDS):
                if isinstance(event, JobEnded):
                    self._finished(self.at_work.pop(event.hand), event.outcome)
                else:
                    self._lost(event)
        for hand in list(self._hands):
            self._stop(hand)

    def _add(self, job: ClusterJob) -> None:
        if not self.pool.fits(job.needs):
            raise UsageError(
                f"{job.name} needs {job.needs.told}, and the largest machine of the cluster has {self.pool.largest()}; "
                "give fewer --threads, or add a machine."
            )
        self._queues.setdefault(job.needs, _Queue()).add(job)

    def _finished(self, job: ClusterJob, outcome: JobOutcome) -> None:
        self._losses.pop(id(job), None)
        for more in self.ended(job, outcome):
            self._add(more)

    def _lost(self, event: HandLost) -> None:
        self._hands.pop(event.hand, None)
        self._held.pop(event.hand, None)
        job = self.at_work.pop(event.hand, None)
        if job is None:
            return
        losses = self._losses.get(id(job), 0) + (not event.machine)
        self._losses[id(job)] = losses
        if losses >= MOST_LOSSES:
            self._finished(job, JobOutcome(error=f"its process ended {losses} times ({event.why})."))
            return
        self.told(f"{job.name} was lost with its {'machine' if event.machine else 'process'} and is carried out again")
        self._queues.setdefault(job.needs, _Queue()).add(job)

    def _hand_out(self) -> None:
        """Give every idle hand a job, start hands where there is room, and end those that are in the way."""
        for needs in sorted((each for each, queue in self._queues.items() if queue), key=lambda each: each.alone):
            queue = self._queues[needs]
            for hand in [each for each, has in self._hands.items() if has == needs and each not in self.at_work]:
                if queue:
                    self._give(hand, queue)
            while queue:
                started = self.pool.start(needs)
                if started is None and not self._make_room(needs):
                    break
                if started is not None:
                    self._hands[started] = needs
                    self._give(started, queue)

    def _give(self, hand: int, queue: _Queue) -> None:
        others = frozenset(key for each, key in self._held.items() if each != hand)
        job = queue.take(held=self._held.get(hand, ""), others=others)
        self._held[hand] = job.holds
        self.at_work[hand] = job
        self.pool.give(hand, job)

    def _make_room(self, needs: Needs) -> bool:
        """End one idle hand of another shape that has nothing to do; False where there is none."""
        for hand, has in self._hands.items():
            if hand not in self.at_work and has != needs and not self._queues.get(has):
                self._stop(hand)
                return True
        return False

    def _stop(self, hand: int) -> None:
        del self._hands[hand]
        self._held.pop(hand, None)
        self.pool.stop(hand)


def summed(jobs: Mapping[int, ClusterJob]) -> str:
    """Jobs at work, for a line of progress."""
    names = [job.name for job in jobs.values()]
    return names[0] if len(names) == 1 else f"{len(names)} at work: {names[0]}, ..." if names else ""
