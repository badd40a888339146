"""A plan held against what it names, before any of it is carried out: its models, baselines, rows and devices."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path

from lmtasks.errors import LmtasksError, UsageError, WorkError, unknown
from lmtasks.evaluation.protocols import decoding_of
from lmtasks.evaluation.rivals import baseline_names
from lmtasks.model.resolve import resolve, shipped_names
from lmtasks.records import Progress
from lmtasks.run.plan import ModelPlan, Plan, VariantPlan
from lmtasks.run.trials import TrainingSplit, few_rows, training_splits, trainings_of
from lmtasks.run.variants import given_answers, tasks_of
from lmtasks.runtime.open import check_runs, precision_of
from lmtasks.settings.data import DataAccess
from lmtasks.settings.endpoint import Endpoint, is_address
from lmtasks.settings.runtimes import RUNTIMES
from lmtasks.task.task import Task
from lmtasks.workflow.adapt import check_attention
from lmtasks.workflow.choose_models import check_given
from lmtasks.workflow.new_backbone import Start, pretrained_both_ways
from lmtasks.workflow.open_endpoint import probe_server
from lmtasks.workflow.open_model import card_in
from lmtasks.workflow.split_check import PEEK_ROWS, CheckOptions
from lmtasks.workflow.validate import check_task


@dataclass(frozen=True, kw_only=True)
class PlanCheck:
    """Findings about a plan."""

    opened: Mapping[str, str]
    """By the name of a model, or a variant's own: what its card says, or why it was not opened."""
    rows: Mapping[str, str]
    """By the name of a task: what was seen of its rows."""
    few_rows: Mapping[str, str]
    """By the name of a task: labels that a number of rows has no example of, and numbers that it has not."""
    trainings: Mapping[str, int]
    """By the name of a model: how many it takes."""
    problems: tuple[str, ...]
    """A sentence for each thing that the run would fail over."""


def check_plan(
    plan: Plan, tasks: Sequence[Task], *, options: CheckOptions, report: Callable[[Progress], None]
) -> PlanCheck:
    """Open everything that a plan names, as far as it is on this machine; nothing is fetched for it but rows.

    Of each task the first rows are looked at, of each model its card.
    """
    problems: list[str] = []

    def held(look: Callable[[], object]) -> str:
        try:
            return str(look())
        except LmtasksError as error:
            problems.append(str(error))
            return "WRONG"

    held(partial(check_tasks, plan, tasks))
    held(partial(check_devices, plan))
    opened = {name: held(partial(_start_of, name, plan, tasks)) for name in plan.models}
    for variant in plan.variants:
        if variant.model and variant.model not in plan.models:
            opened[variant.name] = held(partial(_used_as_it_is, variant, plan))
    few = replace(options, limit=min(PEEK_ROWS, plan.limit or PEEK_ROWS), show=0)
    rows = {task.name: held(partial(_rows, task, few, report)) for task in tasks}
    splits = _splits(plan, tasks, options)
    return PlanCheck(
        opened=opened,
        rows=rows,
        few_rows=few_rows(plan, splits),
        trainings=trainings_of(plan, tasks, splits),
        problems=tuple(problems),
    )


def _splits(plan: Plan, tasks: Sequence[Task], options: CheckOptions) -> Mapping[str, TrainingSplit]:
    """Those whose rows are on this machine."""
    found: dict[str, TrainingSplit] = {}
    for task in tasks:
        try:
            found |= training_splits([task], plan=plan, options=options.data.but({"offline": True}))
        except LmtasksError:  # not here, or wrong, which is told where the rows are looked at
            continue
    return found


def check_devices(plan: Plan) -> None:
    """Refuse variants that cannot run here before anything is trained for them.

    Raises:
        UsageError: this machine has no such device, or the device no such precision.
    """
    for variant in plan.variants:
        if variant.model:
            try:
                check_runs(
                    runtime=variant.runtime,
                    device=variant.device,
                    precision=variant.precision,
                    force=variant.force,
                )
            except UsageError as error:
                raise UsageError(f"variant {variant.name!r} of the plan cannot run on this machine: {error}") from None


def check_models(plan: Plan, *, only: Sequence[str], data: DataAccess) -> None:
    """Refuse backbones and models that are not there before anything is trained.

    Args:
        only: names of variants that are carried out; empty: all.

    Raises:
        UsageError: there is no such folder, or no model of that name.
    """
    for variant in plan.variants:
        if variant.model is None or (only and variant.name not in only):
            continue
        made = plan.models.get(variant.model)
        if is_address(variant.model):
            try:
                probe_server(variant.model, variant.server or Endpoint(), cache=None)
            except WorkError:  # it is down, say: its cells say so
                continue
            except UsageError as error:
                raise UsageError(f"variant {variant.name!r} of the plan: {error}") from None
            continue
        if made is not None and (_start(made).is_family or _start(made).is_fitted):
            continue
        try:
            resolve(made.backbone if made is not None else variant.model, offline=data.offline, token=data.token)
        except WorkError:  # of the Hub: this variant's cells say so, and the others go on
            continue
        except UsageError as error:
            whose = f"variant {variant.name!r}" if made is None else f"model {variant.model!r}"
            raise UsageError(f"{whose} of the plan: {error}") from None


