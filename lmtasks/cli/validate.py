"""`lmtasks validate`: checks task files and plans, and says what each would do. Nothing is written."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmtasks.cli.progress import progress_bars
from lmtasks.cli.validate_output import metric_names, print_group, print_plan, print_task
from lmtasks.cli.values import data_options, open_options
from lmtasks.errors import LmtasksError, UsageError
from lmtasks.settings.base import Setting
from lmtasks.settings.bounds import COUNT_OR_NONE
from lmtasks.settings.data import DataAccess, DropUnlabelled, IncludePath, TrustCode
from lmtasks.settings.evaluation import Limit, NumFewshot, Seed
from lmtasks.settings.models import BatchSize, LabelMap
from lmtasks.settings.runs_on import RunsOn

if TYPE_CHECKING:
    from lmtasks.evaluation.engine_solver import EngineSolver
    from lmtasks.task.groups import Group
    from lmtasks.task.index import TaskIndex
    from lmtasks.task.task import Task
    from lmtasks.workflow.split_check import CheckOptions


def command(
    *,
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="Task files and plans; names and globs of shipped ones do as well."),
    ],
    model: Annotated[
        str | None, Setting("Count tokens and estimate the time as for this model.", metavar="MODEL")
    ] = None,
    include_path: IncludePath = (),
    show: Annotated[
        int, COUNT_OR_NONE, Setting("So many rows of a task are shown as they are asked.", metavar="NUMBER")
    ] = 1,
    on: RunsOn,
    batch_size: BatchSize = "auto",
    label_map: LabelMap = "",
    num_fewshot: NumFewshot = None,
    limit: Limit = None,
    seed: Seed = 1234,
    drop_unlabelled: DropUnlabelled = False,
    access: DataAccess,
    trust_code: TrustCode = False,
) -> None:
    """Check task files and plans, and say what each would do."""
    from lmtasks.task.index import default_index
    from lmtasks.workflow.split_check import CheckOptions
    from lmtasks.workflow.validate import opened_solver

    opening = open_options(on, batch_size=batch_size, label_map=label_map)
    wanted = CheckOptions(
        data=data_options(access),
        limit=limit,
        num_fewshot=num_fewshot,
        seed=seed,
        show=show,
    )
    index = default_index(include=include_path)
    things = [thing for file in files for thing in _things(file, index=index, trust_code=trust_code)]
    with opened_solver(model, opening, offline=access.offline, token=access.token) as asked:
        wrong = [each for thing in things if (each := _carry_out(thing, wanted, asked, first=thing is things[0]))]
    if len(things) == 1 and wrong:
        raise wrong[0]
    for error in wrong:
        print(f"lmtasks: {error}", file=sys.stderr)
    if wrong:
        looked_at = sum(thing.group is None for thing in things)
        raise UsageError(f"{len(wrong)} of {looked_at} tasks and plans are wrong.")


@dataclass(frozen=True, kw_only=True)
class _Thing:
    """A task, a group or a plan, or why there is none."""

    task: Task | None = None
    group: Group | None = None
    plan: str = ""
    index: TaskIndex | None = None
    """Where a plan's tasks are found."""
    error: LmtasksError | None = None
    trust_code: bool = False


def _things(ref: str, *, index: TaskIndex, trust_code: bool) -> Sequence[_Thing]:
    try:
        if _is_plan(ref, index=index):
            return [_Thing(plan=ref, index=index, trust_code=trust_code)]
        groups = [_Thing(group=group) for group in index.find_groups(ref)]
        return [*groups, *(_Thing(task=task) for task in index.find(ref, trust_code=trust_code))]
    except LmtasksError as error:
        return [_Thing(error=error)]


def _is_plan(ref: str, *, index: TaskIndex) -> bool:
    """A plan says so in its first level; a name that is a shipped plan's and no task's is one too."""
    from lmtasks.run.plan import shipped_plans
    from lmtasks.task.yaml_file import read_task_yaml

    if Path(ref).is_file():
        return bool({"plan", "variants"} & set(read_task_yaml(Path(ref)).keys))
    return ref in shipped_plans() and ref not in index.names()


def _carry_out(thing: _Thing, wanted: CheckOptions, asked: EngineSolver | None, *, first: bool) -> LmtasksError | None:
    """Check one and print what was found; returns what is wrong with it."""
    try:
        if thing.error is not None:
            return thing.error
        if not first:
            print()
        if thing.group is not None:
            print_group(thing.group)
            return None
        if thing.index is not None:
            with progress_bars() as report:
                return print_plan(
                    thing.plan, index=thing.index, trust_code=thing.trust_code, options=wanted, report=report
                )
        return None if thing.task is None else _check(thing.task, wanted, asked)
    except LmtasksError as error:
        return error


def _check(task: Task, wanted: CheckOptions, asked: EngineSolver | None) -> LmtasksError | None:
    from lmtasks.workflow.validate import check_task

    metrics = metric_names(task)  # an unknown one is said before any row is read
    with progress_bars() as report:
        check = check_task(
            task,
            options=wanted,
            report=report,
            solver=asked,
        )
    print_task(check, metrics=metrics, engine=asked.engine if asked else None)
    return UsageError(check.problems[0]) if check.problems else None
