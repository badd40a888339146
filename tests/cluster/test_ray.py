"""Hands of a real Ray cluster, three machines pretended on this one: processes killed, a machine that goes while it
writes, folders that are not shared. Skipped where the extra `cluster` is not installed."""

import logging
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from lmtasks.cluster.dispatch import ClusterJob, Dispatcher, JobOutcome, Needs
from lmtasks.cluster.ray_pool import Greeting, HandPlace, Made, RayPool, check_on, ray_pool
from lmtasks.errors import UsageError
from lmtasks.version import __version__

ray = pytest.importorskip("ray", reason="the extra `cluster` (ray) is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
JOBS = 24


@dataclass(frozen=True)
class Numbers:
    """Jobs that write a number into a file of their own, slowly."""

    seconds: float = 0.05

    def open(self, place: HandPlace) -> "Writer":
        return Writer(place, self.seconds)


class Writer:
    def __init__(self, place: HandPlace, seconds: float) -> None:
        self.place, self.seconds = place, seconds

    def carry_out(self, work: object) -> object:
        (self.place.root / "pids").mkdir(exist_ok=True)
        (self.place.root / "pids" / str(os.getpid())).touch()
        file = self.place.root / "out" / f"{work}.txt"
        file.parent.mkdir(exist_ok=True)
        with file.open("w") as opened:
            for _ in range(5):
                opened.write(f"{work}\n")
                opened.flush()
                time.sleep(self.seconds / 5)
        return Made(folders=(f"out/{work}.txt",), value=work)


@pytest.fixture(scope="module")
def cluster() -> Iterator[object]:
    from ray.cluster_utils import Cluster

    # a busy machine leaves nothing for processes that are as nice as Ray's are
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_worker_niceness="0")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    for _ in range(2):
        found.add_node(num_cpus=1)
    ray.init(address=found.address, log_to_driver=False, logging_level=logging.ERROR)
    yield found
    ray.shutdown()
    found.shutdown()


def carried_out(pool: RayPool, told: list[str] | None = None) -> list[int]:
    """The values of all jobs, in the order that they ended."""
    found: list[int] = []

    def ended(job: ClusterJob, outcome: JobOutcome) -> Iterable[ClusterJob]:
        assert isinstance(outcome.value, Made), outcome
        found.append(int(str(outcome.value.value)))
        return ()

    jobs = [ClusterJob(name=f"job {number}", work=number, needs=Needs(cores=1)) for number in range(JOBS)]
    Dispatcher(pool=pool, ended=ended, told=(told if told is not None else []).append).run(jobs)
    return found


def assert_all_there(found: list[int], folder: Path) -> None:
    assert sorted(found) == list(range(JOBS)), "each once"
    for number in range(JOBS):
        assert (folder / "out" / f"{number}.txt").read_text() == f"{number}\n" * 5


def test_killed_processes_cost_nothing_but_time(cluster: object, tmp_path: Path) -> None:
    stopped, killed, draw = threading.Event(), list[int](), random.Random(3)

    def kill() -> None:
        while not stopped.wait(0.3) and len(killed) < 10:
            alive = [int(file.name) for file in (tmp_path / "pids").glob("*") if int(file.name) not in killed]
            if alive:
                killed.append(draw.choice(alive))
                with suppress(ProcessLookupError):
                    os.kill(killed[-1], signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    told: list[str] = []
    try:
        with ray_pool("ray", folder=tmp_path, setup=Numbers(seconds=1.0)) as pool:
            found = carried_out(pool, told)
    finally:
        stopped.set()
        thread.join()
    assert killed
    assert told
    assert_all_there(found, tmp_path)


def test_a_machine_that_goes_while_it_writes(cluster: object, tmp_path: Path) -> None:
    node = cluster.add_node(num_cpus=1)  # type: ignore[attr-defined]
    going = threading.Timer(3.0, lambda: cluster.remove_node(node, allow_graceful=False))  # type: ignore[attr-defined]
    going.start()
    with ray_pool("ray", folder=tmp_path, setup=Numbers(seconds=0.5)) as pool:
        found = carried_out(pool)
    going.join()
    assert_all_there(found, tmp_path)


def test_a_machine_without_the_folder_sends_its_results(
    cluster: object, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with ray_pool("ray", folder=tmp_path, setup=Numbers(seconds=0.0)) as pool:
        pool._number = "that of another folder"  # hands find another number in the file
        with caplog.at_level(logging.WARNING):
            found = carried_out(pool)
    assert_all_there(found, tmp_path)
    assert "which is no folder in common: it is sent models, and its results are fetched" in caplog.text
    assert not (tmp_path / "pids").exists(), "hands wrote elsewhere"


def test_versions_and_clocks_are_looked_at(cluster: object, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    like = Greeting(host="there", lmtasks=__version__, python="3.11", clock=time.time(), shared=True)
    with ray_pool("ray", folder=tmp_path, setup=Numbers()) as pool:
        with pytest.raises(UsageError, match=r"machine there has lmtasks 0\.0 and this one"):
            pool._check(replace(like, lmtasks="0.0"))
        with caplog.at_level(logging.WARNING):
            pool._check(replace(like, clock=time.time() + 3600))
        assert "the clock of machine there is 3600 s ahead" in caplog.text
        assert not pool.fits(Needs(cores=64))


@pytest.mark.parametrize("on", ["dask", "ray://", "http://host"])
def test_what_is_no_engine_is_refused(on: str) -> None:
    with pytest.raises(UsageError, match="--on"):
        check_on(on)
