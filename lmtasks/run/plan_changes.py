"""A plan that was mended after its run began: what the change is about is set aside, everything else is kept.

A model depends on its own lines (and on the plan's tasks, where it names none), a cell on its variant's and its model's
lines, on `limit`, and on its task, seed and number of rows being asked still; timings on `bench` too. The question,
published figures and requirements are about no result. What is set aside lies in `before-1/`, `before-2/`, ... of the
run's folder.
"""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from lmtasks.errors import UsageError
from lmtasks.files import slug
from lmtasks.results.run import RunRecord
from lmtasks.run.folder import RunFolder, cell_id, claim, held_plan
from lmtasks.run.plan import Plan, VariantPlan
from lmtasks.run.trials import trials_of
from lmtasks.run.variants import gate_name, tasks_of
from lmtasks.settings.base import RENAMED
from lmtasks.task.task import Task

NOT_OF_ALL_CELLS = frozenset(
    {
        *("plan", "question", "about", "tasks", "models", "variants", "seeds", "rows", "bench", "published", "margin"),
        *("reference", "explain"),
    }
)
"""Keys of a plan that are about no cell, or about some; any other (`limit`, say) is about all."""

NOT_TIMED = {"require", "price", "price_hour"}
"""Keys of `bench` that are about what is made of timings."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SetAside:
    """Pieces that a change of the plan set aside."""

    models: int
    """Models and packages."""
    cells: int
    speeds: int
    kept: int
    """Cells that stay."""
    place: str
    """The folder, inside the run's, that all of it lies in now."""

    def __str__(self) -> str:
        if not self.models + self.cells + self.speeds:
            return f"the plan was changed since; all {self.kept} cells stay, since the change is about none of them"
        what = f"{self.cells} cells, {self.speeds} timings, {self.models} models and packages"
        return (
            f"the plan was changed since; what that is about lies in {self.place}/ now ({what}), {self.kept} cells stay"
        )


def take_over(folder: RunFolder, plan: Plan, *, tasks: Sequence[Task], plan_file: Path, header: RunRecord) -> None:
    """Make the folder this plan's, or find that it already is; of an earlier form of the plan, what still holds stays.

    Raises:
        UsageError: the folder holds the run of another plan, or one that this version cannot read.
        WorkError: it cannot be written.
    """
    found = held_plan(folder)
    if found is not None:
        content, held_hash = found
        if held_hash == plan.hash:
            return
        other = f"{folder.root} holds a run of plan {content.get('plan')!r}"
        if content.get("plan") != plan.plan:
            raise UsageError(f"{other}, and this one is {plan.plan!r}; give another --out, or delete the folder.")
        try:
            held = Plan.model_validate(_with_new_names(content))
        except ValidationError as error:
            raise UsageError(f"{other} as another version wrote it; give another --out.") from error
        log.warning("%s", set_aside(folder, held=held, plan=plan, tasks=tasks))  # before the folder says otherwise
    claim(folder, plan, plan_file=plan_file, header=header)


def _with_new_names(content: Mapping[str, object]) -> Mapping[str, object]:
    """A plan as it was written, with settings of its models by the names that they have now."""
    models = content.get("models")
    if not isinstance(models, Mapping):
        return content
    return {**content, "models": {name: _renamed(model) for name, model in models.items()}}


def _renamed(model: object) -> object:
    if not isinstance(model, Mapping):
        return model
    kept = {name: value for name, value in model.items() if name not in RENAMED}
    return {**kept, **{RENAMED[name][0]: RENAMED[name][1] for name in RENAMED if model.get(name)}}


def set_aside(folder: RunFolder, *, held: Plan, plan: Plan, tasks: Sequence[Task]) -> SetAside:
    """Move away what the plan that the folder holds made, and the changed plan would make otherwise, or not at all.

    Args:
        tasks: of the changed plan.
    """
    models = {name for name in {*held.models, *plan.models} if _model_changed(name, held, plan)}
    same = [variant for variant in plan.variants if not _variant_changed(variant, held, plan, models)]
    kept_cells = {
        cell_id(variant=variant.name, task=task.name, trial=trial)
        for variant in same
        for task in tasks_of(variant, tasks)
        for trial in trials_of(plan, variant)
    }
    kept_speeds = {slug(variant.name) for variant in same if _timed_alike(variant, held, plan)}
    cells = [file for file in (folder.root / "cells").glob("*.json") if file.stem not in kept_cells]
    samples = [file for file in (folder.root / "samples").glob("*.jsonl") if file.stem not in kept_cells]
    words = [file for file in (folder.root / "words").glob("*.json") if file.stem not in kept_cells]
    speeds = [file for file in (folder.root / "speed").glob("*.json") if file.stem not in kept_speeds]
    made = [*_made(folder, models), *_packages(folder, held, plan), *_sweeps(folder, held, plan, models)]
    place = _place(folder)
    for item in (*cells, *samples, *words, *speeds, *made):
        target = place / item.relative_to(folder.root)
        target.parent.mkdir(parents=True, exist_ok=True)
        item.rename(target)
    return SetAside(
        models=len(made),
        cells=len(cells),
        speeds=len(speeds),
        kept=len(list((folder.root / "cells").glob("*.json"))),
        place=place.name,
    )


