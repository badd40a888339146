"""One's own data to a decision, without a plan: looks at the data, divides it, writes the plan that answers which model
to take, and carries it out.

    runs/try-reviews/task/        the task: reviews.yaml, and its rows by split
    runs/try-reviews/plan.yaml    the plan, to be edited and run again
    runs/try-reviews/try.json     what both were made of
    runs/try-reviews/...          the run of the plan, with its page

The same call again goes on where it stopped. Nothing is chosen on the scored rows: of several models the one that is
best on validation rows is exported, and what rounding costs is held by a gate on validation rows.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lmtasks.checksums import file_checksum
from lmtasks.errors import UsageError
from lmtasks.files import locked, slug, write_text
from lmtasks.records import Progress
from lmtasks.report.write import write_report
from lmtasks.results.run import TryRecord
from lmtasks.run.folder import RunFolder
from lmtasks.run.plan import load_plan
from lmtasks.run.run_plan import Ran, run_plan
from lmtasks.run.runner import RunOptions
from lmtasks.run.trials import Trial
from lmtasks.settings.data import DataAccess
from lmtasks.settings.endpoint import is_address
from lmtasks.settings.evaluation import PageLanguage, ResultsOut, Scoring
from lmtasks.settings.runs_on import RunsOn
from lmtasks.task.index import default_index
from lmtasks.task.kinds import kind_of
from lmtasks.task.task import HeldRows, Task
from lmtasks.workflow.choose_models import ChosenModel, OpenOptions, chosen_models, solver_before_loading
from lmtasks.workflow.choose_tasks import TaskRequest, own_columns
from lmtasks.workflow.evaluate import EvalRequest, evaluate_models
from lmtasks.workflow.new_files import SHIPPED, PlannedModel, PlanSketch, new_task, plan_text

TASK, PLAN, RECORD, CHOICE = "task", "plan.yaml", "try.json", "choice"
LEAST_SCORED = 6
"""Rows to be scored. Five examples that all differ in one direction differ by chance once in 16 cases (a sign test of
two sides), six once in 32: on fewer nothing can be shown."""
MOST_SCORED = 2000
"""Rows that are scored: a share of right answers is known to 2 points then."""
FULL_WEIGHTS = 40_000_000
"""Weights of a backbone of which all are trained. Of a larger one the heads are, over features that are read once:
training all of it passes through it some twelve times as often (four epochs of three passes each)."""
TRAINING_SHARE = 0.3
"""Of the time, for all trainings together; scoring, export, proofs, gate and timing take the rest."""


@dataclass(frozen=True, kw_only=True)
class TryRequest:
    """Whose data is looked at, and what is compared on it."""

    tasks: TaskRequest
    """`data` with its columns."""
    models: Sequence[str] = ()
    """Beside the shipped backbone."""
    minutes: float = 10.0
    """Of all of it, about, on two cores and some thousand rows; trainings keep to a share of it."""
    data: DataAccess = field(default_factory=DataAccess)
    threads: int | None = None
    seed: int = 1234
    cache: Path | None = None
    """The file in which answers are kept; None: they are not."""
    out: Path | None = None
    """None: `runs/try-NAME`."""
    command: str = ""
    """The command that repeats it, for the page."""
    page_language: PageLanguage = "en"


@dataclass(frozen=True, kw_only=True)
class TriedData:
    """The answer, and what it was made of."""

    folder: Path
    page: Path
    plan: Path
    ran: Ran


@dataclass(frozen=True, kw_only=True)
class DataPlan:
    """The plan that was written for the data, and what was found there."""

    folder: Path
    plan: Path
    found: tuple[str, ...]
    notes: tuple[str, ...]
    is_new: bool
    """Written just now, and not by an earlier call."""

    @property
    def text(self) -> str:
        """The plan's YAML."""
        return self.plan.read_text(encoding="utf-8")


