"""Variants of a plan: their models, made or found (adapted, exported, and then lying in a folder); how they are timed;
and which of them fulfil what the plan requires."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lmtasks.bench.costs import parse_prices, priced
from lmtasks.bench.judge import (
    QualityDrop,
    cheapest,
    judge,
    judged_records,
    parse_requirements,
    why_none,
    with_goodput,
)
from lmtasks.bench.spec import SpeedSpec
from lmtasks.bench.speed import SpeedSettings
from lmtasks.errors import UsageError
from lmtasks.evaluation.given_answers import GivenAnswers
from lmtasks.metric.drop import loss_of
from lmtasks.model.resolve import resolve
from lmtasks.model.store import read_provenance
from lmtasks.processor import INSTRUCTIONS
from lmtasks.records import ModelCard, Progress
from lmtasks.results.cell import TrainedRecord, Variant
from lmtasks.results.comparison import PairedRecords
from lmtasks.results.speed import RequiredRecord, SpeedRecord
from lmtasks.results.sweep import SweepRecord
from lmtasks.run.folder import Cell, RunFolder
from lmtasks.run.plan import BenchPlan, Plan, SweepPlan, VariantPlan
from lmtasks.run.sweep import SettingsSweep, Train
from lmtasks.run.trials import Trial, trials_of
from lmtasks.settings.data import DataAccess
from lmtasks.settings.endpoint import Endpoint, is_address
from lmtasks.settings.models import PROOF_SECONDS, batch_rows
from lmtasks.settings.runtimes import MADE_FOR, RUNTIMES, TorchPrecision
from lmtasks.settings.training import AdaptTraining
from lmtasks.task.generation import with_generation
from lmtasks.task.task import Task
from lmtasks.workflow.adapt import adapt_to_tasks
from lmtasks.workflow.bench import AUTO_BATCH, spec_of_server
from lmtasks.workflow.choose_models import read_given
from lmtasks.workflow.export import proof_texts
from lmtasks.workflow.new_backbone import Start
from lmtasks.workflow.open_endpoint import probe_server
from lmtasks.workflow.open_model import card_in
from lmtasks.workflow.quality_drop import judged_drop
from lmtasks.workflow.workloads import at_lengths, goals_of, loads_of, server_workloads, workloads_of

if TYPE_CHECKING:
    from lmtasks.export.ranges import CalibrationRow
    from lmtasks.prove.gate import Gate

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Artefacts:
    """Makes what the variants of a plan run on, once each, and finds what an earlier run has made."""

    plan: Plan
    tasks: Sequence[Task]
    folder: RunFolder
    options: DataAccess
    report: Callable[[Progress], None]
    features: Path | None = None
    """The file in which features of probes are kept; None: none is."""

    def of(self, variant: VariantPlan, *, trial: Trial, task: Task | None = None) -> Path:
        """The folder that the variant runs: a model, or a package that is proved equal to it.

        Args:
            task: of a model for each task, the one that is asked.

        Raises:
            UsageError: the model or a setting is wrong.
            WorkError: training or export failed.
        GateError: rounding costs more than the variant allows.
        """
        assert variant.model is not None  # checked with the plan; a baseline runs on no folder
        from lmtasks.export.package import is_package

        made = self._made(variant, trial, task)
        model = self._model(made)
        exported = RUNTIMES[variant.runtime].folders == "onnx" and not is_package(model)
        return self._package(variant, model, made) if exported else model

    def model(self, variant: VariantPlan, *, trial: Trial, task: Task | None = None) -> Path:
        """The folder of the model that the variant runs, or that its package is made from; see `of`."""
        return self._model(self._made(variant, trial, task))

    def folders(self, variant: VariantPlan, *, trial: Trial, task: Task) -> "MadeFolders":
        """Where the plan makes what the variant runs on; nothing is made.

        Raises:
            UsageError, WorkError: a model that is used as it is, is not there.
        """
        from lmtasks.export.package import is_package

        made, name = self._made(variant, trial, task), str(variant.model)
        wanted = self.plan.models.get(name)
        out = made.folder(self.folder) if wanted is not None else None
        as_it_is = self._model(made) if wanted is None else None
        exported = RUNTIMES[variant.runtime].folders == "onnx" and not (as_it_is and is_package(as_it_is))
        own = made.task.name if made.task is not None else ""
        sweep = wanted is not None and wanted.sweep is not None
        return MadeFolders(
            model=out,
            package=made.package(
                self.folder, precision=variant.precision, runtime=variant.runtime, gate=gate_name(variant)
            )
            if exported
            else None,
            bases=(made.package(self.folder, precision="fp32"),) if exported else (),
            backbone=as_it_is or (Path(wanted.backbone) if wanted is not None else None),
            chain=(name, trial.rows, own) if sweep else (name, trial, own),
        )

    def is_apart(self, variant: VariantPlan) -> bool:
        """Has the variant a model of its own for each task?"""
        made = self.plan.models.get(variant.model or "")
        return made is not None and not made.together

    def why_not_trained(self, variant: VariantPlan, task: Task) -> str:
        """Why there is no model of the variant for the task alone, as a sentence; empty where there is one."""
        made = self.plan.models.get(variant.model or "")
        if made is None or made.together:
            return ""
        if made.tasks and task.head_name not in made.tasks:
            return f"model {variant.model!r} of the plan is not trained on {task.name}."
        return "" if "train" in task.sources else f"task {task.name} names no training data."

    def learned(self, variant: VariantPlan, task: Task) -> tuple[Task, ...]:
        """The tasks that the variant's model is trained on; none of a model that the plan does not make."""
        made = self.plan.models.get(variant.model or "")
        if made is None:
            return ()
        return self._trained_on(made.tasks, str(variant.model)) if made.together else (task.clean or task,)

    def most_rows(self, cell: Cell) -> int | None:
        """Training rows of each task that the model of a cell learns from at most; None: all."""
        made = self.plan.models.get(cell.variant.model or "")
        return made.training.rows if made is not None and cell.trial.rows is None else cell.trial.most

    def trained(self, variant: VariantPlan, *, trial: Trial, task: Task) -> TrainedRecord | None:
        """Training of the variant's model, as its folder says; None where the plan makes none, or nothing moved.

        A package was trained as its model was.
        """
        name = variant.model or ""
        if name not in self.plan.models:
            return None
        folder = self._made(variant, trial, task).folder(self.folder)
        if not (folder / "model.json").is_file():
            return None
        provenance = read_provenance(folder)
        trained, weights = provenance.get("trained"), provenance.get("weights")
        if not (isinstance(trained, dict) and isinstance(weights, dict)):
            return None
        tasks = provenance.get("tasks")
        own = tasks.get(task.head_name, {}) if isinstance(tasks, dict) else {}
        return TrainedRecord.model_validate({**trained, "weights": weights["trained"], "words": own.get("words", 0)})

    def _made(self, variant: VariantPlan, trial: Trial, task: Task | None) -> "_Made":
        """The model; its task as the plan names it, not as the variant writes."""
        own = next((each for each in self.tasks if task is not None and each.name == task.head_name), None)
        return _Made(name=str(variant.model), trial=trial, task=own if self.is_apart(variant) else None)

    def _model(self, made: "_Made") -> Path:
        name = made.name
        if name not in self.plan.models:
            return resolve(name, offline=self.options.offline, token=self.options.token)
        out = made.folder(self.folder)
        wanted = self.plan.models[name]
        start = Start(
            backbone=wanted.backbone,
            tokenizer=wanted.tokenizer,
            vectors=wanted.vectors,
            from_scratch=wanted.from_scratch,
            attention=wanted.attention,
        )
        if (out / "model.json").is_file():
            if not start.is_new:  # a new family depends on its lines in the plan alone, see plan_changes
                _check_origin(out, resolve(start.backbone, offline=self.options.offline, token=self.options.token))
            return out
        out.parent.mkdir(parents=True, exist_ok=True)

        def train(point: Mapping[str, object], seed: int, folder: Path, report: Callable[[Progress], None]) -> None:
            settings = wanted.settings(seed=seed).but(point)
            adapt_to_tasks(
                start=start,
                tasks=self._trained_on(wanted.tasks, name) if made.task is None else [made.task],
                settings=settings.but({"precision": _computed_in(settings, name)}),
                options=self.options,
                out=folder,
                report=report,
                rows=wanted.training.rows if made.trial.rows is None else made.trial.most,
                cache=self.features,
            )

        if wanted.sweep is None:
            train({}, made.trial.seed, out, self.report)
            return out
        sweep = self._sweep(made, wanted.sweep, train)
        chosen = sweep.choose()
        there = sweep.made(chosen, seed=made.trial.seed)
        if (there / "model.json").is_file():
            there.rename(out)
        else:
            train(chosen, made.trial.seed, out, self.report)
        return out

    def _sweep(self, made: "_Made", plan: SweepPlan, train: Train) -> SettingsSweep:
        task = made.task.name if made.task is not None else ""
        trials = {
            trial.seed: trial
            for variant in self.plan.variants
            if variant.model == made.name
            for trial in trials_of(self.plan, variant)
            if trial.rows == made.trial.rows
        }
        return SettingsSweep(
            file=self.folder.sweep(made.name, rows=made.trial.rows, task=task),
            model=made.name,
            task=task,
            rows=made.trial.rows,
            plan=plan,
            seeds=tuple(trials),
            names={seed: self.folder.model(made.name, trial=trial, task=task).name for seed, trial in trials.items()},
            train=train,
            report=self.report,
        )

    def chosen(self, cell: Cell) -> Mapping[str, object]:
        """Settings that a sweep has chosen for the model of a cell; none where there is no sweep, or no choice yet."""
        made = self.plan.models.get(cell.variant.model or "")
        if made is None or made.sweep is None:
            return {}
        task = "" if made.together else cell.task.name
        record = SweepRecord.read_if_whole(self.folder.sweep(str(cell.variant.model), rows=cell.trial.rows, task=task))
        return record.chosen if record is not None else {}

    def _trained_on(self, names: Sequence[str], model: str) -> tuple[Task, ...]:
        chosen = [task for task in self.tasks if task.clean is None and (not names or task.name in names)]
        unknown = sorted(set(names) - {task.name for task in self.tasks})
        if unknown:
            raise UsageError(f"model {model!r} is to be trained on {unknown[0]!r}, which is no task of the plan.")
        return tuple(chosen)

    def _package(self, variant: VariantPlan, model: Path, made: "_Made") -> Path:
        from lmtasks.export.package import is_package
        from lmtasks.prove.export import export_and_prove

        tasks = self.tasks if made.task is None else [made.task]
        out = made.package(self.folder, precision=variant.precision, runtime=variant.runtime, gate=gate_name(variant))
        if is_package(out):
            if card_in(out).weights_hash != card_in(model).weights_hash:
                raise UsageError(f"{out} was exported from other weights than {model} has now; delete it to go on.")
            return out
        self.report(Progress(stage=f"export {variant.name}", done=0, total=1, unit="package"))
        out.parent.mkdir(parents=True, exist_ok=True)
        plain = made.package(self.folder, precision="fp32")
        export_and_prove(
            model,
            out=out,
            precision=variant.precision,
            texts=proof_texts(tasks, self.options),
            report=self.report,
            base=plain if is_package(plain) else None,
            gate=self._gate(variant, model, tasks),
            rows=self._rows(variant, model, tasks),
            runtime=variant.runtime,
            force=variant.force,
            proof_seconds=PROOF_SECONDS,
        )
        self.report(Progress(stage=f"export {variant.name}", done=1, total=1, unit="package"))
        return out

    def _gate(self, variant: VariantPlan, model: Path, tasks: Sequence[Task]) -> "Gate | None":
        """Gate that the variant's package has to hold on the tasks that it answers."""
        from lmtasks.workflow.quality_gate import gate_of

        if variant.max_drop is None:
            return None
        return gate_of(
            tasks_of(variant, tasks),
            model=model,
            most=variant.max_drop,
            options=self.options,
            report=self.report,
            threads=variant.threads,
        )

    def _rows(self, variant: VariantPlan, model: Path, tasks: Sequence[Task]) -> "Sequence[CalibrationRow]":
        """Training rows of the plan's tasks, where the variant's precision needs any."""
        from lmtasks.workflow.calibration import calibration_rows

        if variant.precision != "int8-static":
            return ()
        return calibration_rows(tasks, model=model, options=self.options)