def check_tasks(plan: Plan, tasks: Sequence[Task]) -> None:
    """Refuse a plan that does not fit its tasks before anything is done.

    Raises:
        UsageError: there is no such baseline, or file of answers; a variant, or the timing, names a task that the plan
            does not have; or a variant says how it writes texts, and has none to write, or cannot write so.
    """
    for variant in plan.variants:
        baseline_names(variant.baseline)
    for variant in plan.variants:
        if variant.answers:
            try:
                own = [task.name for task in tasks if not variant.tasks or task.name in variant.tasks]
                check_given([given_answers(variant)], tasks=own, sample=plan.sample)
            except UsageError as error:
                raise UsageError(f"variant {variant.name!r} of the plan: {error}") from None
    names = {task.name for task in tasks}
    wanted = [(f"variant {variant.name!r}", variant.tasks) for variant in plan.variants]
    wanted += [("`bench`", plan.bench.tasks)] if plan.bench else []
    for who, asked in wanted:
        missing = sorted(set(asked) - names)
        if missing:
            near = get_close_matches(missing[0], sorted(names), n=3, cutoff=0.5)
            guess = f"; did you mean {' or '.join(map(repr, near))}?" if near else "."
            raise UsageError(f"{who} names {missing[0]!r}, which is no task of the plan{guess}")
    for variant in plan.variants:
        try:
            for task in tasks_of(variant, tasks) if variant.generation_kwargs else ():
                decoding_of(task.generation)  # refuses settings that exclude each other
        except UsageError as error:
            raise UsageError(f"variant {variant.name!r}: {error}") from None


def _start_of(name: str, plan: Plan, tasks: Sequence[Task]) -> str:
    model = plan.models[name]
    missing = sorted(set(model.tasks) - {task.name for task in tasks})
    if missing:
        raise unknown(f"task of model {name!r} of the plan:", missing[0], [task.name for task in tasks])
    try:
        start = _start(model)
        learned = [task for task in tasks if not model.tasks or task.name in model.tasks]
        check_attention(start, learned, model.adaptation)
        return _described(model, start)
    except UsageError as error:
        raise UsageError(f"model {name!r} of the plan: {error}") from error


def _start(model: ModelPlan) -> Start:
    return Start(
        backbone=model.backbone,
        tokenizer=model.tokenizer,
        vectors=model.vectors,
        from_scratch=model.from_scratch,
        attention=model.attention,
    )


def _described(model: ModelPlan, start: Start) -> str:
    from lmtasks.backbone.family import parse_family
    from lmtasks.data.vocabulary import parse_tokenizer
    from lmtasks.model.closed_form import parse_fitted

    if model.tokenizer is not None and not Path(model.tokenizer).is_dir():
        parse_tokenizer(model.tokenizer)
    if model.vectors is not None and not model.vectors.is_file():
        raise UsageError(f"there is no file {model.vectors} of word vectors.")
    if start.is_fitted:
        parse_fitted(model.backbone)
        return "made new, fitted at once"
    if start.is_family:
        parse_family(model.backbone)
        return "made new"
    folder = _there(model.backbone)
    both = folder is not None and start.attention is None and pretrained_both_ways(folder)
    return f"{_card(model.backbone)}{', pretrained both ways, and so read by heads that do not write' * both}"


def _used_as_it_is(variant: VariantPlan, plan: Plan) -> str:
    from lmtasks.export.package import is_package

    ref = str(variant.model)
    if is_address(ref):
        return "; ".join(probe_server(ref, variant.server or Endpoint(), cache=None).ability_lines())
    try:
        told = _card(ref)
        folder = _there(ref)
        if RUNTIMES[variant.runtime].folders == "onnx" and folder is not None and is_package(folder):
            precision_of(
                folder,
                runtime=variant.runtime,
                device=variant.device,
                precision=variant.precision,
                force=variant.force,
            )
    except UsageError:
        if "/" not in ref and not Path(ref).exists():  # a slip in a name of this plan, most likely
            error = unknown("model", ref, [*plan.models, *shipped_names()], hint="Or give a folder, or a Hub id.")
        raise UsageError(f"variant {variant.name!r} of the plan: {error}") from error
    return told


def _card(ref: str) -> str:
    """What the card of a model says that is there already; it is not fetched."""
    folder = _there(ref)
    if folder is None:
        return "not on this machine yet, not looked at"
    card = card_in(folder)
    return f"{card.family}, {card.kind}, {card.parameters:,} weights, reads {card.max_length_tokens:,} tokens"


def _there(ref: str) -> Path | None:
    try:
        return resolve(ref, offline=True)
    except WorkError:
        return None


def _rows(task: Task, options: CheckOptions, report: Callable[[Progress], None]) -> str:
    check = check_task(task, options=options, report=report)
    if check.problems:
        raise UsageError(f"task {task.name} of the plan: {check.problems[0]}")
    (scored,) = (split for split in check.splits if split.role == "scored")
    if not scored.where:
        return "rows not on this machine, not looked at"
    return f"{scored.rows} rows looked at; columns {', '.join(scored.columns)}"
