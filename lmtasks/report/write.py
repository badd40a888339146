"""Puts a report into a folder: index.html, report.md, charts/*.svg."""

import re
from pathlib import Path

from lmtasks.files import write_text
from lmtasks.report.charts import Chart
from lmtasks.report.markdown import render_markdown
from lmtasks.report.page import render_page
from lmtasks.report.records import RunRecords, read_run
from lmtasks.report.view import view


def write_report(run_folder: Path) -> Path:
    """Make the report of a run from its records, in the run folder itself; an older one is replaced.

    Returns:
        The page.

    Raises:
        UsageError: the folder is no run, or a file in it is damaged or foreign.
        WorkError: the folder cannot be written.
    """
    return write_pages(read_run(run_folder), out=run_folder)


def write_pages(run: RunRecords, *, out: Path) -> Path:
    """Write the pages and charts of these records into `out`; returns the page."""
    report = view(run)
    files = chart_files(report.charts)
    for chart, file in zip(report.charts, files, strict=True):
        write_text(out / file, chart.svg)
    write_text(out / "report.md", render_markdown(report, chart_files=files))
    page = out / "index.html"
    write_text(page, render_page(report))
    return page


def chart_files(charts: tuple[Chart, ...]) -> tuple[str, ...]:
    """`charts/<task>.svg`, numbered where two names become one."""
    names: list[str] = []
    for chart in charts:
        name = re.sub(r"[^\w.-]+", "-", chart.task).strip("-.") or "task"
        names.append(name if name not in names else f"{name}-{len(names)}")
    return tuple(f"charts/{name}.svg" for name in names)
