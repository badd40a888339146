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
from lmtasks.errors import GateError, UsageError, WorkError
from lmtasks.settings.base import Setting
from lmtasks.settings.data import DataAccess, DropUnlabelled, IncludePath, TrustCode
from lmtasks.settings.evaluation import Cache, Limit, NoSamples, Out, PagesIn, Publish, Track
from lmtasks.settings.runs_on import ManyMachines, Threads

if TYPE_CHECKING:
    from lmtasks.run.parts import RunPart
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
    models: Annotated[
        str,
        Setting(
            "Train and export this part of the plan's models, 2/4 is the second of four, and nothing else; slurm: the "
            "part that an array job's SLURM_ARRAY_TASK_ID names.",
            metavar="I/N",
        ),
    ] = "",
    cells: Annotated[
        str,
        Setting(
            "Score this part of the cells whose models are there, aside; the same command without --cells takes all "
            "parts in.",
            metavar="I/N",
        ),
    ] = "",
    print_sbatch: Annotated[
        bool, Setting("Print a script that submits the run to SLURM as arrays of jobs, and do nothing.")
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
    from lmtasks.run.parts import parse_part, sbatch_script
    from lmtasks.run.plan import find_plan, load_plan
    from lmtasks.run.run_plan import planned_parts, run_part, run_plan
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
    index, words = default_index(include=include_path), shlex.split(typed_command())
    options = RunOptions(
        data=data_options(access),
        threads=threads,
        on=on,
        samples=not no_samples,
        cache=cache_file(cache),
        command=shlex.join(_without(words, "", ("--models", "--cells"))),
        only=[name.strip() for name in only.split(",") if name.strip()],
    )
    part = parse_part(models=models, cells=cells)
    if on and (part is not None or print_sbatch):
        raise UsageError("--on carries out a whole run; leave it out of parts and of --print-sbatch.")
    if print_sbatch:
        if part is not None:
            raise UsageError("--print-sbatch divides the whole run; leave out --models and --cells.")
        most = planned_parts(loaded, index=index, out=folder, options=options, trust_code=trust_code)
        print(
            sbatch_script(
                loaded,
                command=_without(words, "--print-sbatch", ("--out", "--threads")),
                out=folder,
                threads=threads or 1,
                models=most[0],
                cells=most[1],
            ),
            end="",
        )
        return
    if part is not None:
        with progress_bars() as report:
            ran = run_part(
                loaded,
                part,
                plan_file=file,
                index=index,
                out=folder,
                options=options,
                report=report,
                trust_code=trust_code,
            )
        _tell_part(ran, part)
        return
    with progress_bars() as report:
        ran = run_plan(
            loaded,
            plan_file=file,
            index=index,
            out=folder,
            options=options,
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


def _tell_part(ran: Ran, part: RunPart) -> None:
    """How a part of a run ended.

    Raises:
        WorkError: a model or a cell failed.
    """
    made = "models" if part.step == "models" else f"{ran.done} cells scored, {ran.found} found from before"
    which = f"part {part.shard.index} of {part.shard.count}"
    print(f"{made}: {which}, {len(ran.failed)} failed, in {ran.seconds / 60:.1f} min.")
    print("Next, when all parts are there: the same command without --models and --cells.")
    tell(lambda: {"folder": str(ran.folder), "cells": {"scored": ran.done, "found": ran.found, "failed": ran.failed}})
    if ran.failed:
        more = f" (and {len(ran.failed) - 1} more)" if len(ran.failed) > 1 else ""
        raise WorkError(f"{ran.failed[0]}{more}; the last command of the run tries it once more.")


def _without(words: Sequence[str], flag: str, options: Sequence[str]) -> list[str]:
    """A command line without a flag, and without these options and their values."""
    kept: list[str] = []
    waiting = iter(words)
    for word in waiting:
        if word in options:
            next(waiting, None)
        elif word != flag and not any(word.startswith(f"{option}=") for option in options):
            kept.append(word)
    return kept


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
