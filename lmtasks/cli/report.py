"""`lmtasks report`: pages rebuilt from stored records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lmtasks.settings.evaluation import Publish


def command(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs, or published ones.")],
    publish: Publish = False,
) -> None:
    """Rebuild the pages of runs from their records; nothing is scored or timed."""
    from lmtasks.files import locked
    from lmtasks.report.publish import publish as publish_run
    from lmtasks.report.write import write_report

    for run in runs:
        with locked(run):
            page = write_report(run)
        print(f"The report is {page} (and {run / 'report.md'}).")
        if publish:
            print(f"Published: {publish_run(run, reports=Path('reports'))}")
