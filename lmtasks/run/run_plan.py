"""A plan carried out, cell by cell. A killed run goes on where it was: what is finished stands in its own file."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from lmtasks.bench.machine import machine, versions
from lmtasks.cores import usable_cores
from lmtasks.data.row_hashes import read_training_rows
from lmtasks.errors import GateError, LmtasksError, WorkError, unknown
from lmtasks.evaluation.endpoint_solver import EndpointSolver
from lmtasks.evaluation.engine_solver import EngineSolver
from lmtasks.evaluation.evaluate import TaskResult, evaluate
from lmtasks.evaluation.given_solver import GivenSolver
from lmtasks.evaluation.prepare import EvalOptions
from lmtasks.evaluation.protocols import Solver
from lmtasks.evaluation.rivals import RivalSolver
from lmtasks.evaluation.samples import sample_files
from lmtasks.files import locked
from lmtasks.model.store import training_rows_file
from lmtasks.records import ModelCard, Progress, RuntimeCard
from lmtasks.report import format as form
from lmtasks.results.cell import CellRecord
from lmtasks.results.comparison import PairedRecords
from lmtasks.results.run import RunRecord
from lmtasks.results.speed import SpeedRecord
from lmtasks.run.folder import Cell, Ended, RunFolder, cell_id, damage_of, is_finished, write_cell
from lmtasks.run.plan import BenchPlan, Plan, VariantPlan, rival_rows
from lmtasks.run.plan_changes import take_over
from lmtasks.run.preflight import check_devices, check_models, check_tasks
from lmtasks.run.repeat import cell_commands
from lmtasks.run.trials import (
    TimeLeft,
    TrainingSplit,
    Trial,
    few_rows,
    learned_rows,
    training_splits,
    trials_of,
    why_too_few,
)
from lmtasks.run.variants import Artefacts, given_answers, reckon, required_record, stored_variant, tasks_of
from lmtasks.settings.data import DataAccess
from lmtasks.settings.endpoint import Endpoint
from lmtasks.task.changes import has_changes, with_clean
from lmtasks.task.index import TaskIndex
from lmtasks.task.task import Task
from lmtasks.workflow.choose_models import as_asked
from lmtasks.workflow.open_endpoint import chat_of_server, open_endpoint, probe_server, server_solver
from lmtasks.workflow.open_model import card_in, features_file, hashes_folder, open_engine, settings_hash, with_cache
from lmtasks.workflow.pairing import pair_cells

if TYPE_CHECKING:
    from lmtasks.bench.spec import SpeedSpec


log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Settings of a run that its plan does not hold."""

    data: DataAccess
    threads: int | None = None
    """For variants that set none; None: all cores that this process may use."""
    samples: bool = True
    cache: Path | None = None
    """The file in which answers are kept; None: they are not. What is timed never sees it."""
    command: str = ""
    """The command that repeats the run, for the report."""
    only: Sequence[str] = ()
    """Names of variants that are carried out now, the others another time; empty: all."""


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


