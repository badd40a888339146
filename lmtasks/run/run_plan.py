"""A plan carried out, cell by cell. A killed run goes on where it was: what is finished stands in its own file."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from lmtasks.bench.machine import machine, versions
from lmtasks.cluster.ray_pool import check_on, ray_pool
from lmtasks.errors import unknown
from lmtasks.files import locked
from lmtasks.records import Progress
from lmtasks.results.cell import CellRecord
from lmtasks.results.comparison import PairedRecords
from lmtasks.results.run import RunRecord
from lmtasks.run.folder import RunFolder, cell_id
from lmtasks.run.on_cluster import ClusterCells, PlanSetup, time_on_cluster
from lmtasks.run.parts import RunPart, chains_of, claimed, make_models, part_of_cells, take_in
from lmtasks.run.plan import Plan
from lmtasks.run.plan_changes import take_over
from lmtasks.run.preflight import check_devices, check_models, check_tasks
from lmtasks.run.runner import CellRunner, CellTally, RunOptions
from lmtasks.run.trials import (
    few_rows,
    training_splits,
    trials_of,
)
from lmtasks.run.variants import Artefacts, reckon, required_record, tasks_of
from lmtasks.task.changes import has_changes, with_clean
from lmtasks.task.index import TaskIndex
from lmtasks.task.task import Task
from lmtasks.workflow.open_model import features_file
from lmtasks.workflow.pairing import pair_cells

if TYPE_CHECKING:
    pass


log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Ran:
    """How a run ended."""

    folder: Path
    done: int
    found: int
    """Cells that an earlier run had finished."""
    not_applicable: int
    failed: tuple[str, ...]
    """A sentence for each cell or timing that failed."""
    seconds: float
    missed: str = ""
    """Why no variant fulfils what the plan requires; empty where one does, or where nothing is required."""


def paired_record(folder: RunFolder, *, plan: Plan, tasks: Sequence[Task]) -> PairedRecords:
    """Compare the finished cells of a plan, for paired.json; what was compared before stays where a published folder
    has no statistics."""
    cells = (
        CellRecord.read_if_whole(folder.cell(cell_id(variant=variant.name, task=task.name, trial=trial)))
        for variant in plan.variants
        for task in tasks
        for trial in trials_of(plan, variant)
    )
    return pair_cells(
        [cell for cell in cells if cell is not None],
        variants=[variant.name for variant in plan.variants],
        tasks=[task.name for task in tasks],
        row_counts=plan.rows,
        clean={task.name: task.clean.name for task in tasks if task.clean is not None and has_changes(task)},
        reference=plan.reference,
        seed=plan.seeds[0],
        before=PairedRecords.read_if_whole(folder.paired),
    )


def run_plan(
    plan: Plan,
    *,
    plan_file: Path,
    index: TaskIndex,
    out: Path,
    options: RunOptions,
    report: Callable[[Progress], None],
    trust_code: bool = False,
) -> Ran:
    """Carry out a plan into the folder `out`, or finish the one that is there; what parts have done is taken in.

    A cell that fails does not stop the others.

    Raises:
        UsageError: the plan, a task or a model is wrong, or the folder holds another run.
        WorkError: the folder cannot be written, or another process writes it.
    """
    began = time.monotonic()
    tasks = _checked(plan, index=index, options=options, trust_code=trust_code)
    folder, header = RunFolder(root=out), _header(options)
    with locked(out):
        take_over(folder, plan, tasks=tasks, plan_file=plan_file, header=header)
        take_in(folder, plan)
        threads = options.threads if not options.on else options.threads or 1
        runner = _runner(plan, tasks, folder=folder, options=replace(options, threads=threads), report=report)
        tally = CellTally(runner=runner, coming=runner.coming())
        with carried_out(runner, tally, on=options.on, threads=options.threads) as speeds:
            paired_record(folder, plan=plan, tasks=tasks).write(folder.paired)
            unexplained = runner.words() if plan.explain else ()
            failed = (*tally.failed, *unexplained, *(speeds() if plan.bench else ()))
        if plan.bench:
            reckon(folder, plan, plan.bench)
        missed = ""
        if plan.bench and plan.bench.require:
            required = required_record(folder, plan=plan, require=plan.bench.require)
            required.write(folder.required)
            missed = required.missed
    return Ran(
        folder=out,
        done=tally.count["done"],
        found=tally.count["found"],
        not_applicable=tally.count["not-applicable"],
        failed=failed,
        seconds=time.monotonic() - began,
        missed=missed,
    )


def run_part(
    plan: Plan,
    part: RunPart,
    *,
    plan_file: Path,
    index: TaskIndex,
    out: Path,
    options: RunOptions,
    report: Callable[[Progress], None],
    trust_code: bool = False,
) -> Ran:
    """Carry out one part of a plan's models or cells, beside other processes that carry out others; `run_plan` takes
    them in.

    Raises:
        UsageError: as `run_plan`; or the folder holds another form of the plan.
        WorkError: the folder cannot be written, or another process carries out this part.
    """
    began = time.monotonic()
    tasks = _checked(plan, index=index, options=options, trust_code=trust_code)
    folder = RunFolder(root=out)
    with claimed(folder, part, plan, plan_file=plan_file, header=_header(options)) as own:
        runner = _runner(plan, tasks, folder=folder, options=replace(options, answers=False), report=report)
        if part.step == "models":
            failed = make_models(runner, part.shard)
            return Ran(
                folder=own.root,
                done=0,
                found=0,
                not_applicable=0,
                failed=tuple(failed),
                seconds=time.monotonic() - began,
            )
        coming = part_of_cells(runner, folder, part.shard)
        beside = replace(runner, folder=own)
        tally = CellTally(runner=beside, coming=coming)
        beside.cells(tally)
    return Ran(
        folder=own.root,
        done=tally.count["done"],
        found=tally.count["found"],
        not_applicable=tally.count["not-applicable"],
        failed=tuple(tally.failed),
        seconds=time.monotonic() - began,
    )


def planned_parts(
    plan: Plan, *, index: TaskIndex, out: Path, options: RunOptions, trust_code: bool = False
) -> tuple[int, int]:
    """Into how many parts the models and the cells of a plan can be divided at most; 0 where there are none.

    Raises:
        UsageError: the plan, a task or a model is wrong.
    """
    tasks = _checked(plan, index=index, options=options, trust_code=trust_code)
    runner = _runner(plan, tasks, folder=RunFolder(root=out), options=options, report=lambda progress: None)
    cells = runner.coming()
    return len(chains_of(runner, cells)), len(cells)


def _checked(plan: Plan, *, index: TaskIndex, options: RunOptions, trust_code: bool) -> Sequence[Task]:
    """The tasks of a plan, once all is looked at that can be known before any work."""
    tasks = with_clean(index.find(",".join(plan.tasks), trust_code=trust_code))
    check_tasks(plan, tasks)
    if options.on:
        check_on(options.on)
    else:
        check_devices(plan)
    check_models(plan, only=options.only, data=options.data)
    names = [variant.name for variant in plan.variants]
    for name in options.only:
        if name not in names:
            raise unknown("variant", name, names)
    return tasks


def _header(options: RunOptions) -> RunRecord:
    return RunRecord(
        command=options.command,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=machine(),
        versions=versions(),
    )


def _runner(
    plan: Plan,
    tasks: Sequence[Task],
    *,
    folder: RunFolder,
    options: RunOptions,
    report: Callable[[Progress], None],
) -> CellRunner:
    splits = training_splits(tasks, plan=plan, options=options.data)
    for name, told in few_rows(plan, splits).items():
        log.warning("task %s: %s", name, told)
    artefacts = Artefacts(
        plan=plan,
        tasks=tasks,
        folder=folder,
        options=options.data,
        report=report,
        features=features_file(options.cache) if options.answers else None,
    )
    return CellRunner(
        plan=plan,
        tasks=tasks,
        splits=splits,
        folder=folder,
        options=options,
        artefacts=artefacts,
        report=report,
    )


@contextmanager
def carried_out(
    runner: CellRunner, tally: CellTally, *, on: str, threads: int | None
) -> Iterator[Callable[[], tuple[str, ...]]]:
    """All cells of a run, here or over a cluster; within the block the variants can be timed where the cells were.

    Args:
        threads: of timings over a cluster; None: all cores of the machine.
    """
    if not on:
        runner.cells(tally)
        yield runner.speeds
        return
    setup = PlanSetup(
        plan=runner.plan, tasks=runner.tasks, splits=runner.splits, options=runner.options, threads=threads
    )
    with ray_pool(on, folder=runner.folder.root, setup=setup) as pool:
        ClusterCells(runner=runner, pool=pool, tally=tally).run()
        yield lambda: time_on_cluster(runner, pool=pool, cores=threads or 1)


def cells_there(plan: Plan, *, tasks: Sequence[Task], out: Path) -> int:
    """How many cells of a plan an earlier run has scored into the folder `out`."""
    folder = RunFolder(root=out)
    ids = [
        cell_id(variant=variant.name, task=task.name, trial=trial)
        for variant in plan.variants
        for trial in trials_of(plan, variant)
        for task in tasks_of(variant, with_clean(tasks))
    ]
    records = (CellRecord.read_if_whole(folder.cell(each)) for each in ids)
    return sum(record is not None and record.status == "done" for record in records)
