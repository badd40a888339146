"""index.html: one file that needs no network, readable on a phone, on paper, in light and in dark."""

from base64 import b64encode
from collections.abc import Iterator, Sequence
from hashlib import sha256
from itertools import groupby
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from lmtasks.report.charts import Chart, inline
from lmtasks.report.table import Line, Table
from lmtasks.report.view import Report

HERE = Path(__file__).parent
TEMPLATE = "page.html.j2"
TABLE = "table.html.j2"
SCRIPT = "page.js"
"""The only script that the page may run: its content policy names the hash."""


def render_page(report: Report) -> str:
    """The page. Every name and text from records is escaped."""
    script = (HERE / SCRIPT).read_text(encoding="utf-8")
    return (
        _environment()
        .get_template(TEMPLATE)
        .render(report=report, script=Markup(script), script_hash=_content_hash(script))
    )


def render_table(table: Table) -> str:
    """One table as HTML, as the page has it; every text is escaped."""
    macros = _environment().get_template(TABLE).make_module()
    return str(macros.table(table))  # type: ignore[attr-defined]  # a macro is an attribute of its template


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["groups"] = _groups
    environment.filters["inline"] = _inline
    return environment


def _content_hash(text: str) -> str:
    """As a Content-Security-Policy names a script (CSP level 3, section 2.3.1)."""
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"


def _groups(lines: Sequence[Line]) -> Iterator[tuple[str, list[Line]]]:
    """Neighbours of one group together."""
    for group, members in groupby(lines, key=lambda line: line.group):
        yield group, list(members)


def _inline(chart: Chart) -> Markup:
    return Markup(inline(chart))  # drawn by vl-convert, which escapes the texts in it