_Scored = tuple[Cell, str, str]
"""A cell, how it ended, and why."""


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
    """Carry out a plan into the folder `out`, or finish the one that is there.

    A cell that fails does not stop the others.

    Raises:
        UsageError: the plan, a task or a model is wrong, or the folder holds another run.
        WorkError: the folder cannot be written, or another process writes it.
    """
    began = time.monotonic()
    tasks = with_clean(index.find(",".join(plan.tasks), trust_code=trust_code))
    check_tasks(plan, tasks)
    check_devices(plan)
    check_models(plan, only=options.only, data=options.data)
    names = [variant.name for variant in plan.variants]
    for name in options.only:
        if name not in names:
            raise unknown("variant", name, names)
    folder = RunFolder(root=out)
    with locked(out):
        header = RunRecord(
            command=options.command,
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            machine=machine(),
            versions=versions(),
        )
        take_over(folder, plan, tasks=tasks, plan_file=plan_file, header=header)
        splits = training_splits(tasks, plan=plan, options=options.data)
        for name, told in few_rows(plan, splits).items():
            log.warning("task %s: %s", name, told)
        artefacts = Artefacts(
            plan=plan,
            tasks=tasks,
            folder=folder,
            options=options.data,
            report=report,
            features=features_file(options.cache),
        )
        runner = _Runner(
            plan=plan,
            tasks=tasks,
            splits=splits,
            folder=folder,
            options=options,
            artefacts=artefacts,
            report=report,
        )
        ran = runner.cells()
        paired_record(folder, plan=plan, tasks=tasks).write(folder.paired)
        failed = (*ran.failed, *runner.speeds()) if plan.bench else ran.failed
        if plan.bench:
            reckon(folder, plan, plan.bench)
        missed = ""
        if plan.bench and plan.bench.require:
            required = required_record(folder, plan=plan, require=plan.bench.require)
            required.write(folder.required)
            missed = required.missed
    return replace(ran, failed=failed, missed=missed, seconds=time.monotonic() - began)


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


