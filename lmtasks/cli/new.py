"""`lmtasks new`: a task file or a plan to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lmtasks.cli.signature import Without
from lmtasks.cli.values import data_options
from lmtasks.errors import UsageError, unknown
from lmtasks.settings.base import Setting
from lmtasks.settings.data import DataAccess, TaskChoice
from lmtasks.settings.models import Models

WHAT = ("task", "plan")


def command(
    *,
    what: Annotated[str, typer.Argument(metavar="WHAT", help="task or plan.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is to be called.")],
    choice: Annotated[TaskChoice, Without("name", "include_path", "drop_unlabelled")],
    model: Models = (),
    out: Annotated[
        Path | None,
        Setting("Of a task: a new folder, default NAME; of a plan: a file, default NAME.yaml.", metavar="PLACE"),
    ] = None,
    access: DataAccess,
) -> None:
    """Write a task file over your data, or a plan over tasks, with a word beside every key."""
    from lmtasks.workflow.choose_tasks import TaskRequest
    from lmtasks.workflow.new_files import new_plan, new_task

    if what not in WHAT:
        raise unknown("new", what, WHAT)
    if what == "task":
        if choice.tasks or model:
            raise UsageError("new task looks at --data; --tasks and --model are for new plan.")
        made = new_task(name, TaskRequest.of(choice), out=out or Path(name), data=data_options(access))
        told = ", ".join(f"{count:,} {split} rows" for split, count in made.rows.items())
        print(f"{made.file} is a task over {told}.")
        if made.labels:
            print(f"Labels: {', '.join(f'{label} ({count:,})' for label, count in made.labels.items())}.")
        for note in made.notes:
            print(f"Mind: {note}")
        print(f"Next: lmtasks new plan {name}-plan --tasks {made.file}")
        return
    if not choice.tasks or choice.data is not None:
        raise UsageError("new plan takes --tasks (names or files); `lmtasks new task NAME --data FILE` makes one.")
    file = new_plan(name, choice.tasks, models=model, out=out or Path(f"{name}.yaml"))
    print(f"{file} is a plan.")
    print(f"Next: lmtasks validate {file}, then lmtasks run {file}")
