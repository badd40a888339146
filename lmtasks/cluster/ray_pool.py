"""Hands of a Ray cluster: each an actor, a process of its own with resources of its own.

    with ray_pool("ray", folder=out, setup=setup) as pool:      a cluster on this machine, for as long as the block
    with ray_pool("ray://head:10001", ...) as pool:             one that is there

A machine that sees the run's folder (a file with a number drawn for this run lies there) writes into it. One that does
not is sent what it reads, and its results are fetched; a path that exists on both and is not the same folder is so no
trap. What an actor cannot be asked for is told in a sentence: Ray is absent, is of another version, a machine has
another lmtasks.
"""

import importlib.util
import io
import logging
import os
import platform
import shutil
import socket
import tarfile
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from lmtasks.cluster.dispatch import ClusterJob, Event, HandLost, JobEnded, JobOutcome, Needs
from lmtasks.cores import usable_cores
from lmtasks.errors import LmtasksError, UsageError, WorkError
from lmtasks.files import first_line
from lmtasks.version import __version__

RAY = "ray"
PREFIX = "ray://"
AUTO = "auto"
PROBE = ".cluster-probe"
CLOCKS_SECONDS = 60.0
"""Clocks that differ by more are told: records of when something was done cannot be put in order."""
MACHINES_SECONDS = 5.0
"""Between two looks at which machines there are."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class HandPlace:
    """Where a hand works."""

    root: Path
    """The run's folder, or a folder of the hand's own that stands for it."""
    shared: bool
    """Is it the run's folder?"""
    host: str


class HandContext(Protocol):
    """Carries out the work of jobs in one process, and keeps what it has loaded."""

    def carry_out(self, work: object) -> object:
        """The job's value; a `Made` names what it wrote.

        Raises:
            LmtasksError: it failed.
        """
        ...


class HandSetup(Protocol):
    """Everything that the jobs of a run have in common; can be pickled."""

    def open(self, place: HandPlace) -> HandContext:
        """Make what carries out the jobs."""
        ...


@dataclass(frozen=True, kw_only=True)
class Made:
    """Files that a job wrote below its root, and what else it says."""

    folders: tuple[str, ...]
    """Relative to the root."""
    value: object = None


@dataclass(frozen=True, kw_only=True)
class Greeting:
    """A new hand's word on itself."""

    host: str
    lmtasks: str
    python: str
    clock: float
    """Seconds since 1970, at the hand."""
    shared: bool


@dataclass(frozen=True, kw_only=True)
class _Reply:
    value: object = None
    error: str = ""
    packed: bytes = b""
    warnings: tuple[str, ...] = ()


class _Warnings(logging.Handler):
    def __init__(self) -> None:
        super().__init__(level=logging.WARNING)
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.told.append(record.getMessage())


class Hand:
    """One process of a cluster. Carries out a job at a time."""

    def __init__(self, folder: str, number: str, setup: HandSetup, beside: str) -> None:
        with suppress(OSError):
            os.chdir(beside)  # relative paths mean what they mean to the driver
        seen = Path(folder) / PROBE
        try:
            shared = seen.read_text(encoding="utf-8") == number
        except OSError:
            shared = False
        self._own = None if shared else tempfile.mkdtemp(prefix="lmtasks-hand-")
        root = Path(folder) if self._own is None else Path(self._own)
        self._place = HandPlace(root=root, shared=shared, host=socket.gethostname())
        self._setup = setup
        self._context: HandContext | None = None

    def greet(self) -> Greeting:
        """Say all that the driver must know before the first job."""
        return Greeting(
            host=self._place.host,
            lmtasks=__version__,
            python=platform.python_version(),
            clock=time.time(),
            shared=self._place.shared,
        )

    def receive(self, packed: bytes) -> None:
        """Take folders that jobs will read."""
        unpack(packed, self._place.root)

    def carry_out(self, work: object) -> _Reply:
        """Carry out one job; an error is an answer, too."""
        told = _Warnings()
        logging.getLogger("lmtasks").addHandler(told)
        try:
            if self._context is None:
                self._context = self._setup.open(self._place)
            value = self._context.carry_out(work)
        except LmtasksError as error:
            return _Reply(error=str(error), warnings=tuple(told.told))
        except Exception as error:  # noqa: BLE001  # whatever it is, it is this job's, and the others go on
            return _Reply(error=f"{type(error).__name__}: {first_line(error)}", warnings=tuple(told.told))
        finally:
            logging.getLogger("lmtasks").removeHandler(told)
        packed = b""
        if isinstance(value, Made) and not self._place.shared:
            packed = pack(self._place.root, value.folders)
        return _Reply(value=value, packed=packed, warnings=tuple(told.told))