@dataclass(kw_only=True)
class _Runner:
    plan: Plan
    tasks: Sequence[Task]
    splits: Mapping[str, TrainingSplit]
    folder: RunFolder
    options: RunOptions
    artefacts: Artefacts
    report: Callable[[Progress], None]

    def cells(self) -> Ran:
        """Score every cell that is not scored yet, one variant after the other, its model loaded once."""
        coming = [
            Cell(variant=variant, task=task, trial=trial)
            for variant in self._variants()
            for trial in trials_of(self.plan, variant)
            for task in self._tasks_of(variant)
        ]
        # Those of an earlier run are most likely found, and take no time.
        pending = {
            cell.id: (cell.variant.name, self._rows_of(cell))
            for cell in coming
            if not self.folder.cell(cell.id).is_file() and not self._why_not(cell)
        }
        left, began = TimeLeft(), time.monotonic()
        count = {"done": 0, "found": 0, "not-applicable": 0}
        failed: list[str] = []
        there = [cell for cell in coming if self.folder.cell(cell.id).is_file()]
        for cell in there:
            if (seconds := self._took(cell)) > 0:  # what does not apply took none, and says nothing about others
                left.took(cell.variant.name, rows=self._rows_of(cell), seconds=seconds)
        if there and pending:
            log.info("%d of %d cells are there from before; the run goes on behind them", len(there), len(coming))
        self._report_cell(coming, done=0, left=left.of(list(pending.values())))
        for (variant, trial), group in groupby(coming, key=lambda cell: (cell.variant, cell.trial)):
            for cell, status, reason in self._trial_cells(variant, list(group), trial):
                count[status] = count.get(status, 0) + 1
                failed += [f"{cell.id}: {reason}"] if status == "failed" else []
                now = time.monotonic()
                pending.pop(cell.id, None)
                if status == "done":
                    left.took(variant.name, rows=self._rows_of(cell), seconds=now - began)
                began = now
                self._report_cell(
                    coming,
                    done=sum(count.values()),
                    left=left.of(list(pending.values())),
                    finished=self._finished(cell, status, reason),
                )
        return Ran(
            folder=self.folder.root,
            done=count["done"],
            found=count["found"],
            not_applicable=count["not-applicable"],
            failed=tuple(failed),
            seconds=0.0,
        )

    def _report_cell(self, coming: Sequence[Cell], *, done: int, left: float | None, finished: str = "") -> None:
        """Report how many cells are done, and which one is at work."""
        self.report(
            Progress(
                stage="cells",
                done=done,
                total=len(coming),
                unit="cells",
                note=_cell_text(coming[done]) if done < len(coming) else "",
                seconds_left=left,
                is_even=False,
                finished=finished,
            )
        )

    def _finished(self, cell: Cell, status: str, reason: str) -> str:
        """A line on a cell that was carried out just now; empty where it was found, or does not apply."""
        if status == "failed":
            return f"{_cell_text(cell)}: failed: {reason}"
        record = CellRecord.read_if_whole(self.folder.cell(cell.id)) if status == "done" else None
        if record is None or not record.metrics:
            return ""
        name, estimate = next(iter(record.metrics.items()))
        half = form.uncertainty(estimate.value, estimate.ci95, estimate.scale)
        return f"{_cell_text(cell)}: {name} {form.value(estimate.value, estimate.scale)} {half}".rstrip()

    def speeds(self) -> tuple[str, ...]:
        """Time every variant with a model that was not timed yet, in alternation; a sentence for each that failed."""
        from lmtasks.bench.compare import compare_variants
        from lmtasks.bench.isolate import Isolated

        assert self.plan.bench is not None  # the caller looked
        variants = [
            variant
            for variant in self._variants()
            if variant.model
            and variant.timed
            and not variant.generation_kwargs
            and self._has_scores(variant)
            and SpeedRecord.read_if_whole(self.folder.speed(variant.name)) is None
        ]
        failed: list[str] = []
        specs = []
        for variant in variants:
            if SpeedRecord.is_damaged(self.folder.speed(variant.name)):
                log.warning("%s was changed since it was written; it is timed again", self.folder.speed(variant.name))
            try:
                specs.append(self._speed_spec(variant, self.plan.bench))
            except WorkError as error:  # none of its tasks is timed, say
                failed.append(f"speed of {variant.name}: {error}")
        if specs:
            compared = compare_variants(
                specs,
                measures=Isolated(),
                rounds=self.plan.bench.rounds,
                seed=self.plan.seeds[0],
                on_progress=self.report,
                on_failure=lambda name, error: failed.append(f"speed of {name}: {error}"),
            )
            for record in compared.variants:
                record.write(self.folder.speed(record.variant.name))
        return tuple(failed)

    def _has_scores(self, variant: VariantPlan) -> bool:
        """Was anything scored? What has no quality is not timed."""
        return self._timed(variant) is not None

    def _timed(self, variant: VariantPlan) -> Trial | None:
        """The trial whose model is timed: of those that were scored the first seed's with most rows."""
        for trial in reversed([each for each in trials_of(self.plan, variant) if each.seed == self._seed(variant)]):
            ids = [cell_id(variant=variant.name, task=task.name, trial=trial) for task in self._tasks_of(variant)]
            cells = (CellRecord.read_if_whole(self.folder.cell(each)) for each in ids)
            if any(cell is not None and cell.status == "done" for cell in cells):
                return trial
        return None

    def _seed(self, variant: VariantPlan) -> int:
        return self.plan.seeds_of(variant)[0]

    def _variants(self) -> list[VariantPlan]:
        only = self.options.only
        return [variant for variant in self.plan.variants if not only or variant.name in only]

    def _tasks_of(self, variant: VariantPlan) -> Sequence[Task]:
        return tasks_of(variant, self.tasks)

    def _trial_cells(self, variant: VariantPlan, cells: Sequence[Cell], trial: Trial) -> Iterator[_Scored]:
        """Score the cells of a trial; those of tasks with too few rows, or without a model, are not carried out."""
        kept: list[Cell] = []
        for cell in cells:
            reason = self._why_not(cell)
            if reason:
                self._write(cell, Ended(status="not-applicable", reason=reason, model=None, runtime=None))
                yield cell, "not-applicable", reason
            else:
                kept.append(cell)
        for group in [[cell] for cell in kept] if self.artefacts.is_apart(variant) else [kept] if kept else []:
            yield from self._variant_cells(variant, group, trial)

    def _why_not(self, cell: Cell) -> str:
        split = self.splits.get(cell.task.name)
        few = why_too_few(cell.trial, split, task=cell.task.name, plan=self.plan)
        return few or self.artefacts.why_not_trained(cell.variant, cell.task)

    def _took(self, cell: Cell) -> float:
        """Seconds of a cell of an earlier run, with the training of its model."""
        record = CellRecord.read_if_whole(self.folder.cell(cell.id))
        trained = record.trained if record is not None else None
        return (trained.seconds if trained else 0.0) + (record.scores.seconds_total if record is not None else 0.0)

    def _rows_of(self, cell: Cell) -> int:
        """Training rows that the cell learns from; 0 where the plan does not ask by rows."""
        rows = learned_rows(cell.trial, self.splits.get(cell.task.name))
        return 0 if rows is None else rows.learned

    def _variant_cells(self, variant: VariantPlan, cells: Sequence[Cell], trial: Trial) -> Iterable[_Scored]:
        if variant.baseline:
            return (self._baseline_cell(cell) for cell in cells)
        if variant.answers:
            solver = GivenSolver(given_answers(variant))
            return (self._cell_of(cell, solver) for cell in cells)
        if variant.runtime == "endpoint":
            return self._server_cells(variant, cells)
        try:
            ref = self.artefacts.of(variant, trial=trial, task=cells[0].task)
        except (WorkError, GateError) as error:  # an export that is not proved, say; the other variants go on
            return [self._fail(cell, str(error)) for cell in cells]
        model, settings = card_in(ref), settings_hash(ref)
        if all(is_finished(self.folder, cell, model=model, settings=settings) for cell in cells):
            return ((cell, "found", "") for cell in cells)
        return self._model_cells(variant, ref, cells, model, settings)

    def _model_cells(
        self, variant: VariantPlan, ref: Path, cells: Sequence[Cell], model: ModelCard, settings: str
    ) -> Iterator[_Scored]:
        with (
            open_engine(
                ref,
                runtime=variant.runtime,
                device=variant.device,
                precision=variant.precision,
                threads=self._threads(variant),
            ) as engine,
            with_cache(engine, folder=ref, cache=self.options.cache) as answers,
        ):
            solver = EngineSolver(answers, training=read_training_rows(training_rows_file(ref)))
            for cell in cells:
                if is_finished(self.folder, cell, model=model, settings=settings):
                    yield cell, "found", ""
                else:
                    yield self._score(cell, solver, settings=settings)

    def _server_cells(self, variant: VariantPlan, cells: Sequence[Cell]) -> Iterator[_Scored]:
        """Cells that a server answers; those of one that is down fail, and the other variants go on."""
        settings, cache = variant.server or Endpoint(), self.options.cache
        try:
            server = probe_server(str(variant.model), settings, cache=cache)
        except WorkError as error:
            for cell in cells:
                yield self._fail(cell, str(error))
            return
        with open_endpoint(server, settings, cache=cache) as engine:
            solver = server_solver(engine, server, settings)
            for cell in cells:
                if is_finished(self.folder, cell, model=solver.model, settings=server.identity):
                    yield cell, "found", ""
                else:
                    yield self._score(cell, solver, settings=server.identity)

    def _baseline_cell(self, cell: Cell) -> _Scored:
        return self._cell_of(cell, RivalSolver(cell.variant.baseline, rows=self._rival_rows(cell)))

    def _cell_of(self, cell: Cell, solver: GivenSolver | RivalSolver) -> _Scored:
        """A cell that no model is loaded for."""
        if is_finished(self.folder, cell, model=solver.model):
            return cell, "found", ""
        return self._score(cell, solver)

    def _rival_rows(self, cell: Cell) -> int | None:
        if not cell.variant.baseline or cell.trial.rows is not None:
            return cell.trial.most if cell.variant.baseline else None
        return rival_rows(cell.variant, plan=self.plan, task=cell.task.name)

    def _score(self, cell: Cell, solver: Solver, *, settings: str = "") -> _Scored:
        """Score one cell and store it; a reason where it has none."""
        damage = damage_of(self.folder, cell)
        if damage:
            log.warning("%s; the cell is scored again", damage)
        model, runtime = solver.model, solver.card
        reason = solver.why_not(cell.task, way="auto")
        if reason:
            ended = Ended(status="not-applicable", reason=reason, model=model, runtime=runtime, settings=settings)
            self._write(cell, ended)
            return cell, "not-applicable", reason
        try:
            result, checksum = self._evaluated(cell, solver)
        except LmtasksError as error:
            return self._fail(cell, str(error), model=model, runtime=runtime)
        if result.rival is not None and isinstance(solver, RivalSolver):
            model = solver.card_of(result.rival)
        ended = Ended(
            status="done",
            model=model,
            runtime=runtime,
            result=result,
            settings=settings,
            samples_checksum=checksum,
        )
        self._write(cell, ended)
        return cell, "done", ""

    def _evaluated(self, cell: Cell, solver: Solver) -> tuple[TaskResult, str | None]:
        """The scores of one cell, and the checksum of its samples, which stand in their file then."""
        file, plan = self.folder.samples(cell.id), self.plan
        with sample_files(file.parent, name=lambda task: file.name) as samples:
            (result,) = evaluate(
                solver=solver,
                tasks=[as_asked(solver, cell.task)],
                options=EvalOptions(
                    chat=chat_of_server(solver.server) if isinstance(solver, EndpointSolver) else None,
                    data=self.options.data,
                    limit=plan.limit,
                    sample=plan.sample,
                    sample_seed=plan.seeds[0],
                    num_fewshot=cell.variant.num_fewshot or None,
                    seed=cell.trial.seed,
                    hashes=hashes_folder(self.options.cache),
                    rows=self._rival_rows(cell),
                ),
                on_progress=self.report,
                keep_samples=False,
                samples=samples if self.options.samples else None,
            )
            checksum = samples.checksums().get(file.name)
            samples.rename()
        return result, checksum

    def _fail(
        self, cell: Cell, reason: str, *, model: ModelCard | None = None, runtime: RuntimeCard | None = None
    ) -> _Scored:
        self._write(cell, Ended(status="failed", reason=reason, model=model, runtime=runtime))
        return cell, "failed", reason

    def _write(self, cell: Cell, ended: Ended) -> None:
        variant = stored_variant(cell.variant, plan=self.plan, model=ended.model, threads=self._threads(cell.variant))
        write_cell(
            self.folder,
            cell,
            ended,
            variant=variant,
            rows=learned_rows(cell.trial, self.splits.get(cell.task.name)),
            trained=self.artefacts.trained(cell.variant, trial=cell.trial, task=cell.task),
            repeat=cell_commands(
                cell,
                plan=self.plan,
                rows=self._rival_rows(cell) if cell.variant.baseline else self.artefacts.most_rows(cell),
                tasks=[task.name for task in self.artefacts.learned(cell.variant, cell.task)],
                chosen=self.artefacts.chosen(cell),
                data_root=self.options.data.data_root,
            ),
        )

    def _speed_spec(self, variant: VariantPlan, bench: BenchPlan) -> "SpeedSpec":
        from lmtasks.run.variants import speed_spec

        trial = self._timed(variant)
        assert trial is not None  # what has no scores is not timed
        ref = self.artefacts.of(variant, trial=trial)
        tasks = [task for task in self._tasks_of(variant) if not bench.tasks or task.name in bench.tasks]
        return speed_spec(
            variant,
            plan=self.plan,
            bench=bench,
            ref=ref,
            tasks=tasks,
            threads=self._threads(variant),
            data=self.options.data,
        )

    def _threads(self, variant: VariantPlan) -> int:
        return variant.threads or self.options.threads or usable_cores()


def _cell_text(cell: Cell) -> str:
    """A cell for people."""
    rows = "" if cell.trial.rows is None else f", {cell.trial.rows} rows"
    return f"{cell.variant.name}, {cell.task.name}{rows}"
