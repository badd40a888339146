"""`lmtasks merge`: the scores of shards that were evaluated apart."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lmtasks.cli.eval import tell_scores
from lmtasks.settings.base import Setting
from lmtasks.settings.data import IncludePath, TaskList, TrustCode
from lmtasks.settings.evaluation import PagesIn


def command(
    shards: Annotated[
        list[Path],
        typer.Argument(metavar="FOLDER...", help="The --out of `lmtasks eval --shard`, or shards from several places."),
    ],
    out: Annotated[
        Path | None, Setting("Where results go; default: the one folder that is given.", metavar="FOLDER")
    ] = None,
    overwrite: Annotated[bool, Setting("Replace results of something else that stand in --out; else refused.")] = False,
    tasks: TaskList = "",
    include_path: IncludePath = (),
    trust_code: TrustCode = False,
    page_language: PagesIn = "en",
) -> None:
    """Merge shards that `lmtasks eval --shard` wrote: the scores of all rows, as one process makes them.

    Tasks are only needed where a metric is code of its task file.
    """
    from lmtasks.workflow.merge import MergeRequest, merge_results

    merged = merge_results(
        MergeRequest(
            folders=shards,
            tasks=tasks,
            include=include_path,
            trust_code=trust_code,
            out=out,
            overwrite=overwrite,
        )
    )
    tell_scores(merged, page_language=page_language)
