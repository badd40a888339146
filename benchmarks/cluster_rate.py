"""Cells over a Ray cluster, each of a model that is only pretended (it sleeps): the share of the ideal rate, and what
lies between two cells of one process.

    python benchmarks/cluster_rate.py                    1,000 cells of 0.5 s over 8 processes
    python benchmarks/cluster_rate.py --cells 100

All but the model is real: hands of Ray, cells that they write aside, the process that moves them into place, reads them
and reports. Time counts from the first cell that begins, all processes being there, to the last one that is in place.
Exit code 3: less than 85 % of the ideal rate, or more than 20 ms between two cells of a process (median).
"""

import argparse
import logging
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import ray

from lmtasks.cluster.handover import new_stage
from lmtasks.cluster.ray_pool import HandPlace, Made, ray_pool
from lmtasks.records import Progress
from lmtasks.results.cell import CellRecord
from lmtasks.run.folder import RunFolder, cell_id
from lmtasks.run.on_cluster import ClusterCells, ScoredCell, ScoreWork
from lmtasks.run.plan import Plan, VariantPlan
from lmtasks.run.runner import CellRunner, CellTally, RunOptions
from lmtasks.run.variants import Artefacts
from lmtasks.settings.data import DataAccess
from lmtasks.task.index import default_index

LEAST_SHARE, MOST_MS = 0.85, 20.0
TASKS = 20


@dataclass(frozen=True, kw_only=True)
class SleepingSetup:
    """Cells that sleep and then write a record that was scored once."""

    record: CellRecord
    seconds: float

    def open(self, place: HandPlace) -> "Sleeper":
        """The context of one hand."""
        return Sleeper(setup=self, place=place)


@dataclass(kw_only=True)
class Sleeper:
    """One hand's context."""

    setup: SleepingSetup
    place: HandPlace

    def carry_out(self, work: object) -> object:
        """Sleep, and write the cell aside."""
        assert isinstance(work, ScoreWork)
        began, stage = time.time(), new_stage()
        time.sleep(self.setup.seconds)
        identity = cell_id(variant=work.variant, task=work.task, trial=work.trial)
        file = RunFolder(root=self.place.root / stage).cell(identity)
        file.parent.mkdir(parents=True)
        self.setup.record.model_copy(update={"id": identity}).write(file)
        with (self.place.root / "times").open("a") as told:
            told.write(f"{os.getpid()} {began} {time.time()}\n")
        return Made(folders=(stage,), value=ScoredCell(stage=stage, status="done", reason="", seconds=0.5))


def runner_of(folder: Path, *, variants: int) -> CellRunner:
    """A plan of baselines on twenty starter tasks."""
    tasks = default_index().find("starter_*")[:TASKS]
    plan = Plan(
        plan="rate",
        tasks=tuple(task.name for task in tasks),
        variants=tuple(VariantPlan(name=f"v{number}", baseline=("majority",)) for number in range(variants)),
        seeds=(1,),
        limit=20,
    )
    place, options = RunFolder(root=folder), RunOptions(data=DataAccess(offline=True), threads=1)
    artefacts = Artefacts(plan=plan, tasks=tasks, folder=place, options=options.data, report=lambda progress: None)
    return CellRunner(
        plan=plan,
        tasks=tasks,
        splits={},
        folder=place,
        options=options,
        artefacts=artefacts,
        report=lambda progress: None,
    )


def main() -> int:
    """Carry the cells out and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--processes", type=int, default=8)
    given = parser.parse_args()
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_worker_niceness="0")
    ray.init(num_cpus=given.processes, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with tempfile.TemporaryDirectory() as there:
        folder = Path(there)
        runner = runner_of(folder / "run", variants=-(-given.cells // TASKS))
        coming = runner.coming()[: given.cells]
        one = runner_of(folder / "one", variants=1)
        one.cell_without_model(coming[0])
        record = CellRecord.read(one.folder.cell(coming[0].id))
        reports: list[Progress] = []
        runner.report = reports.append
        before = time.process_time()
        setup = SleepingSetup(record=record, seconds=given.seconds)
        with ray_pool("ray", folder=runner.folder.root, setup=setup) as pool:
            ClusterCells(runner=runner, pool=pool, tally=CellTally(runner=runner, coming=coming)).run()
            ended = time.time()
        used = time.process_time() - before
        lines = [line.split() for line in (runner.folder.root / "times").read_text().splitlines()]
    ray.shutdown()
    by_process: dict[str, list[tuple[float, float]]] = {}
    for process, began, done in lines:
        by_process.setdefault(process, []).append((float(began), float(done)))
    all_there = max(min(began for began, _ in times) for times in by_process.values())
    counted = [each for times in by_process.values() for each in times if each[0] >= all_there]
    ideal = len(counted) * given.seconds / given.processes
    share = ideal / (ended - all_there)
    gaps = [
        1000 * (later[0] - earlier[1])
        for times in by_process.values()
        for earlier, later in zip(sorted(times), sorted(times)[1:], strict=False)
    ]
    print(f"{len(lines)} cells of {given.seconds} s over {len(by_process)} processes; {len(reports)} reports")
    print(f"{100 * share:.1f} % of the ideal rate (at least {100 * LEAST_SHARE:.0f} %)")
    print(
        f"{median(gaps):.1f} ms between two cells of a process (median; at most {MOST_MS:g} ms), max {max(gaps):.0f} ms"
    )
    print(f"{1000 * used / len(lines):.1f} ms of the driver's processor a cell")
    return 0 if share >= LEAST_SHARE and median(gaps) <= MOST_MS else 3


if __name__ == "__main__":
    sys.exit(main())