@dataclass(frozen=True, kw_only=True)
class MadeFolders:
    """Folders of what a plan makes for a variant in one trial."""

    model: Path | None
    """None: the plan makes none."""
    package: Path | None
    """None: the variant runs no package, or one that is there."""
    bases: tuple[Path, ...]
    """Packages whose graphs it may be made from."""
    backbone: Path | None
    """What it is made from; need not be there."""
    chain: object
    """What is made with the same is made one behind the other."""


@dataclass(frozen=True, kw_only=True)
class _Made:
    """A model that the plan makes in one trial; `task` where it is one of that task alone."""

    name: str
    trial: Trial
    task: Task | None

    def folder(self, folder: RunFolder) -> Path:
        return folder.model(self.name, trial=self.trial, task=self.task.name if self.task is not None else "")

    def package(self, folder: RunFolder, *, precision: str, runtime: str = MADE_FOR, gate: str = "") -> Path:
        task = self.task.name if self.task is not None else ""
        return folder.package(self.name, trial=self.trial, precision=precision, runtime=runtime, task=task, gate=gate)


def gate_name(variant: VariantPlan) -> str:
    """Name of a gate: variants that agree in it share a package; empty where there is none."""
    if variant.max_drop is None:
        return ""
    written = [f"{name}-{value}" for name, value in variant.generation_kwargs.items()]
    return " ".join([f"max-drop-{variant.max_drop:g}", *variant.tasks, *written])


