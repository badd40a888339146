"""The cells of a plan over many machines: trainings and exports first, cells as soon as what they run on is there, and
timings at the end, alone on one machine.

Hands write cells aside, and the process that was asked for the run moves them into place (`cluster.handover`).
"""

import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

from lmtasks.cluster.dispatch import ClusterJob, Dispatcher, HandPool, JobOutcome, Needs, summed
from lmtasks.cluster.handover import answering_bytes, is_seen, making_bytes, new_stage, staging
from lmtasks.cluster.ray_pool import HandPlace, Made, RayPool
from lmtasks.errors import GateError, UsageError, WorkError
from lmtasks.evaluation.engine_solver import EngineSolver
from lmtasks.run.folder import Cell, RunFolder, is_finished
from lmtasks.run.plan import Plan, VariantPlan
from lmtasks.run.runner import CellRunner, CellTally, RunOptions, Scored
from lmtasks.run.trials import TrainingSplit, Trial
from lmtasks.run.variants import Artefacts
from lmtasks.task.task import Task
from lmtasks.workflow.open_model import card_in, settings_hash


@dataclass(frozen=True, kw_only=True)
class MakeWork:
    """Train a variant's model, or export it."""

    variant: str
    trial: Trial
    task: str
    """Of a model of a task alone; empty: of all."""
    export: bool


@dataclass(frozen=True, kw_only=True)
class ScoreWork:
    """Score one cell."""

    variant: str
    trial: Trial
    task: str


@dataclass(frozen=True, kw_only=True)
class TimeWork:
    """Time all variants that were not timed yet."""


@dataclass(frozen=True, kw_only=True)
class ScoredCell:
    """How a cell ended, and where it was written."""

    stage: str
    status: str
    reason: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class PlanSetup:
    """Everything that the jobs of a plan have in common."""

    plan: Plan
    tasks: Sequence[Task]
    splits: Mapping[str, TrainingSplit]
    options: RunOptions
    threads: int | None
    """Of timings; None: all cores of the machine."""

    def open(self, place: HandPlace) -> "_PlanContext":
        """Make what carries out jobs in a hand."""
        return _PlanContext(setup=self, place=place)


