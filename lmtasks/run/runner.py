"""Cells of a plan carried out in this process, each stored as soon as it ends; and the count of how they ended."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from lmtasks.cores import usable_cores
from lmtasks.data.row_hashes import read_training_rows
from lmtasks.data.splits import read_once
from lmtasks.errors import GateError, LmtasksError, WorkError
from lmtasks.evaluation.endpoint_solver import EndpointSolver
from lmtasks.evaluation.engine_solver import EngineSolver
from lmtasks.evaluation.evaluate import TaskResult, evaluate
from lmtasks.evaluation.given_solver import GivenSolver
from lmtasks.evaluation.prepare import EvalOptions
from lmtasks.evaluation.protocols import Solver
from lmtasks.evaluation.rivals import RivalSolver
from lmtasks.evaluation.samples import sample_files
from lmtasks.model.store import training_rows_file
from lmtasks.records import ModelCard, Progress, RuntimeCard
from lmtasks.report import format as form
from lmtasks.results.cell import CellRecord
from lmtasks.results.speed import SpeedRecord
from lmtasks.run.folder import Cell, Ended, RunFolder, cell_id, damage_of, is_finished, write_cell
from lmtasks.run.plan import BenchPlan, Plan, VariantPlan, rival_rows
from lmtasks.run.repeat import cell_commands
from lmtasks.run.trials import (
    TimeLeft,
    TrainingSplit,
    Trial,
    learned_rows,
    trials_of,
    why_too_few,
)
from lmtasks.run.variants import Artefacts, given_answers, stored_variant, tasks_of
from lmtasks.runtime.kept_states import states_kept
from lmtasks.settings.data import DataAccess
from lmtasks.settings.endpoint import Endpoint, is_address
from lmtasks.task.task import Task
from lmtasks.workflow.choose_models import as_asked
from lmtasks.workflow.explain import SampleFile, explain_samples, has_words, wrong_first
from lmtasks.workflow.open_endpoint import chat_of_server, open_endpoint, probe_server, server_solver
from lmtasks.workflow.open_model import card_in, hashes_folder, open_engine, settings_hash, with_cache

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
    """The file in which answers are kept, beside which hashes of rows are; None: nothing is. What is timed never sees
    it."""
    answers: bool = True
    """Keep answers of models in folders, too; else hashes alone."""
    command: str = ""
    """The command that repeats the run, for the report."""
    on: str = ""
    """Engine for many machines, `ray` or `ray://...`; empty: this process carries everything out."""
    only: Sequence[str] = ()
    """Names of variants that are carried out now, the others another time; empty: all."""


Scored = tuple[Cell, str, str]
"""A cell, how it ended, and why."""


@dataclass(kw_only=True)
class CellRunner:
    """Carries out cells of a plan in this process, and stores each in `folder`."""

    plan: Plan
    tasks: Sequence[Task]
    splits: Mapping[str, TrainingSplit]
    folder: RunFolder
    options: RunOptions
    artefacts: Artefacts
    report: Callable[[Progress], None]

    def coming(self) -> list[Cell]:
        """All cells of the plan, variant by variant."""
        return [
            Cell(variant=variant, task=task, trial=trial)
            for variant in self._variants()
            for trial in trials_of(self.plan, variant)
            for task in self._tasks_of(variant)
        ]

    def cells(self, tally: "CellTally") -> None:
        """Score every cell that is not scored yet, one variant after the other, its model loaded once."""
        tally.begin()
        began = time.monotonic()
        with read_once(), states_kept():
            for (variant, trial), group in groupby(tally.coming, key=lambda cell: (cell.variant, cell.trial)):
                for cell, status, reason in self.trial_cells(variant, list(group), trial):
                    now = time.monotonic()
                    tally.ended(cell, status, reason, seconds=now - began)
                    began = now

    def not_applicable(self, cell: Cell) -> "Scored | None":
        """Store that a cell has too few rows, or no model; None where it has both."""
        reason = self.why_not(cell)
        if not reason:
            return None
        self._write(cell, Ended(status="not-applicable", reason=reason, model=None, runtime=None))
        return cell, "not-applicable", reason

    def finished(self, cell: Cell, status: str, reason: str) -> str:
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
        variants = self.untimed()
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

    def words(self) -> tuple[str, ...]:
        """Tell the words that moved some answers of every cell of a model that has samples, where they are not there
        yet: the same examples of all; of several seeds and numbers of training rows those that a page shows, the first
        and the most. A sentence for each cell that failed."""
        cells = self._with_samples()
        ids = {
            name: wrong_first(
                [self.folder.samples(cell.id) for cell in cells if cell.task.name == name and cell.variant.model],
                self.plan.explain,
            )
            for name in dict.fromkeys(cell.task.name for cell in cells)
        }
        waiting = [
            (cell, file)
            for cell in cells
            if cell.variant.model and not has_words(file := self._sample_file(cell), ids[cell.task.name])
        ]
        failed: list[str] = []
        for _, group in groupby(waiting, key=lambda each: (each[0].variant, each[0].trial, self._own(each[0]))):
            asked = list(group)
            try:
                with self._solver_of(asked[0][0]) as solver:
                    for cell, file in asked:
                        file = replace(file, task=as_asked(solver, cell.task))
                        told = explain_samples(solver, file, ids[cell.task.name], seed=self.plan.seeds[0],
                                               report=self.report)  # fmt: skip
                        if told.reason:
                            log.info("%s: %s", cell.variant.name, told.reason)
            except LmtasksError as error:
                failed.append(f"words of {asked[0][0].variant.name}: {error}")
        return tuple(failed)

    def _own(self, cell: Cell) -> str:
        """The task of a model for it alone; empty where one model answers all."""
        return cell.task.name if self.artefacts.is_apart(cell.variant) else ""

    def _sample_file(self, cell: Cell) -> SampleFile:
        record = CellRecord.read(self.folder.cell(cell.id))
        return SampleFile(
            task=cell.task,
            samples=self.folder.samples(cell.id),
            checksum=record.samples_checksum or "",
            out=self.folder.words(cell.id),
            conditions=record.conditions,
        )

    def _with_samples(self) -> list[Cell]:
        """One cell a variant and task that was scored and has samples."""
        found: dict[tuple[str, str], Cell] = {}
        for cell in self.coming():
            key, there = (cell.variant.name, cell.task.name), self.folder.samples(cell.id).is_file()
            record = CellRecord.read_if_whole(self.folder.cell(cell.id)) if there else None
            is_done = record is not None and record.status == "done"
            if is_done and (key not in found or self.rows_of(cell) > self.rows_of(found[key])):
                found[key] = cell
        return list(found.values())

    @contextmanager
    def _solver_of(self, cell: Cell) -> Iterator[EngineSolver]:
        """The model of a cell that was scored, loaded.

        Raises:
            WorkError: it is not on this machine any more, or the server cannot be reached.
        """
        variant, settings, cache = cell.variant, cell.variant.server or Endpoint(), self.options.cache
        if variant.runtime == "endpoint":
            server = probe_server(str(variant.model), settings, cache=cache)
            with open_endpoint(server, settings, cache=cache) as engine:
                yield server_solver(engine, server, settings)
            return
        made = self.artefacts.folders(variant, trial=cell.trial, task=cell.task)
        away = next((each for each in (made.model, made.package) if each is not None and not each.is_dir()), None)
        if away is not None:
            raise WorkError(f"{away} is not on this machine; what it answered was scored elsewhere.")
        with self.opened(variant, self.artefacts.of(variant, trial=cell.trial, task=cell.task)) as solver:
            yield solver

    def untimed(self) -> list[VariantPlan]:
        """Variants that are to be timed, and are not yet."""
        return [
            variant
            for variant in self._variants()
            if variant.model
            and variant.timed
            and not variant.generation_kwargs
            and self._has_scores(variant)
            and SpeedRecord.read_if_whole(self.folder.speed(variant.name)) is None
        ]

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

    def trial_cells(self, variant: VariantPlan, cells: Sequence[Cell], trial: Trial) -> Iterator[Scored]:
        """Score the cells of a trial; those of tasks with too few rows, or without a model, are not carried out."""
        kept: list[Cell] = []
        for cell in cells:
            scored = self.not_applicable(cell)
            if scored is not None:
                yield scored
            else:
                kept.append(cell)
        for group in [[cell] for cell in kept] if self.artefacts.is_apart(variant) else [kept] if kept else []:
            yield from self._variant_cells(variant, group, trial)

    def why_not(self, cell: Cell) -> str:
        """Why the cell is not carried out; empty where it is."""
        split = self.splits.get(cell.task.name)
        few = why_too_few(cell.trial, split, task=cell.task.name, plan=self.plan)
        return few or self.artefacts.why_not_trained(cell.variant, cell.task)

    def took(self, cell: Cell) -> float:
        """Seconds of a cell of an earlier run, with the training of its model."""
        record = CellRecord.read_if_whole(self.folder.cell(cell.id))
        trained = record.trained if record is not None else None
        return (trained.seconds if trained else 0.0) + (record.scores.seconds_total if record is not None else 0.0)

    def rows_of(self, cell: Cell) -> int:
        """Training rows that the cell learns from; 0 where the plan does not ask by rows."""
        rows = learned_rows(cell.trial, self.splits.get(cell.task.name))
        return 0 if rows is None else rows.learned

    def _variant_cells(self, variant: VariantPlan, cells: Sequence[Cell], trial: Trial) -> Iterable[Scored]:
        if variant.baseline:
            return (self.cell_without_model(cell) for cell in cells)
        if variant.answers:
            solver = GivenSolver(given_answers(variant))
            return (self._cell_of(cell, solver) for cell in cells)
        if variant.runtime == "endpoint":
            return self._server_cells(variant, cells)
        try:
            ref = self.artefacts.of(variant, trial=trial, task=cells[0].task)
        except (WorkError, GateError) as error:  # an export that is not proved, say; the other variants go on
            return [self.fail(cell, str(error)) for cell in cells]
        model, settings = card_in(ref), settings_hash(ref)
        if all(is_finished(self.folder, cell, model=model, settings=settings) for cell in cells):
            return ((cell, "found", "") for cell in cells)
        return self._model_cells(variant, ref, cells, model, settings)

    @contextmanager
    def opened(self, variant: VariantPlan, ref: Path) -> Iterator[EngineSolver]:
        """The variant's model or package in a folder, loaded."""
        with (
            open_engine(
                ref,
                runtime=variant.runtime,
                device=variant.device,
                precision=variant.precision,
                threads=self.threads(variant),
                force=variant.force,
            ) as engine,
            with_cache(engine, folder=ref, cache=self.options.cache if self.options.answers else None) as answers,
        ):
            yield EngineSolver(answers, training=read_training_rows(training_rows_file(ref)))

    def _model_cells(
        self, variant: VariantPlan, ref: Path, cells: Sequence[Cell], model: ModelCard, settings: str
    ) -> Iterator[Scored]:
        with self.opened(variant, ref) as solver:
            for cell in cells:
                if is_finished(self.folder, cell, model=model, settings=settings):
                    yield cell, "found", ""
                else:
                    yield self.score(cell, solver, settings=settings)

    def _server_cells(self, variant: VariantPlan, cells: Sequence[Cell]) -> Iterator[Scored]:
        """Cells that a server answers; those of one that is down fail, and the other variants go on."""
        settings, cache = variant.server or Endpoint(), self.options.cache
        try:
            server = probe_server(str(variant.model), settings, cache=cache)
        except WorkError as error:
            for cell in cells:
                yield self.fail(cell, str(error))
            return
        with open_endpoint(server, settings, cache=cache) as engine:
            solver = server_solver(engine, server, settings)
            for cell in cells:
                if is_finished(self.folder, cell, model=solver.model, settings=server.identity):
                    yield cell, "found", ""
                else:
                    yield self.score(cell, solver, settings=server.identity)

    def is_found(self, cell: Cell) -> bool:
        """Is a cell that no model is loaded for there from before?"""
        return is_finished(self.folder, cell, model=self._without_model(cell).model)

    def _without_model(self, cell: Cell) -> GivenSolver | RivalSolver:
        if cell.variant.answers:
            return GivenSolver(given_answers(cell.variant))
        return RivalSolver(cell.variant.baseline, rows=self._rival_rows(cell))

    def cell_without_model(self, cell: Cell) -> Scored:
        """Score a cell that no model is loaded for, of a baseline or of answers that exist, where it is not there."""
        return self._cell_of(cell, self._without_model(cell))

    def _cell_of(self, cell: Cell, solver: GivenSolver | RivalSolver) -> Scored:
        if is_finished(self.folder, cell, model=solver.model):
            return cell, "found", ""
        return self.score(cell, solver)

    def _rival_rows(self, cell: Cell) -> int | None:
        if not cell.variant.baseline or cell.trial.rows is not None:
            return cell.trial.most if cell.variant.baseline else None
        return rival_rows(cell.variant, plan=self.plan, task=cell.task.name)

    def score(self, cell: Cell, solver: Solver, *, settings: str = "") -> Scored:
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
            return self.fail(cell, str(error), model=model, runtime=runtime)
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

    def fail(
        self, cell: Cell, reason: str, *, model: ModelCard | None = None, runtime: RuntimeCard | None = None
    ) -> Scored:
        """Store why a cell has no scores."""
        self._write(cell, Ended(status="failed", reason=reason, model=model, runtime=runtime))
        return cell, "failed", reason

    def _write(self, cell: Cell, ended: Ended) -> None:
        variant = stored_variant(cell.variant, plan=self.plan, model=ended.model, threads=self.threads(cell.variant))
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
                data=self.options.data,
            ),
        )

    def _speed_spec(self, variant: VariantPlan, bench: BenchPlan) -> "SpeedSpec":
        from lmtasks.run.variants import speed_spec

        trial = self._timed(variant)
        assert trial is not None  # what has no scores is not timed
        ref = Path() if is_address(variant.model or "") else self.artefacts.of(variant, trial=trial)
        tasks = [task for task in self._tasks_of(variant) if not bench.tasks or task.name in bench.tasks]
        return speed_spec(
            variant,
            plan=self.plan,
            bench=bench,
            ref=ref,
            tasks=tasks,
            threads=self.threads(variant),
            data=self.options.data,
        )

    def threads(self, variant: VariantPlan) -> int:
        """Threads that a variant runs on."""
        return variant.threads or self.options.threads or usable_cores()


