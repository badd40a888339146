"""`lmtasks report`: pages made from stored records."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmtasks.cli.output import tell
from lmtasks.errors import UsageError
from lmtasks.settings.base import Setting
from lmtasks.settings.evaluation import PagesIn, Publish

if TYPE_CHECKING:
    from lmtasks.workflow.report import MadeReport


def command(
    runs: Annotated[
        list[Path], typer.Argument(metavar="FOLDER...", help="Runs, published ones, or results of lmtasks eval.")
    ],
    out: Annotated[
        Path | None, Setting("Of results: the folder of the one page for all of them.", metavar="FOLDER")
    ] = None,
    publish: Publish = False,
    markdown: Annotated[bool, Setting("Print the decision alone, as Markdown for a pull request.")] = False,
    latex: Annotated[
        bool, Setting("Print quality, paired differences and groups as LaTeX tables (booktabs), for a paper.")
    ] = False,
    every_eval_ever: Annotated[
        Path | None,
        Setting(
            "Also write records of Every Eval Ever (evalevalai.com), one a variant, below this folder.",
            metavar="FOLDER",
        ),
    ] = None,
    hub_results: Annotated[
        Path | None,
        Setting(
            "Also write .eval_results of the Hugging Face Hub for each variant below this folder, of tasks whose data "
            "set is the Hub's.",
            metavar="FOLDER",
        ),
    ] = None,
    page_language: PagesIn = "en",
) -> None:
    """Make pages from stored records: of each run its own, of results one; nothing is scored or timed."""
    from lmtasks.workflow.report import ReportRequest, make_reports

    if markdown and latex:
        raise UsageError("--markdown and --latex print one thing each; give one of them.")
    request = ReportRequest(
        folders=runs,
        out=out,
        publish=Path("reports") if publish else None,
        every_eval_ever=every_eval_ever,
        hub_results=hub_results,
        language=page_language,
    )
    for made in make_reports(request):
        if markdown or latex:
            print(_document(made, latex=latex), end="")
        else:
            _say(made)


def _document(made: MadeReport, *, latex: bool) -> str:
    from lmtasks.report.latex import render_latex
    from lmtasks.report.view import view
    from lmtasks.report.write import render_verdict

    report = view(made.records)
    return render_latex(report) if latex else render_verdict(report)


def _say(made: MadeReport) -> None:
    """The decision, and where everything is."""
    from lmtasks.report.decision import decide, decision_lines

    decision = decide(made.records)
    for line in decision_lines(decision):
        print(line)
    print(f"The report is {made.page} (and {made.page.with_name('report.md')}).")
    if made.published is not None:
        print(f"Published: {made.published}")
    for file in made.files:
        print(f"Written: {file}")
    for sentence in made.left_out:
        print(f"Left out: {sentence}")
    tell(
        lambda: {
            "decision": decision.said,
            "folder": str(made.page.parent),
            "files": (str(made.page), str(made.page.with_name("decision.json")), *map(str, made.files)),
        }
    )