def try_data(
    request: TryRequest,
    *,
    report: Callable[[Progress], None],
    on_plan: Callable[[DataPlan], None] = lambda made: None,
) -> TriedData:
    """Look at the data, write task and plan, carry the plan out, and make its page.

    Args:
        on_plan: is told what was found before anything is trained.

    Raises:
        UsageError: the data makes no task, a model is not there, the folder holds something else, or its plan was
            edited since.
        WorkError: the folder cannot be written, or the Hub cannot be reached.
    """
    name = request.tasks.name or _name_of(request.tasks.data)
    folder = request.out or Path("runs") / f"try-{name}"
    asked = _asked(request)
    with locked(folder):
        made = _found_before(folder, asked) or _written(request, name=name, folder=folder, asked=asked)
    on_plan(made)
    record = TryRecord.read(folder / RECORD)
    if record.candidates and not record.chosen:
        _run(request, made, report=report)
        with locked(folder):
            _choose(request, record, folder=folder, report=report)
    ran = _run(request, made, report=report)
    return TriedData(folder=folder, page=write_report(folder, language=request.page_language), plan=made.plan, ran=ran)


def _run(request: TryRequest, made: DataPlan, *, report: Callable[[Progress], None]) -> Ran:
    return run_plan(
        load_plan(made.plan),
        plan_file=made.plan,
        index=default_index(),
        out=made.folder,
        options=RunOptions(data=request.data, threads=request.threads, cache=request.cache, command=request.command),
        report=report,
    )


def _name_of(data: Path | HeldRows | None) -> str:
    stem = data.resolve().stem if isinstance(data, Path) else "rows"
    return slug(stem) or "data"


def _asked(request: TryRequest) -> Mapping[str, str]:
    """What task and plan depend on.

    Raises:
        UsageError: no data, or no such column.
    """
    data = request.tasks.data
    if data is None:
        raise UsageError("try looks at data: give --data FILE, or a folder with train.* and test.*.")
    if request.tasks.label is None:
        raise UsageError(
            "say by --label which column holds the answers, one class a row; with --kind multi_label a list of them, "
            f"with --kind regression a number. {own_columns(request.tasks)}"
        )
    kept = {name: getattr(request.tasks, name) for name in ("text", "label", "pair", "kind", "language", "encoding")}
    return {
        **{name: str(value) for name, value in kept.items() if value is not None},
        "data": data.fingerprint if isinstance(data, HeldRows) else _checksum(data),
        "models": ", ".join(request.models),
        "minutes": f"{request.minutes:g}",
        "seed": str(request.seed),
        "drop_unlabelled": str(request.data.drop_unlabelled),
    }


def _checksum(data: Path) -> str:
    """Of a file, or of all files of a folder; of what is not there nothing, which is told where it is read."""
    if data.is_file():
        return file_checksum(data)
    files = sorted(file for file in data.glob("*") if file.is_file())
    return " ".join(f"{file.name} {file_checksum(file)}" for file in files)


def _found_before(folder: Path, asked: Mapping[str, str]) -> DataPlan | None:
    """Task and plan that the same call has written before; None: nothing is there.

    Raises:
        UsageError: the folder holds something else, or the plan was edited.
    """
    if not folder.exists():
        return None
    if not (folder / RECORD).is_file():
        strangers = sorted(each.name for each in folder.iterdir() if each.name not in (TASK, PLAN))
        if strangers:
            raise UsageError(f"{folder} holds {strangers[0]}, which try has not made; give another --out.")
        shutil.rmtree(folder)  # a call that was ended while it wrote
        return None
    record = TryRecord.read(folder / RECORD)
    unlike = [name for name in {**record.asked, **asked} if record.asked.get(name) != asked.get(name)]
    if unlike:
        raise UsageError(
            f"{folder} was made of other data or options ({', '.join(sorted(unlike))}); give another --out, "
            "or delete it."
        )
    plan = folder / PLAN
    if not plan.is_file() or file_checksum(plan) != record.plan_checksum:
        raise UsageError(
            f"{plan} was edited since it was written: `lmtasks run {plan} --out {folder}` carries it out as it stands; "
            "or give another --out."
        )
    return DataPlan(folder=folder, plan=plan, found=record.found, notes=record.notes, is_new=False)