@dataclass(kw_only=True)
class _PlanContext:
    setup: PlanSetup
    place: HandPlace
    _loaded: ExitStack = field(default_factory=ExitStack)
    _key: object = None
    _solver: EngineSolver | None = None
    _settings: str = ""

    def carry_out(self, work: object) -> object:
        """The value of one job."""
        match work:
            case MakeWork():
                return self._make(work)
            case ScoreWork():
                return self._score(work)
            case TimeWork():
                timed = self._runner(RunFolder(root=self.place.root), threads=self.setup.threads)
                self._unload()
                return Made(folders=("speed",), value=timed.speeds())
        raise TypeError(type(work).__name__)

    def _runner(self, folder: RunFolder, *, threads: int | None) -> CellRunner:
        setup = self.setup
        # a file of answers on a disk of many machines is no place that all of them may write to
        options = replace(setup.options, threads=threads, answers=False)
        artefacts = Artefacts(
            plan=setup.plan,
            tasks=setup.tasks,
            folder=RunFolder(root=self.place.root),
            options=options.data,
            report=lambda progress: None,
        )
        return CellRunner(
            plan=setup.plan,
            tasks=setup.tasks,
            splits=setup.splits,
            folder=folder,
            options=options,
            artefacts=artefacts,
            report=lambda progress: None,
        )

    def _make(self, work: MakeWork) -> Made:
        self._unload()  # a training needs the room
        runner = self._runner(RunFolder(root=self.place.root), threads=self.setup.options.threads)
        variant, task = self._variant(work.variant), self._task(work.variant, work.task) if work.task else None
        artefacts = runner.artefacts
        if work.export:
            made = artefacts.of(variant, trial=work.trial, task=task)
        else:
            made = artefacts.model(variant, trial=work.trial, task=task)
        inside = (str(made.relative_to(self.place.root)),) if made.is_relative_to(self.place.root) else ()
        return Made(folders=(*inside, "sweeps"))

    def _score(self, work: ScoreWork) -> Made:
        began = time.monotonic()
        stage = new_stage()
        runner = self._runner(RunFolder(root=self.place.root / stage), threads=self.setup.options.threads)
        cell = Cell(variant=self._variant(work.variant), task=self._task(work.variant, work.task), trial=work.trial)
        if cell.variant.model is None:
            self._unload()
            scored = runner.cell_without_model(cell)
        else:
            scored = self._by_model(runner, cell)
        _, status, reason = scored
        value = ScoredCell(stage=stage, status=status, reason=reason, seconds=time.monotonic() - began)
        return Made(folders=(stage,), value=value)

    def _by_model(self, runner: CellRunner, cell: Cell) -> Scored:
        apart = cell.task.name if runner.artefacts.is_apart(cell.variant) else ""
        key = (cell.variant.name, cell.trial, apart)
        if self._solver is None or key != self._key:
            self._unload()
            ref = runner.artefacts.of(cell.variant, trial=cell.trial, task=cell.task)
            self._solver = self._loaded.enter_context(runner.opened(cell.variant, ref))
            self._settings, self._key = settings_hash(ref), key
        return runner.score(cell, self._solver, settings=self._settings)

    def _unload(self) -> None:
        self._loaded.close()
        self._loaded, self._key, self._solver = ExitStack(), None, None

    def _variant(self, name: str) -> VariantPlan:
        return next(each for each in self.setup.plan.variants if each.name == name)

    def _task(self, variant: str, name: str) -> Task:
        from lmtasks.run.variants import tasks_of

        return next(each for each in tasks_of(self._variant(variant), self.setup.tasks) if each.name == name)


@dataclass(kw_only=True)
class _Step:
    """A training or an export that cells wait for."""

    job: ClusterJob
    made: Path
    trial: Trial
    export: bool
    groups: list[list[Cell]] = field(default_factory=list)

    @property
    def is_there(self) -> bool:
        from lmtasks.export.package import is_package

        return is_package(self.made) if self.export else (self.made / "model.json").is_file()