def tasks_of(variant: VariantPlan, tasks: Sequence[Task]) -> tuple[Task, ...]:
    """Those that the variant answers, with texts written in its own way.

    Raises:
        UsageError: it has settings of generation, and no task to write for.
    """
    answered = [task for task in tasks if not variant.tasks or task.name in variant.tasks]
    return with_generation(answered, variant.generation_kwargs)


def given_answers(variant: VariantPlan) -> GivenAnswers:
    """The answers of a variant, read and named for it.

    Raises:
        UsageError: there is no such file, or it holds no answers.
    """
    assert variant.answers is not None  # the caller looked
    (given,) = read_given([variant.answers], id_column=variant.answers_id, allow_missing=variant.allow_missing)
    return replace(given, name=variant.name)


def stored_variant(variant: VariantPlan, *, plan: Plan, model: ModelCard | None, threads: int) -> Variant:
    """A variant as cells and speed records hold it."""
    if variant.answers:
        return Variant(
            name=variant.name,
            model=variant.answers,
            adaptation="prompt",
            runtime="answers",
            precision="none",
            threads=0,
        )
    made = plan.models.get(variant.model or "")
    adaptation = made.adaptation if made else "prompt"
    if variant.runtime == "endpoint":
        return Variant(
            name=variant.name,
            model=str(variant.model),
            adaptation=adaptation,
            runtime=variant.runtime,
            device=variant.device,
            precision="none",
            threads=0,
            generation_kwargs=variant.generation_kwargs,
        )
    return Variant(
        name=variant.name,
        model=variant.model or (model.name if model else "/".join(variant.baseline)),
        adaptation=adaptation if variant.model else "none",
        runtime=variant.runtime if variant.model else "native",
        device=variant.device,
        precision=variant.precision if variant.model else "none",
        threads=threads if variant.model else 1,
        generation_kwargs=variant.generation_kwargs,
    )


