"""`lmtasks try`: one's own data to a decision, without a plan."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

from lmtasks.cli.output import typed_command
from lmtasks.cli.progress import progress_bars
from lmtasks.cli.signature import Without
from lmtasks.cli.values import data_options
from lmtasks.settings.base import Setting
from lmtasks.settings.bounds import POSITIVE
from lmtasks.settings.data import DataAccess, TaskChoice
from lmtasks.settings.evaluation import Cache, Out, PagesBesideData, Seed, Track
from lmtasks.settings.models import Models
from lmtasks.settings.runs_on import Threads

if TYPE_CHECKING:
    from lmtasks.run.try_data import DataPlan


def command(
    *,
    choice: Annotated[TaskChoice, Without("tasks", "include_path")],
    model: Models = (),
    minutes: Annotated[
        float,
        POSITIVE,
        Setting("Time for all of it, about; trainings keep to their share of it.", metavar="NUMBER", unit="minutes"),
    ] = 10.0,
    threads: Threads = None,
    seed: Seed = 1234,
    out: Out = None,
    cache: Cache = None,
    page_language: PagesBesideData = "en",
    track: Track = None,
    access: DataAccess,
) -> None:
    """Answer which model to take for your data: looks at it, writes a plan, carries it out; no plan is needed.

    The shipped backbone and every --model learn from four fifths of the rows, beside the rivals, and are scored on the
    rest; the best one on validation rows is exported to int8, and timed. The same command again goes on where it
    stopped.
    """
    from lmtasks.cli.run import tell_run
    from lmtasks.run.try_data import TryRequest, try_data
    from lmtasks.workflow.choose_tasks import TaskRequest
    from lmtasks.workflow.open_model import cache_file
    from lmtasks.workflow.track import check_tracker, track_run

    check_tracker(track)

    request = TryRequest(
        tasks=TaskRequest.of(choice),
        models=model,
        minutes=minutes,
        data=data_options(access).but({"drop_unlabelled": choice.drop_unlabelled}),
        threads=threads,
        seed=seed,
        cache=cache_file(cache),
        out=out,
        command=typed_command(),
        page_language=page_language,
    )
    with progress_bars() as report:
        tried = try_data(request, report=report, on_plan=_say)
    if track is not None:
        track_run(track, tried.folder)
    tell_run(tried.ran, page=tried.page)
    again = shlex.join(["lmtasks", "run", str(tried.plan), "--out", str(tried.folder)])
    print(f"Next: open it; or edit {tried.plan}, then {again}")


def _say(made: DataPlan) -> None:
    """What was found, before minutes of work."""
    for sentence in made.found:
        print(sentence)
    for note in made.notes:
        print(f"Mind: {note}")
    print(f"\n{made.plan}{'' if made.is_new else ' (from before)'}:\n")
    print("\n".join(f"    {line}" for line in made.text.splitlines()))
    print(flush=True)
