"""The commands that repeat one cell of a run by hand: the same rows, seed and settings, in a folder beside.

lmtasks adapt --tasks trec --backbone lmtasks-mini --epochs 4 --rows 64 --seed 1 --out runs/by-hand/mini-r64-s1
lmtasks eval --model runs/by-hand/mini-r64-s1 --tasks trec --seed 1
"""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from pydantic.fields import FieldInfo

from lmtasks.files import slug
from lmtasks.run.folder import Cell
from lmtasks.run.plan import ModelPlan, Plan
from lmtasks.settings.base import Setting, Settings
from lmtasks.settings.data import DataAccess
from lmtasks.settings.endpoint import is_address
from lmtasks.settings.runtimes import MADE_FOR, package_label, runs_packages
from lmtasks.settings.training import BackboneChoice

PLACE = PurePosixPath("runs/by-hand")


def cell_commands(
    cell: Cell,
    *,
    plan: Plan,
    rows: int | None,
    tasks: Sequence[str],
    chosen: Mapping[str, object],
    data: DataAccess,
) -> tuple[str, ...]:
    """The commands of a cell, in order.

    Args:
        rows: training rows at most, of a model of the plan or of baselines; None: all.
        tasks: that a model of the plan is trained on.
        chosen: settings of its training that a sweep has chosen.
        data: how the run reads its rows.
    """
    mirror = [] if data.data_root is None else ["--data-root", str(data.data_root)]
    mirror += ["--drop-unlabelled"] if data.drop_unlabelled else []
    variant, seed = cell.variant, cell.trial.seed
    scored = ["--tasks", cell.task.name, *mirror]
    scored += ["--limit", str(plan.limit)] if plan.limit is not None else []
    scored += ["--sample", str(plan.sample)] if plan.sample is not None else []
    if variant.answers:
        options = ["--answers", f"{variant.name}={variant.answers}", *scored]
        options += [] if variant.answers_id is None else ["--answers-id", variant.answers_id]
        options += [] if variant.allow_missing is None else ["--allow-missing", f"{variant.allow_missing:g}%"]
        drawn = plan.seeds[0] if plan.sample is not None else seed
        return (shlex.join(["lmtasks", "eval", *options, "--seed", str(drawn)]),)
    if variant.baseline:
        models = [word for name in variant.baseline for word in ("--model", name)]
        few = [] if rows is None else ["--rows", str(rows)]
        return (shlex.join(["lmtasks", "eval", *models, *scored, *few, "--seed", str(seed)]),)
    model, commands = str(variant.model), list[str]()
    made = plan.models.get(model)
    if made is not None:
        name = model if made.together else f"{model} {cell.task.name}"
        model = str(PLACE / f"{slug(name)}-{cell.trial.suffix}")
        few = [] if rows is None else ["--rows", str(rows)]
        options = [
            "--tasks",
            ",".join(tasks),
            *_options(made, chosen),
            *few,
            "--seed",
            str(seed),
            *mirror,
            "--out",
            model,
        ]
        commands.append(shlex.join(["lmtasks", "adapt", *options]))
    if runs_packages(variant.runtime) and made is not None:
        package = f"{model}-{package_label(variant.runtime, variant.precision)}"
        drop = (
            []
            if variant.max_drop is None
            else ["--max-drop", f"{variant.max_drop:g}", "--tasks", cell.task.name, *mirror]
        )
        runtime = [] if variant.runtime == MADE_FOR else ["--runtime", variant.runtime]
        force = ["--force"] if variant.force else []
        options = ["--model", model, "--precision", variant.precision, *runtime, *force, *drop, "--out", package]
        commands.append(shlex.join(["lmtasks", "export", *options]))
        model = package
    elif is_address(model):
        scored += _given(variant.server, variant.server.model_fields_set) if variant.server is not None else ()
    else:
        scored += ["--runtime", variant.runtime]
        scored += ["--precision", variant.precision] if variant.precision != "fp32" else []
    scored += ["--force"] if variant.force else []
    scored += ["--num-fewshot", str(variant.num_fewshot)] if variant.num_fewshot else []
    written = ",".join(f"{name}={value}" for name, value in variant.generation_kwargs.items())
    scored += ["--gen-kwargs", written] if written else []
    # A model's seed draws nothing where it is scored, but the rows of a sample.
    drawn = plan.seeds[0] if plan.sample is not None else seed
    return (*commands, shlex.join(["lmtasks", "eval", "--model", model, *scored, "--seed", str(drawn)]))


def _options(made: ModelPlan, chosen: Mapping[str, object]) -> list[str]:
    start = [
        word
        for name, field in BackboneChoice.model_fields.items()
        if name in made.model_fields_set
        for word in _option(name, field, getattr(made, name))
    ]
    method = ["--method", made.adaptation] if made.adaptation != "full" else []
    training = made.training.but(chosen)
    words = [*start, *method, *_given(training, made.training.model_fields_set | set(chosen))]
    for prefix, settings in (("lora-", made.lora), ("probe-", made.probe)):
        words += _given(settings, settings.model_fields_set, prefix=prefix) if settings is not None else ()
    return words


def _given(settings: Settings, names: set[str], *, prefix: str = "") -> Iterator[str]:
    for name, field in type(settings).model_fields.items():
        if name in names and name != "rows":
            yield from _option(name, field, getattr(settings, name), prefix=prefix)


def _option(name: str, field: FieldInfo, value: object, *, prefix: str = "") -> Sequence[str]:
    """The words of one option; none for what is off."""
    own = next((each.option for each in field.metadata if isinstance(each, Setting) and each.option), "")
    option = own or f"--{prefix}{name.replace('_', '-')}"
    if value is None or value is False:
        return ()
    shown = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return (option,) if value is True else (option, shown)