def speed_spec(
    variant: VariantPlan,
    *,
    plan: Plan,
    bench: BenchPlan,
    ref: Path,
    tasks: Sequence[Task],
    threads: int,
    data: DataAccess,
) -> SpeedSpec:
    """One variant of a plan, to be timed on these tasks.

    Raises:
        UsageError: a length that the model does not take.
        WorkError: no task can be timed.
    """
    settings = _speed_settings(plan, bench)
    address = variant.model or ""
    if is_address(address):
        endpoint = variant.server or Endpoint()
        server = probe_server(address, endpoint, cache=None)
        card, own = server_workloads(
            tasks, server=server, settings=endpoint, options=data, rows=bench.rows, seed=plan.seeds[0]
        )
        if bench.lengths and endpoint.server_tokenizer is not None:
            own = (*own, *at_lengths(own, bench.lengths, model=card))
        return spec_of_server(server, endpoint, name=variant.name, workloads=own, settings=settings)
    model = card_in(ref)
    own = workloads_of(tasks, ref=ref, model=model, options=data, rows=bench.rows, seed=plan.seeds[0])
    return SpeedSpec(
        variant=stored_variant(variant, plan=plan, model=model, threads=threads).content(),
        ref=ref,
        runtime=variant.runtime,
        device=variant.device,
        precision=variant.precision,
        threads=threads,
        force=variant.force,
        workloads=(*own, *at_lengths(own, bench.lengths, model=model)),
        settings=settings,
    )