def _model_changed(name: str, held: Plan, plan: Plan) -> bool:
    before, now = held.models.get(name), plan.models.get(name)
    if before is None or now is None:
        return before is not now
    return before.model_dump() != now.model_dump() or (not now.tasks and held.tasks != plan.tasks)


def _variant_changed(variant: VariantPlan, held: Plan, plan: Plan, models: set[str]) -> bool:
    """Would its cells be others? How many threads answer, and whether that is timed, is no matter."""
    before = next((each for each in held.variants if each.name == variant.name), None)
    if before is None or variant.model in models:
        return True
    if held.model_dump(exclude=set(NOT_OF_ALL_CELLS)) != plan.model_dump(exclude=set(NOT_OF_ALL_CELLS)):
        return True
    beside = {"threads", "seeds", "timed"}
    unlike = before.model_dump(exclude=beside) != variant.model_dump(exclude=beside)
    return unlike or (_measured_on_tasks(variant) and held.tasks != plan.tasks)


def _measured_on_tasks(variant: VariantPlan) -> bool:
    """Is its package made by looking at all tasks of the plan?"""
    return variant.precision == "int8-static" or (variant.max_drop is not None and not variant.tasks)


def _timed_alike(variant: VariantPlan, held: Plan, plan: Plan) -> bool:
    before = next(each for each in held.variants if each.name == variant.name)
    if held.bench is None or plan.bench is None or before.threads != variant.threads or not variant.timed:
        return False
    all_tasks = not (variant.tasks or plan.bench.tasks)
    return (
        held.bench.model_dump(exclude=NOT_TIMED) == plan.bench.model_dump(exclude=NOT_TIMED)
        and held.seeds_of(before)[0] == plan.seeds_of(variant)[0]
        and held.rows == plan.rows
        and not (all_tasks and held.tasks != plan.tasks)
    )


def _made(folder: RunFolder, models: set[str]) -> Iterator[Path]:
    """The folders of these models, of their packages, and of trainings of them that were cut short."""
    for name in sorted(models):
        own = re.compile(rf"{re.escape(slug(name))}(--.+)?(-r(\d+|all))?-s\d+([.-].*)?")
        for place in ("models", "packages"):
            yield from (item for item in sorted((folder.root / place).glob("*")) if own.fullmatch(item.name))


def _sweeps(folder: RunFolder, held: Plan, plan: Plan, models: set[str]) -> Iterator[Path]:
    """Sweeps of changed models, but for those whose sweep alone is another: their points are what they were."""
    for name in sorted(models):
        before, now = held.models.get(name), plan.models.get(name)
        if before is not None and now is not None:
            alike = before.model_dump(exclude={"sweep"}) == now.model_dump(exclude={"sweep"})
            if alike and (now.tasks or held.tasks == plan.tasks):
                continue
        own = re.compile(rf"{re.escape(slug(name))}(--.+)?(-r(\d+|all))?(\.json)?")
        yield from (item for item in sorted((folder.root / "sweeps").glob("*")) if own.fullmatch(item.name))


def _packages(folder: RunFolder, held: Plan, plan: Plan) -> Iterator[Path]:
    """Packages that were made by looking at the plan's tasks, of models that stay."""
    if held.tasks == plan.tasks:
        return
    for variant in plan.variants:
        if variant.model and _measured_on_tasks(variant) and not _model_changed(variant.model, held, plan):
            for trial in trials_of(plan, variant):
                gate = gate_name(variant)
                package = folder.package(
                    variant.model, trial=trial, precision=variant.precision, runtime=variant.runtime, gate=gate
                )
                if package.is_dir():
                    yield package


def _place(folder: RunFolder) -> Path:
    number = 1
    while (place := folder.root / f"before-{number}").exists():
        number += 1
    return place