def _written(request: TryRequest, *, name: str, folder: Path, asked: Mapping[str, str]) -> DataPlan:
    """Task, plan and record, in this order; after a failure nothing is left."""
    folder.mkdir(parents=True)
    try:
        made = new_task(name, request.tasks, out=folder / TASK, data=request.data, least_scored=LEAST_SCORED)
        models = _planned(request, made.task)
        candidates = [model.name for model in models if _is_candidate(model)]
        sketch = _sketch(request, folder=folder, name=name, scored=made.rows["test"])
        exported = () if len(candidates) > 1 else tuple(candidates)
        write_text(folder / PLAN, plan_text(replace(sketch, models=_exporting(models, exported))))
        record = TryRecord(
            asked=asked,
            found=made.found,
            notes=made.notes,
            candidates=tuple(candidates) if len(candidates) > 1 else (),
            plan_checksum=file_checksum(folder / PLAN),
        )
        record.write(folder / RECORD)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return DataPlan(folder=folder, plan=folder / PLAN, found=made.found, notes=made.notes, is_new=True)


def _sketch(request: TryRequest, *, folder: Path, name: str, scored: int) -> PlanSketch:
    return PlanSketch(
        name=f"try-{name}",
        question=f"Which model answers {request.tasks.label} best, and what does it cost to run?",
        tasks=(str(folder / TASK / f"{name}.yaml"),),
        learnable=True,
        sample=MOST_SCORED if scored > MOST_SCORED else None,
        seed=request.seed,
        notes=(f"Its rows and its task lie in {folder / TASK}; --out {folder} finds what is there already.",),
    )


def _planned(request: TryRequest, task: Task) -> tuple[PlannedModel, ...]:
    """The shipped backbone, and the models that were given.

    Raises:
        UsageError: there is no such model, or it can neither answer the task nor learn it.
        WorkError: the Hub cannot be reached.
    """
    found: list[PlannedModel] = []
    servers = [ref for ref in request.models if is_address(ref)]
    if servers:
        raise UsageError(f"--model {servers[0]} is a server, which try does not adapt; ask it with lmtasks eval.")
    made = [ref for ref in request.models if _is_family(ref)]
    there = [ref for ref in request.models if ref not in made and ref != SHIPPED.ref]
    access = request.data
    chosen = (
        {each.ref: each for each in chosen_models(there, offline=access.offline, token=access.token)} if there else {}
    )
    taken = {"trivial", "classical", SHIPPED.name}
    for ref in (SHIPPED.ref, *(ref for ref in request.models if ref != SHIPPED.ref)):
        if ref == SHIPPED.ref:
            planned = SHIPPED
        elif ref in chosen:
            planned = _of_card(chosen[ref], task)
        else:
            planned = _of_family(ref)
        if planned is not SHIPPED and planned.name in taken:
            planned = replace(planned, name=f"{planned.name}-{len(taken)}")
        taken.add(planned.name)
        found.append(planned)
    steps = sum(
        model.adaptation is not None and model.fit == "steps" and model.runtimes != ("native",) for model in found
    )
    minutes = round(TRAINING_SHARE * request.minutes / max(1, steps), 2)
    return tuple(replace(model, minutes=minutes) for model in found)


def _is_family(ref: str) -> bool:
    from lmtasks.workflow.new_backbone import Start

    start = Start(backbone=ref)
    return not _is_baseline(ref) and (start.is_family or start.is_fitted)


def _is_baseline(ref: str) -> bool:
    from lmtasks.evaluation.baselines import BASELINES

    return ref in BASELINES


def _of_family(ref: str) -> PlannedModel:
    from lmtasks.workflow.new_backbone import Start

    fitted = Start(backbone=ref).is_fitted
    return PlannedModel(
        name=slug(ref),
        ref=ref,
        runtimes=("native",) if fitted else ("torch",),
        why="Fitted at once." if fitted else "Made new, from random weights.",
    )


