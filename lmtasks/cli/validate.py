"""`lmtasks validate`: checks task files and plans, and says what each would do. Nothing is written."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmtasks.cli import options
from lmtasks.cli.progress import progress_bars
from lmtasks.cli.validate_output import metric_names, print_group, print_plan, print_task
from lmtasks.cli.values import data_options, label_names
from lmtasks.errors import LmtasksError, UsageError

if TYPE_CHECKING:
    from lmtasks.evaluation.engine_solver import EngineSolver
    from lmtasks.task.groups import Group
    from lmtasks.task.index import TaskIndex
    from lmtasks.task.task import Task
    from lmtasks.workflow.split_check import CheckOptions


def command(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="Task files and plans; names and globs of shipped ones do as well."),
    ],
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="MODEL", help="Count tokens and estimate the time as for this model."),
    ] = None,
    include_path: options.IncludePath = options.NO_PATHS,
    show: Annotated[
        int,
        typer.Option(
            "--show",
            metavar="NUMBER",
            parser=options.whole("--show", at_least=0),
            help="So many rows of a task are shown as they are asked.",
        ),
    ] = 1,
    runtime: options.Runtime = None,
    device: options.Device = "cpu",
    precision: options.Precision = None,
    threads: options.Threads = None,
    batch_size: options.BatchSize = "auto",
    label_map: options.LabelMap = "",
    num_fewshot: options.NumFewshot = None,
    limit: options.Limit = None,
    seed: options.Seed = 1234,
    data_root: options.DataRoot = None,
    offline: options.Offline = False,
    token: options.Token = None,
    trust_code: options.TrustCode = False,
) -> None:
    """Check task files and plans, and say what each would do."""
    from lmtasks.task.index import default_index
    from lmtasks.workflow.choose_models import OpenOptions
    from lmtasks.workflow.split_check import CheckOptions
    from lmtasks.workflow.validate import opened_solver

    opening = OpenOptions(
        runtime=runtime,
        device=device,
        precision=precision,
        threads=threads,
        rows_per_batch=options.batch_rows(batch_size),
        label_names=label_names(label_map),
    )
    wanted = CheckOptions(
        data=data_options(data_root=data_root, offline=offline, token=token),
        limit=limit,
        num_fewshot=num_fewshot,
        seed=seed,
        show=show,
    )
    index = default_index(include=include_path)
    things = [thing for file in files for thing in _things(file, index=index, trust_code=trust_code)]
    with opened_solver(model, opening, offline=offline, token=token) as asked:
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