def pack(root: Path, folders: Sequence[str]) -> bytes:
    """Folders below a root, those that are there, as one tar."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name in folders:
            if (root / name).exists():
                archive.add(root / name, arcname=name)
    return content.getvalue()


def unpack(packed: bytes, root: Path) -> None:
    """Write folders below a root."""
    root.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(root, filter="data")


@dataclass(kw_only=True)
class _Machine:
    cores: float
    gpus: float
    memory_bytes: float
    name: str
    used: dict[int, Needs] = field(default_factory=dict)
    """By hand."""

    def holds(self, needs: Needs, *, empty: bool = False) -> bool:
        used = [] if empty else list(self.used.values())
        if used and (needs.alone or any(each.alone for each in used)):
            return False
        return (
            self.cores - sum(each.cores for each in used) >= needs.cores
            and self.gpus - sum(each.gpus for each in used) >= needs.gpus
            and self.memory_bytes - sum(each.memory_bytes for each in used) >= needs.memory_bytes
        )


@dataclass(kw_only=True)
class _Live:
    """A hand as the driver knows it."""

    actor: Any
    machine: str
    greeted: bool = False
    shared: bool = True
    job: ClusterJob | None = None
    ref: Any = None
    sent: set[str] = field(default_factory=set)


class RayPool:
    """Hands of a Ray cluster that this process is connected to."""

    def __init__(self, *, folder: Path, setup: HandSetup) -> None:
        import ray

        self._ray = ray
        self._folder = folder.absolute()
        self._number = uuid.uuid4().hex
        self._setup = ray.put(setup)
        self._machines: dict[str, _Machine] = {}
        self._looked = -MACHINES_SECONDS
        self._live: dict[int, _Live] = {}
        self._count = 0
        self._warned: set[str] = set()
        self._sent: dict[str, Any] = {}
        self._here = socket.gethostname()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / PROBE).write_text(self._number, encoding="utf-8")
        self._look(force=True)

    def close(self) -> None:
        """End all hands."""
        for hand in list(self._live):
            self.stop(hand)
        (self._folder / PROBE).unlink(missing_ok=True)

    def fits(self, needs: Needs) -> bool:
        """Is a machine large enough?"""
        self._look()
        return any(machine.holds(needs, empty=True) for machine in self._machines.values())

    def largest(self) -> str:
        """The machine with most cores, for people."""
        if not self._machines:
            return "nothing, since it has no machines"
        machine = max(self._machines.values(), key=lambda each: (each.gpus, each.cores))
        return Needs(cores=int(machine.cores), gpus=int(machine.gpus), memory_bytes=int(machine.memory_bytes)).told

    def start(self, needs: Needs) -> int | None:
        """Start an actor on a machine with room."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._look()
        found = next(((key, each) for key, each in self._machines.items() if each.holds(needs)), None)
        if found is None:
            return None
        key, machine = found
        cores = int(machine.cores) if needs.alone else needs.cores
        actor = (
            self._ray.remote(Hand)
            .options(
                num_cpus=cores,
                num_gpus=int(machine.gpus) if needs.alone else needs.gpus,
                memory=needs.memory_bytes or None,
                max_restarts=0,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node_id=key, soft=False),
            )
            .remote(str(self._folder), self._number, self._setup, os.getcwd())
        )
        self._count += 1
        self._live[self._count] = _Live(actor=actor, machine=key)
        machine.used[self._count] = needs
        return self._count

    def give(self, hand: int, job: ClusterJob) -> None:
        """Hand a job on; a new actor is greeted first."""
        live = self._live[hand]
        live.job = job
        if not live.greeted:
            live.ref = live.actor.greet.remote()
            return
        self._send(live, job)
        live.ref = live.actor.carry_out.remote(job.work)

    def wait(self, seconds: float) -> Sequence[Event]:
        """Wait for the first actor that has something to say."""
        refs = {live.ref: hand for hand, live in self._live.items() if live.ref is not None}
        if not refs:
            time.sleep(min(seconds, 0.05))
            return ()
        ready, _ = self._ray.wait(list(refs), num_returns=1, timeout=seconds)
        if not ready:
            return ()
        more, _ = self._ray.wait(list(refs), num_returns=len(refs), timeout=0)
        return [event for ref in more for event in self._event(refs[ref])]

    def stop(self, hand: int) -> None:
        """End an actor."""
        live = self._live.pop(hand)
        machine = self._machines.get(live.machine)
        if machine is not None:
            machine.used.pop(hand, None)
        with suppress(Exception):  # it is gone already
            self._ray.kill(live.actor, no_restart=True)

    def _event(self, hand: int) -> Iterator[Event]:
        live = self._live[hand]
        ref, live.ref = live.ref, None
        try:
            reply = self._ray.get(ref)
        except self._ray.exceptions.RayTaskError as error:
            raise WorkError(f"a process of the cluster cannot work: {_told(error)}") from error
        except self._ray.exceptions.RayError as error:
            self._refuse_no_lmtasks(error)
            self._look(force=True)
            gone = live.machine not in self._machines
            self.stop(hand)
            yield HandLost(hand=hand, why=_told(error), machine=gone)
            return
        assert live.job is not None  # it was given one
        if isinstance(reply, Greeting):
            self._check(reply)
            live.greeted, live.shared = True, reply.shared
            self._send(live, live.job)
            live.ref = live.actor.carry_out.remote(live.job.work)
            return
        assert isinstance(reply, _Reply)
        live.job = None
        for sentence in reply.warnings:
            if sentence not in self._warned:
                self._warned.add(sentence)
                log.warning("%s", sentence)
        if reply.packed:
            unpack(reply.packed, self._folder)
        yield JobEnded(hand=hand, outcome=JobOutcome(value=reply.value, error=reply.error))

    def _send(self, live: _Live, job: ClusterJob) -> None:
        """Send a machine without the run's folder what a job reads."""
        if live.shared:
            return
        for name in job.wants:
            if name not in live.sent and (self._folder / name).exists():
                if name not in self._sent:
                    self._sent[name] = self._ray.put(pack(self._folder, [name]))
                live.actor.receive.remote(self._sent[name])
                live.sent.add(name)

    def _check(self, greeting: Greeting) -> None:
        """Refuse another version; tell of clocks, and of a folder that is not shared."""
        if greeting.lmtasks != __version__:
            raise UsageError(
                f"machine {greeting.host} has lmtasks {greeting.lmtasks} and this one {__version__}; install the same "
                "version everywhere: scores of different ones are not compared."
            )
        ahead = greeting.clock - time.time()
        if abs(ahead) > CLOCKS_SECONDS and greeting.host not in self._warned:
            self._warned.add(greeting.host)
            log.warning(
                "the clock of machine %s is %.0f s %s: the times in its records cannot be put in order with others",
                greeting.host,
                abs(ahead),
                "ahead" if ahead > 0 else "behind",
            )
        told = f"{greeting.host} does not share"
        if not greeting.shared and told not in self._warned:
            self._warned.add(told)
            log.warning(
                "machine %s does not see %s, which is no folder in common: it is sent models, and its results are "
                "fetched; a training that is lost there begins anew",
                greeting.host,
                self._folder,
            )

    def _refuse_no_lmtasks(self, error: Exception) -> None:
        if "No module named" in str(error):
            raise UsageError(
                f"a machine of the cluster lacks a package ({_told(error)}); install lmtasks {__version__} there, in "
                "the environment that its `ray start` was given in."
            ) from error

    def _look(self, *, force: bool = False) -> None:
        """Renew which machines there are."""
        now = time.monotonic()
        if not force and now - self._looked < MACHINES_SECONDS:
            return
        self._looked = now
        there = {node["NodeID"]: node for node in self._ray.nodes() if node["Alive"]}
        for key in list(self._machines):
            if key not in there:
                del self._machines[key]
        for key, node in there.items():
            resources: Mapping[str, float] = node["Resources"]
            if key not in self._machines and resources.get("CPU", 0) > 0:
                self._machines[key] = _Machine(
                    cores=resources.get("CPU", 0),
                    gpus=resources.get("GPU", 0),
                    memory_bytes=resources.get("memory", 0),
                    name=str(node.get("NodeManagerHostname", key)),
                )