def _cell_text(cell: Cell) -> str:
    """A cell for people."""
    rows = "" if cell.trial.rows is None else f", {cell.trial.rows} rows"
    return f"{cell.variant.name}, {cell.task.name}{rows}"


@dataclass(kw_only=True)
class CellTally:
    """Counts how the cells of a run end, and tells of it."""

    runner: CellRunner
    coming: Sequence[Cell]
    count: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    _pending: Counter[tuple[str, int]] = field(default_factory=Counter)
    """Cells that are not there yet, by what tells how long they take."""
    _waiting: set[str] = field(default_factory=set)
    _left: TimeLeft = field(default_factory=TimeLeft)

    def begin(self) -> None:
        """Look at what is there from before."""
        runner, there = self.runner, 0
        for cell in self.coming:
            if runner.folder.cell(cell.id).is_file():
                there += 1
                if (seconds := runner.took(cell)) > 0:  # what does not apply took none, and says nothing about others
                    self._left.took(cell.variant.name, rows=runner.rows_of(cell), seconds=seconds)
            elif not runner.why_not(cell):
                self._pending[self._key(cell)] += 1
                self._waiting.add(cell.id)
        if there and self._waiting:
            log.info("%d of %d cells are there from before; the run goes on behind them", there, len(self.coming))
        self.show()

    def ended(self, cell: Cell, status: str, reason: str, *, seconds: float, note: str = "", at_once: int = 1) -> None:
        """Count a cell.

        Args:
            seconds: that it took, its training with it.
            note: what is at work now; empty: the next cell.
            at_once: cells that are carried out at the same time.
        """
        self.count[status] += 1
        self.failed += [f"{cell.id}: {reason}"] if status == "failed" else []
        if cell.id in self._waiting:
            self._waiting.discard(cell.id)
            key = self._key(cell)
            self._pending[key] -= 1
            if not self._pending[key]:
                del self._pending[key]
        if status == "done":
            self._left.took(cell.variant.name, rows=self.runner.rows_of(cell), seconds=seconds)
        self.show(note=note, at_once=at_once, finished=self.runner.finished(cell, status, reason))

    def show(self, *, note: str = "", at_once: int = 1, finished: str = "") -> None:
        """Report how many cells are done, and what is at work."""
        done, left = self.count.total(), self._left.of(self._pending)
        self.runner.report(
            Progress(
                stage="cells",
                done=done,
                total=len(self.coming),
                unit="cells",
                note=note or (_cell_text(self.coming[done]) if done < len(self.coming) else ""),
                seconds_left=None if left is None else left / at_once,
                is_even=False,
                finished=finished,
            )
        )

    def tell(self, sentence: str) -> None:
        """Say something that went otherwise than it should."""
        log.warning("%s", sentence)

    def _key(self, cell: Cell) -> tuple[str, int]:
        return cell.variant.name, self.runner.rows_of(cell)
