"""`lmtasks run`: a plan carried out, and its report."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmtasks.cli.output import scores_of, tell, typed_command
from lmtasks.cli.progress import progress_bars
from lmtasks.cli.values import data_options
from lmtasks.errors import GateError, WorkError
from lmtasks.settings.base import Setting
from lmtasks.settings.data import DataAccess, DropUnlabelled, IncludePath, TrustCode
from lmtasks.settings.evaluation import Cache, Limit, NoSamples, Out, PagesIn, Publish, Track
from lmtasks.settings.runs_on import ManyMachines, Threads

if TYPE_CHECKING:
    from lmtasks.run.plan import Plan
    from lmtasks.run.run_plan import Ran


def command(
    *,
    plan: Annotated[str, typer.Argument(metavar="PLAN", help="A plan's file, or the name of a shipped plan.")],
    include_path: IncludePath = (),
    out: Out = None,
    publish: Publish = False,
    page_language: PagesIn = "en",
    only: Annotated[str, Setting("Carry out these variants now, comma separated.", metavar="NAMES")] = "",
    dry_run: Annotated[
        bool, Setting("Say what would be done, and how much of it is there already, and do nothing.")
    ] = False,
    limit: Limit = None,
    on: ManyMachines = "",
    threads: Threads = None,
    drop_unlabelled: DropUnlabelled = False,
    access: DataAccess,
    trust_code: TrustCode = False,
    no_samples: NoSamples = False,
    cache: Cache = None,
    track: Track = None,
) -> None:
    """Carry out a benchmark plan; a run that was stopped goes on where it was.

    Where the plan requires something (`bench: {require: ...}`) that no variant fulfils, it ends with exit code 3.
    """
    from lmtasks.report.publish import publish as publish_run
    from lmtasks.report.write import write_report
    from lmtasks.run.plan import find_plan, load_plan
    from lmtasks.run.run_plan import run_plan
    from lmtasks.run.runner import RunOptions
    from lmtasks.task.index import default_index
    from lmtasks.workflow.open_model import cache_file
    from lmtasks.workflow.track import check_tracker, track_run

    check_tracker(track)
    file = find_plan(plan)
    loaded = load_plan(file)
    if limit is not None:
        loaded = loaded.model_copy(update={"limit": limit})
    folder = out or Path("runs") / loaded.plan
    if dry_run:
        _say(file, loaded, folder=folder, include_path=include_path, access=access, trust_code=trust_code)
        return
    with progress_bars() as report:
        ran = run_plan(
            loaded,
            plan_file=file,
            index=default_index(include=include_path),
            out=folder,
            options=RunOptions(
                data=data_options(access),
                threads=threads,
                on=on,
                samples=not no_samples,
                cache=cache_file(cache),
                command=typed_command(),
                only=[name.strip() for name in only.split(",") if name.strip()],
            ),
            report=report,
            trust_code=trust_code,
        )
    page = write_report(folder, language=page_language)
    if track is not None:
        track_run(track, folder)
    published = publish_run(folder, reports=Path("reports"), language=page_language) if publish else None
    tell_run(ran, page=page, published=published)
    if not publish:
        print(f"Next: open it, or publish it with `lmtasks run {shlex.quote(plan)} --publish`.")


def tell_run(ran: Ran, *, page: Path, published: Path | None = None) -> None:
    """The decision, how many cells there are, and where the page is.

    Raises:
        WorkError: a cell failed.
        GateError: no variant fulfils what the plan requires.
    """
    from lmtasks.report.decision import decide, decision_lines
    from lmtasks.report.records import read_run

    records = read_run(ran.folder)
    decision = decide(records)
    for line in decision_lines(decision):
        print(line)
    tell(
        lambda: {
            "decision": decision.said,
            "folder": str(ran.folder),
            "files": (str(page),),
            "cells": {
                "scored": ran.done,
                "found": ran.found,
                "not_applicable": ran.not_applicable,
                "failed": ran.failed,
            },
            "scores": [
                line
                for cell in records.cells
                if cell.status == "done"
                for line in scores_of(cell.variant.name, cell.task.name, cell.scores.n, cell.metrics)
            ],
        }
    )
    print(
        f"\n{ran.done} cells scored, {ran.found} found from before, {ran.not_applicable} not applicable, "
        f"{len(ran.failed)} failed, in {ran.seconds / 60:.1f} min."
    )
    print(f"The report is {page} (and {page.with_name('report.md')}).")
    if published is not None:
        print(f"Published: {published}")
    if ran.failed:
        more = f" (and {len(ran.failed) - 1} more)" if len(ran.failed) > 1 else ""
        raise WorkError(f"{ran.failed[0]}{more}; the same command again tries what failed once more.")
    if ran.missed:
        raise GateError(ran.missed)


def _say(
    file: Path, plan: Plan, *, folder: Path, include_path: Sequence[Path], access: DataAccess, trust_code: bool
) -> None:
    """Say what a run would do.

    Raises:
        UsageError: what it would fail over.
    """
    from lmtasks.cli.validate_output import print_plan
    from lmtasks.run.run_plan import cells_there
    from lmtasks.task.index import default_index
    from lmtasks.workflow.split_check import CheckOptions

    index, options = default_index(include=include_path), CheckOptions(data=data_options(access))
    with progress_bars() as report:
        wrong = print_plan(str(file), index=index, trust_code=trust_code, options=options, report=report)
    tasks = index.find(",".join(plan.tasks), trust_code=trust_code)
    print(f"  {cells_there(plan, tasks=tasks, out=folder)} of them are in {folder} already")
    if wrong is not None:
        raise wrong