@dataclass(kw_only=True)
class ClusterCells:
    """Carries out the cells of a plan that are not there yet."""

    runner: CellRunner
    pool: HandPool
    tally: CellTally
    _chains: dict[object, list[_Step]] = field(default_factory=dict)
    """Steps one behind the other: the trainings of a sweep, the exports of a model (later ones round the graphs of the
    first)."""
    _here: list[list[Cell]] = field(default_factory=list)
    """Cells that this process scores, behind all others: it asks the servers, and has the answers that exist."""
    _of_job: dict[int, tuple[object, _Step] | Cell] = field(default_factory=dict)
    _dispatcher: Dispatcher = field(init=False)

    def __post_init__(self) -> None:
        self._dispatcher = Dispatcher(
            pool=self.pool, ended=self._ended, told=lambda sentence: self.tally.tell(f"{sentence}.")
        )

    def run(self) -> None:
        """Carry them out; `tally` has how they ended."""
        with staging(self.runner.folder.root):
            self._dispatcher.run(self._first_jobs())
            for cells in self._here:
                began = time.monotonic()
                for cell, status, reason in self.runner.trial_cells(cells[0].variant, cells, cells[0].trial):
                    self._tell(cell, status, reason, seconds=time.monotonic() - began)
                    began = time.monotonic()

    def _first_jobs(self) -> list[ClusterJob]:
        jobs: list[ClusterJob] = []
        self.tally.begin()
        for (variant, trial), group in groupby(self.tally.coming, key=lambda cell: (cell.variant, cell.trial)):
            kept = []
            for cell in group:
                scored = self.runner.not_applicable(cell)
                if scored is None:
                    kept.append(cell)
                else:
                    self._tell(*scored)
            if variant.runtime == "endpoint" or variant.answers:
                self._here += [kept] if kept else []
            elif variant.model is None:
                jobs += [job for cell in kept for job in self._without_model(cell)]
            else:
                apart = self.runner.artefacts.is_apart(variant)
                for cells in [[cell] for cell in kept] if apart else [kept] if kept else []:
                    jobs += self._model_group(variant, trial, cells)
        for key in list(self._chains):
            jobs += self._advance(key)
        return jobs

    def _without_model(self, cell: Cell) -> Iterator[ClusterJob]:
        if self.runner.is_found(cell):
            self._tell(cell, "found", "")
        else:
            yield self._score_job(cell, holds="", memory=answering_bytes(None), wants=())

    def _model_group(self, variant: VariantPlan, trial: Trial, cells: list[Cell]) -> list[ClusterJob]:
        artefacts = self.runner.artefacts
        task = cells[0].task
        try:
            made = artefacts.folders(variant, trial=trial, task=task)
        except (WorkError, UsageError) as error:
            self._fail(cells, str(error))
            return []
        both = ((made.model, False), (made.package, True))
        steps = [(folder, export) for folder, export in both if folder is not None]
        if not steps:
            return list(self._released(cells))
        chain = self._chains.setdefault(made.chain, [])
        apart = task.name if artefacts.is_apart(variant) else ""
        for folder, export in steps:
            if not any(each.made == folder for each in chain):
                work = MakeWork(variant=variant.name, trial=trial, task=apart, export=export)
                job = ClusterJob(
                    name=f"{'export' if export else 'training'} of {folder.name}",
                    work=work,
                    needs=self._needs(variant, memory=making_bytes(made.backbone)),
                    first=True,
                    wants=("sweeps", *(self._inside(each) for each in (made.model, *made.bases) if each is not None)),
                )
                chain.append(_Step(job=job, made=folder, trial=trial, export=export))
        next(each for each in chain if each.made == steps[-1][0]).groups.append(cells)
        return []

    def _advance(self, key: object) -> list[ClusterJob]:
        """Cells of the steps that are there, and the next one that is not."""
        jobs: list[ClusterJob] = []
        chain = self._chains[key]
        while chain and chain[0].is_there:
            for cells in chain.pop(0).groups:
                jobs += self._released(cells)
        if chain:
            self._of_job[id(chain[0].job)] = (key, chain[0])
            jobs.append(chain[0].job)
        return jobs

    def _released(self, cells: list[Cell]) -> Iterator[ClusterJob]:
        """Jobs of the cells of a model that is there; found ones are told."""
        variant, trial, artefacts = cells[0].variant, cells[0].trial, self.runner.artefacts
        try:
            ref = artefacts.of(variant, trial=trial, task=cells[0].task)
            made = artefacts.folders(variant, trial=trial, task=cells[0].task)
            model, settings = card_in(ref), settings_hash(ref)
        except (WorkError, GateError) as error:
            self._fail(cells, str(error))
            return
        memory = answering_bytes(ref)
        wants = tuple(self._inside(each) for each in (made.model, made.package) if each is not None)
        for cell in cells:
            if is_finished(self.runner.folder, cell, model=model, settings=settings):
                self._tell(cell, "found", "")
            else:
                holds = f"{variant.name} {trial.suffix} {cell.task.name if artefacts.is_apart(variant) else ''}"
                yield self._score_job(cell, holds=holds, memory=memory, wants=(*wants, "sweeps"))

    def _score_job(self, cell: Cell, *, holds: str, memory: int, wants: tuple[str, ...]) -> ClusterJob:
        job = ClusterJob(
            name=f"cell {cell.id}",
            work=ScoreWork(variant=cell.variant.name, trial=cell.trial, task=cell.task.name),
            needs=self._needs(cell.variant, memory=memory),
            holds=holds,
            wants=wants,
        )
        self._of_job[id(job)] = cell
        return job

    def _needs(self, variant: VariantPlan, *, memory: int) -> Needs:
        cores = 1 if variant.model is None else self.runner.threads(variant)
        return Needs(cores=cores, gpus=int(variant.device.startswith("cuda")), memory_bytes=memory)

    def _ended(self, job: ClusterJob, outcome: JobOutcome) -> Iterable[ClusterJob]:
        held = self._of_job.pop(id(job))
        if isinstance(held, Cell):
            self._cell_ended(held, outcome)
            return ()
        key, step = held
        chain = self._chains[key]
        if outcome.error:
            broken = [each for each in chain if each is step or (not step.export and each.trial == step.trial)]
            for each in broken:
                chain.remove(each)
                for cells in each.groups:
                    self._fail(cells, outcome.error)
        elif not is_seen(lambda: step.is_there):
            chain.remove(step)
            for cells in step.groups:
                self._fail(cells, f"{step.made} is not seen here, though another machine has written it.")
        self.tally.show(note=summed(self._dispatcher.at_work))
        return self._advance(key)

    def _cell_ended(self, cell: Cell, outcome: JobOutcome) -> None:
        if outcome.error or not isinstance(outcome.value, Made) or not isinstance(outcome.value.value, ScoredCell):
            self._fail([cell], outcome.error or "it ended without a result.")
            return
        scored = outcome.value.value
        try:
            self._publish(self.runner.folder.root / scored.stage, cell)
        except OSError as error:
            self._fail([cell], f"its record cannot be moved into place: {error.strerror or error}.")
            return
        self._tell(cell, scored.status, scored.reason, seconds=scored.seconds)

    def _publish(self, stage: Path, cell: Cell) -> None:
        """Move a cell into its place: its samples, then the record that makes it finished."""
        written, folder = RunFolder(root=stage), self.runner.folder
        is_seen(written.cell(cell.id).is_file)
        samples, place = written.samples(cell.id), folder.samples(cell.id)
        place.parent.mkdir(parents=True, exist_ok=True)
        if samples.is_file():
            samples.replace(place)
        else:
            place.unlink(missing_ok=True)
        folder.cell(cell.id).parent.mkdir(parents=True, exist_ok=True)
        written.cell(cell.id).replace(folder.cell(cell.id))
        shutil.rmtree(stage, ignore_errors=True)

    def _fail(self, cells: Sequence[Cell], reason: str) -> None:
        for cell in cells:
            self.runner.fail(cell, reason)
            self._tell(cell, "failed", reason)

    def _tell(self, cell: Cell, status: str, reason: str, *, seconds: float = 0.0) -> None:
        at_work = len(self._dispatcher.at_work)
        self.tally.ended(
            cell, status, reason, seconds=seconds, note=summed(self._dispatcher.at_work), at_once=max(1, at_work)
        )

    def _inside(self, made: Path) -> str:
        root = self.runner.folder.root
        return str(made.relative_to(root)) if made.is_relative_to(root) else str(made)


def time_on_cluster(runner: CellRunner, *, pool: RayPool, cores: int) -> tuple[str, ...]:
    """Time the variants, all of them on one machine that has nothing else of this run: ratios are formed within its
    rounds alone. A sentence for each that failed."""
    found: list[JobOutcome] = []

    def ended(job: ClusterJob, outcome: JobOutcome) -> Iterable[ClusterJob]:
        found.append(outcome)
        return ()

    if not runner.untimed():
        return ()
    gpus = int(any(variant.device.startswith("cuda") for variant in runner.untimed()))
    needs = Needs(cores=cores, gpus=gpus, alone=True)
    job = ClusterJob(name="timing", work=TimeWork(), needs=needs, wants=("cells", "models", "packages", "sweeps"))
    Dispatcher(pool=pool, ended=ended).run([job])
    (outcome,) = found
    if outcome.error:
        return (f"timing: {outcome.error}",)
    value = outcome.value.value if isinstance(outcome.value, Made) else ()
    return tuple(map(str, value)) if isinstance(value, tuple) else ()