def check_on(on: str) -> None:
    """Refuse what is no engine for many machines, before any work.

    Raises:
        UsageError: it is none, or Ray is not installed.
    """
    if on != RAY and not on.startswith(PREFIX):
        raise UsageError(f"--on must be ray, ray://auto or ray://HOST:PORT, was {on!r}.")
    if on == PREFIX:
        raise UsageError("--on ray:// lacks an address: ray://auto or ray://HOST:10001; ray alone starts a cluster.")
    if importlib.util.find_spec("ray") is None:
        raise UsageError(
            "--on ray needs the package ray, which is not installed: pip install 'lmtasks[cluster]' brings it, here "
            "and on every machine of the cluster."
        )


@contextmanager
def ray_pool(on: str, *, folder: Path, setup: HandSetup) -> Iterator[RayPool]:
    """Hands of a cluster: of one that is connected to already, of the address behind `ray://`, or of one that is
    started on this machine for as long as the block lasts.

    Args:
        folder: of the run; machines that see it write into it.

    Raises:
        UsageError: Ray is not installed, or the cluster's is of another version.
        WorkError: there is no cluster at the address.
    """
    check_on(on)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is told that it is used
    import ray

    ours = not ray.is_initialized()
    if ours:
        _connect(on)
    pool: RayPool | None = None
    try:
        pool = RayPool(folder=folder, setup=setup)
        yield pool
    finally:
        if pool is not None:
            pool.close()
        if ours:
            ray.shutdown()


def _connect(on: str) -> None:
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    local: dict[str, Any] = {"num_cpus": usable_cores(), "include_dashboard": False, "configure_logging": False}
    try:
        if on == RAY:
            os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 would show in timings
            ray.init(address="local", **local, **quiet)
        elif on == f"{PREFIX}{AUTO}":
            ray.init(address=AUTO, configure_logging=False, **quiet)
        else:
            ray.init(address=on, **quiet)
    except (ConnectionError, TimeoutError) as error:
        raise WorkError(f"there is no Ray cluster at {on}: {first_line(error)}") from error
    except (RuntimeError, ValueError) as error:
        if "ersion" in str(error):
            raise UsageError(
                f"the cluster at {on} has another version of Ray or of Python than this machine ({first_line(error)}); "
                "install the same ones."
            ) from error
        raise WorkError(f"the Ray cluster {on} cannot be used: {first_line(error)}") from error


def _told(error: Exception) -> str:
    """The last line of what Ray says that is not about where its logs lie."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300].rstrip(".")


def clear(folder: Path) -> None:
    """Remove what an earlier run left between its hands and its results."""
    shutil.rmtree(folder, ignore_errors=True)
