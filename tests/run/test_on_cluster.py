"""A plan over three machines of a Ray cluster, its processes killed at random: the cells of one process, byte for byte;
and what many cells cost before the first one begins."""

import json
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from lmtasks.cluster.dispatch import ClusterJob, Event, Needs
from lmtasks.cluster.handover import STAGE
from lmtasks.records import Progress
from lmtasks.run.folder import RunFolder
from lmtasks.run.on_cluster import ClusterCells
from lmtasks.run.plan import Plan, VariantPlan, load_plan
from lmtasks.run.run_plan import Ran, run_plan
from lmtasks.run.runner import CellRunner, CellTally, RunOptions
from lmtasks.run.variants import Artefacts
from lmtasks.settings.data import DataAccess
from lmtasks.task.index import default_index

TASKS = ("starter_sentiment_en", "starter_topic_en")
PLAN = f"""
plan: seeded
tasks: [{", ".join(TASKS)}]
limit: 20
seeds: [1, 2]
models:
  small: {{backbone: "average:width=8,buckets=50", training: {{epochs: 0.3, rows: 20, evaluations: 1}}}}
variants:
  - {{name: floor, baseline: majority}}
  - {{name: average, model: small}}
bench: null
"""
KILLS = 10


def carried_out(folder: Path, name: str, *, on: str = "", report: Callable[[Progress], None] = lambda _: None) -> Ran:
    file = folder / "plan.yaml"
    file.write_text(PLAN)
    options = RunOptions(data=DataAccess(offline=True), threads=1, on=on)
    return run_plan(
        load_plan(file), plan_file=file, index=default_index(), out=folder / name, options=options, report=report
    )


def kill_hands(stopped: threading.Event, killed: list[int]) -> None:
    """Kill a process of the cluster that is at work, now and then."""
    import psutil

    draw = random.Random(3)
    while not stopped.wait(2.0) and len(killed) < KILLS:
        with suppress(psutil.Error):
            mine = psutil.Process().children(recursive=True)
            hands = [each for each in mine if "ray::Hand.carry_out" in " ".join(each.cmdline())]
            if hands:
                hand = draw.choice(hands)
                hand.kill()
                killed.append(hand.pid)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_cells_of_killed_processes_are_those_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmtasks.cluster.dispatch.MOST_LOSSES", KILLS + 1)  # chance may hit one of the few jobs again
    ray = pytest.importorskip("ray", reason="the extra `cluster` (ray) is not installed")
    from ray.cluster_utils import Cluster

    alone = carried_out(tmp_path, "one")
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_worker_niceness="0")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    stopped, killed = threading.Event(), list[int]()
    killing = threading.Thread(target=kill_hands, args=(stopped, killed))
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
        killing.start()
        seen: list[Progress] = []
        ran = carried_out(tmp_path, "three", on="ray", report=seen.append)
        found = carried_out(tmp_path, "three", on="ray")
    finally:
        stopped.set()
        if killing.is_alive():
            killing.join()
        ray.shutdown()
        cluster.shutdown()
    assert killed
    assert (ran.done, ran.failed) == (alone.done, ())
    assert (found.done, found.found) == (0, alone.done)
    assert seen[-1].done == seen[-1].total == alone.done
    names = {file.name for file in (tmp_path / "one" / "cells").iterdir()}
    assert names == {file.name for file in (tmp_path / "three" / "cells").iterdir()}
    for name in names:
        one, other = (json.loads((tmp_path / each / "cells" / name).read_text()) for each in ("one", "three"))
        assert json.dumps(one["statistics"]) == json.dumps(other["statistics"])
        assert one["samples_checksum"] == other["samples_checksum"]
        assert one["result"]["metrics"] == other["result"]["metrics"]
    for place in ("samples", "models"):
        kept = [sorted(file.name for file in (tmp_path / each / place).iterdir()) for each in ("one", "three")]
        assert kept[0] == kept[1]
    assert not (tmp_path / "three" / STAGE).exists(), "no orphan"
    assert not list((tmp_path / "three").glob(".cluster-probe"))


def test_ray_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lmtasks.errors import UsageError

    monkeypatch.setattr("lmtasks.cluster.ray_pool.importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'lmtasks\[cluster\]'"):
        carried_out(tmp_path, "out", on="ray")
    assert not (tmp_path / "out").exists()


def test_a_hundred_thousand_cells_are_planned_at_once(tmp_path: Path) -> None:
    """Time of the processor, far below what is asked: 10 s and 500 MB."""
    tasks = default_index().find("starter_*")[:20]
    variants = tuple(VariantPlan(name=f"v{number}", baseline=("majority",)) for number in range(100))
    seeds = tuple(range(100_000 // (len(tasks) * len(variants))))
    plan = Plan(plan="p", tasks=tuple(task.name for task in tasks), variants=variants, seeds=seeds)
    folder, options = RunFolder(root=tmp_path / "none"), RunOptions(data=DataAccess(offline=True), threads=1)
    artefacts = Artefacts(plan=plan, tasks=tasks, folder=folder, options=options.data, report=lambda _: None)
    runner = CellRunner(
        plan=plan, tasks=tasks, splits={}, folder=folder, options=options, artefacts=artefacts, report=lambda _: None
    )
    began = time.process_time()
    tally = CellTally(runner=runner, coming=runner.coming())
    tally.begin()
    for cell in tally.coming[:2000]:
        tally.ended(cell, "done", "", seconds=1.0)
    assert len(tally.coming) == 100_000
    assert time.process_time() - began < 10
    assert sum(tally.count.values()) == 2000


class NoHands:
    """A pool that has no room for anything."""

    def fits(self, needs: Needs) -> bool:
        return False

    def largest(self) -> str:
        return "nothing"

    def start(self, needs: Needs) -> int | None:
        return None

    def give(self, hand: int, job: ClusterJob) -> None:
        raise AssertionError(job.name)

    def wait(self, seconds: float) -> Sequence[Event]:
        return ()

    def stop(self, hand: int) -> None:
        raise AssertionError(hand)


def test_answers_that_exist_are_scored_where_they_lie(tmp_path: Path) -> None:
    """No machine of the cluster needs the file."""
    (task,) = default_index().find("starter_sentiment_en")
    answers = tmp_path / "answers.jsonl"
    answers.write_text("".join(f'{{"row": {row}, "answer": "{task.labels[0]}"}}\n' for row in range(6)))
    plan = Plan(plan="p", tasks=(task.name,), variants=(VariantPlan(name="mine", answers=str(answers)),), limit=6)
    folder, options = RunFolder(root=tmp_path / "out"), RunOptions(data=DataAccess(offline=True), threads=1)
    artefacts = Artefacts(plan=plan, tasks=[task], folder=folder, options=options.data, report=lambda _: None)
    runner = CellRunner(
        plan=plan, tasks=[task], splits={}, folder=folder, options=options, artefacts=artefacts, report=lambda _: None
    )
    tally = CellTally(runner=runner, coming=runner.coming())
    ClusterCells(runner=runner, pool=NoHands(), tally=tally).run()
    assert (tally.count["done"], tally.failed) == (1, [])
    assert not (folder.root / STAGE).exists()
