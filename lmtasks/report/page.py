"""index.html: one file that needs no network, readable on a phone, on paper, in light and in dark."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from lmtasks.report.charts import Chart, inline
from lmtasks.report.table import Line
from lmtasks.report.view import Report

TEMPLATE = "page.html.j2"


def render_page(report: Report) -> str:
    """The page. Every name and text from records is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["groups"] = _groups
    environment.filters["inline"] = _inline
    return environment.get_template(TEMPLATE).render(report=report)


def _groups(lines: Sequence[Line]) -> Iterator[tuple[str, list[Line]]]:
    """Neighbours of one group together."""
    for group, members in groupby(lines, key=lambda line: line.group):
        yield group, list(members)


def _inline(chart: Chart) -> Markup:
    return Markup(inline(chart))  # drawn by vl-convert, which escapes the texts in it