def _of_card(chosen: ChosenModel, task: Task) -> PlannedModel:
    """A model that is there: as it is where one of its heads answers the task, else adapted."""
    from lmtasks.export.package import is_package, load_package
    from lmtasks.workflow.open_model import card_in, runtime_for

    name = slug(chosen.label)
    if chosen.folder is None:
        return PlannedModel(name=name, ref=chosen.ref, adaptation=None, is_baseline=True, why="A baseline.")
    solver, card = solver_before_loading(chosen, OpenOptions()), card_in(chosen.folder)
    why_not = solver.why_not(task, way="head")
    if is_package(chosen.folder):
        if why_not:
            raise UsageError(f"--model {chosen.ref} is a package, which learns nothing more, and {why_not}")
        precision = load_package(chosen.folder).precision
        return PlannedModel(
            name=name, ref=chosen.ref, adaptation=None, runtimes=("onnx",), precision=precision, why="A package."
        )
    if not why_not:
        native = runtime_for(chosen.folder, wanted=None) == "native"
        why = "Its own head answers, so it is used as it is."
        return PlannedModel(
            name=name, ref=chosen.ref, adaptation=None, runtimes=("native",) if native else ("torch",), why=why
        )
    if card.parameters <= FULL_WEIGHTS:
        return PlannedModel(name=name, ref=chosen.ref, runtimes=("torch",), why=f"{card.parameters:,} weights.")
    return PlannedModel(
        name=name,
        ref=chosen.ref,
        adaptation="probe",
        fit="logistic" if kind_of(task).answer == "label" else "steps",
        runtimes=("torch",),
        why=f"{card.parameters:,} weights: a head over features that are read once; `adaptation: full` takes some "
        "twelve times as long.",
    )


def _is_candidate(model: PlannedModel) -> bool:
    """May it be the one that is exported?"""
    return "torch" in model.runtimes and not model.is_baseline


def _exporting(models: Sequence[PlannedModel], names: Sequence[str]) -> tuple[PlannedModel, ...]:
    """The models, of which those with these names are exported, too; of the others that could be none is."""
    return tuple(
        replace(model, runtimes=("torch", "onnx", "int8") if model.name in names else ("torch",))
        if _is_candidate(model)
        else model
        for model in models
    )


def _choose(request: TryRequest, record: TryRecord, *, folder: Path, report: Callable[[Progress], None]) -> None:
    """Score the candidates on validation rows, and let the plan export the best one."""
    plan = load_plan(folder / PLAN)
    (task,) = default_index().find(plan.tasks[0])
    models = _planned(request, task)
    trial = Trial(seed=request.seed)
    places = {
        model.name: model.ref
        if model.adaptation is None
        else str(RunFolder(root=folder).model(model.name, trial=trial))
        for model in models
        if model.name in record.candidates
    }
    there = {name: ref for name, ref in places.items() if ref in request.models or Path(ref).is_dir()}
    if not there:
        return  # none could be made, which the run says
    evaluated = evaluate_models(
        EvalRequest(
            models=tuple(there.values()),
            tasks=TaskRequest(tasks=plan.tasks[0]),
            opening=OpenOptions(on=RunsOn(threads=request.threads), cache=request.cache),
            data=request.data,
            scoring=Scoring(split="validation", seed=request.seed),
            output=ResultsOut(out=folder / CHOICE, overwrite=True, no_samples=True),
        ),
        report=report,
    )
    scores = {
        name: next(iter(scored.results[0].metrics.values()))
        for name, scored in zip(there, evaluated.models, strict=True)
        if scored.results
    }
    if not scores:
        return
    sign = 1 if next(iter(scores.values())).higher_is_better else -1
    best = max(scores, key=lambda name: sign * scores[name].value)
    told = ", ".join(f"{name} {estimate.value:.4g}" for name, estimate in scores.items())
    sketch = _sketch(request, folder=folder, name=task.name, scored=0)
    sketch = replace(
        sketch,
        sample=plan.sample,
        models=_exporting(models, (best,)),
        notes=(*sketch.notes, f"{best} is the best on validation rows ({told}), and is exported."),
    )
    write_text(folder / PLAN, plan_text(sketch))
    changed = {
        "chosen": {name: estimate.value for name, estimate in scores.items()},
        "plan_checksum": file_checksum(folder / PLAN),
    }
    record.model_copy(update=changed).write(folder / RECORD)
