"""`lmtasks report`: pages made from stored records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lmtasks.settings.base import Setting
from lmtasks.settings.evaluation import Publish


def command(
    runs: Annotated[
        list[Path], typer.Argument(metavar="FOLDER...", help="Runs, published ones, or results of lmtasks eval.")
    ],
    out: Annotated[
        Path | None, Setting("Of results: the folder of the one page for all of them.", metavar="FOLDER")
    ] = None,
    publish: Publish = False,
) -> None:
    """Make pages from stored records: of each run its own, of results one; nothing is scored or timed."""
    from lmtasks.workflow.report import ReportRequest, make_reports

    request = ReportRequest(folders=runs, out=out, publish=Path("reports") if publish else None)
    for made in make_reports(request):
        print(f"The report is {made.page} (and {made.page.with_name('report.md')}).")
        if made.published is not None:
            print(f"Published: {made.published}")