def _speed_settings(plan: Plan, bench: BenchPlan) -> SpeedSettings:
    seconds = bench.seconds / bench.rounds
    return SpeedSettings(
        batch_sizes=bench.batch_sizes or (1, batch_rows(bench.batch_size) or AUTO_BATCH),
        writes_all=not bench.batch_sizes and bench.batch_size == "auto",
        least_seconds=seconds,
        most_seconds=seconds * 4,
        most_warm_up_seconds=min(SpeedSettings().most_warm_up_seconds, seconds * 4),
        loads=loads_of(
            bench.rate,
            arrival=bench.arrival,
            requirements=parse_requirements(bench.require) if bench.require else (),
            rounds=bench.rounds,
            seconds=seconds,
            seed=plan.seeds[0],
        ),
        goals=goals_of(parse_requirements(bench.require) if bench.require else ()),
    )


def reckon(folder: RunFolder, plan: Plan, bench: BenchPlan) -> None:
    """Put into each variant's timings what the plan says now of prices and limits."""
    prices = parse_prices(tokens=bench.price, hour=bench.price_hour)
    required = parse_requirements(bench.require) if bench.require else ()
    for variant in plan.variants:
        file = folder.speed(variant.name)
        record = SpeedRecord.read_if_whole(file)
        told = None if record is None else priced(with_goodput(record, required), prices)
        if told is not None and told != record:
            told.write(file)


def required_record(folder: RunFolder, *, plan: Plan, require: str) -> RequiredRecord:
    """Hold the timings against what the plan requires, for required.json. A drop is that of paired.json."""
    speeds = [SpeedRecord.read_if_whole(folder.speed(variant.name)) for variant in plan.variants if variant.model]
    records = [record for record in speeds if record is not None]
    judged = judge(parse_requirements(require), records=records, drops=_drops(folder, plan))
    best = cheapest(judged)
    return RequiredRecord(
        require=require,
        cheapest=best.variant if best is not None else "",
        missed="" if best is not None else why_none(judged),
        judged=judged_records(judged),
    )


def _computed_in(training: AdaptTraining, model: str) -> TorchPrecision:
    """The plan's precision, or fp32 where this machine has no bf16: a plan is made for other machines than its own."""
    from lmtasks.training.schedule import computes_bf16

    if training.precision == "bf16" and not computes_bf16("cpu"):
        lacking = INSTRUCTIONS["bf16"].names
        log.warning("model %s is trained in fp32, not in bf16: this processor has none of %s", model, lacking)
        return "fp32"
    return training.precision


def _check_origin(model: Path, backbone: Path) -> None:
    """A model that an earlier run made is taken only if the backbone is still the one that it was made from."""
    made_from = read_provenance(model).get("backbone")
    now = card_in(backbone).weights_hash
    if isinstance(made_from, dict) and made_from.get("weights_hash") != now:
        raise UsageError(
            f"{model} was adapted from other weights than {backbone} has now; "
            "give another --out, or delete it to adapt anew."
        )


def _drops(folder: RunFolder, plan: Plan) -> Mapping[str, Mapping[str, QualityDrop]]:
    paired = PairedRecords.read_if_whole(folder.paired)
    found: dict[str, dict[str, QualityDrop]] = {}
    for each in paired.comparisons if paired else ():
        loss = loss_of(
            each.difference, base=each.a, ci95=each.ci95, scale=each.scale, higher_is_better=each.higher_is_better
        )
        found.setdefault(each.variant, {})[each.task] = judged_drop(loss)
        found.setdefault(each.base, {})[each.task] = QualityDrop(value=0.0, ci95=(0.0, 0.0), unit="points")
    return found
