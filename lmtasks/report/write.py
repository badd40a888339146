"""Report pages of a run: index.html, report.md, results.csv, decision.json and charts/*.svg in a folder.

index.html is one file that needs no network, readable on a phone, on paper, in light and in dark. report.md says the
same for a code host; its tables are aligned as text, a Chinese character counts as two.

>>> print(aligned([["task", "acc"], ["情感", "90.1"]]))
| task |  acc |
| :--- | ---: |
| 情感 | 90.1 |
"""

import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from csv import writer
from hashlib import sha256
from io import StringIO
from itertools import groupby, islice
from pathlib import Path
from typing import cast

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from lmtasks.files import write_text
from lmtasks.report.charts import Chart, inline
from lmtasks.report.chinese import chinese, translated
from lmtasks.report.plot import reworded
from lmtasks.report.records import RunRecords, read_run
from lmtasks.report.samples import as_json, read_samples
from lmtasks.report.table import Line, Table, TableCell
from lmtasks.report.view import Report, view
from lmtasks.scripts import text_width
from lmtasks.settings.evaluation import PageLanguage

SPECIAL = re.compile(r"([\\`*\[\]<>|#]|(?<!\w)_|_(?!\w))")
"""An underline inside a word is one."""
BY_HAND = "One cell of each variant by hand; cells/*.json have the commands of all of them."
CSV_COLUMNS = (
    *(
        "variant",
        "task",
        "rows_asked",
        "rows_learned",
        "seed",
        "status",
        "metric",
        "scale",
        "value",
        "low",
        "high",
        "n",
    ),
    "reason",
)
WRITTEN = frozenset({"title", "question", "about", "command", "by_hand", "plan_text", "svg", "task", "shown_samples"})
"""Fields of a report that have no other language: what people or machines wrote."""
HERE = Path(__file__).parent
TEMPLATE = "page.html.j2"
TABLE = "table.html.j2"
INDEX = "index.html.j2"
DECISION = "decision.json"
SCRIPT, SAMPLES_SCRIPT = "page.js", "samples.js"
"""Together the only script that a page may run, the second where it shows samples; its content policy has the hash."""
SAMPLES_WORDS = (
    *("right answer", "no class", "all variants", "without it:"),
    *("points of probability that the answer has by a word", "words that have another tag without a word"),
)
"""Words that the second one writes."""
WITH_WORDS = "words"
KINDS_OF_SAMPLES = (
    ("differ", "variants differ"),
    ("fail", "all fail"),
    ("pair", "A and B answer differently"),
    ("wins", "A is better than B"),
    ("losses", "B is better than A"),
    (WITH_WORDS, "with the words that moved an answer"),
    ("all", "all that are shown"),
)


def write_report(run_folder: Path, *, language: PageLanguage = "en") -> Path:
    """Make the report of a run from its records, in the run folder itself; an older one is replaced.

    Returns:
        The page.

    Raises:
        UsageError: the folder is no run, or a file in it is damaged or foreign.
        WorkError: the folder cannot be written.
    """
    return write_pages(read_run(run_folder), out=run_folder, language=language)


def write_pages(run: RunRecords, *, out: Path, language: PageLanguage = "en") -> Path:
    """Write the pages and charts of these records into `out`; returns the page."""
    report = view(run, samples=read_samples(run, out=out))
    report.decision.write(out / DECISION)
    charts = report.all_charts
    files = chart_files(charts)
    words = _Words(language)
    for chart, file in zip(charts, files, strict=True):
        write_text(out / file, reworded(chart.svg, lambda text: escape(words.word(text))))
    write_text(out / "results.csv", cells_csv(run))
    write_text(out / "report.md", render_markdown(report, chart_files=files, language=language))
    page = out / "index.html"
    write_text(page, render_page(report, language=language))
    return page


def chart_files(charts: tuple[Chart, ...]) -> tuple[str, ...]:
    """`charts/<task>.svg`, numbered where two names become one."""
    names: list[str] = []
    for chart in charts:
        name = re.sub(r"[^\w.-]+", "-", chart.task).strip("-.") or "task"
        names.append(name if name not in names else f"{name}-{len(names)}")
    return tuple(f"charts/{name}.svg" for name in names)


def render_markdown(report: Report, *, chart_files: Sequence[str], language: PageLanguage = "en") -> str:
    """The report as Markdown.

    Args:
        chart_files: where each chart lies, relative to the report.
    """
    say: Callable[[str], str] = chinese if language == "zh" else str
    if language == "zh":
        report = cast(Report, translated(report, kept=WRITTEN))
    pictures = iter(_picture(chart, file) for chart, file in zip(report.all_charts, chart_files, strict=True))
    trivial_answers = [f"- {_escaped(sentence)}" for sentence in report.against_trivial]
    blocks: list[str | None] = [
        f"# {_escaped(report.title)}",
        _escaped(report.question),
        _escaped(report.about),
        f"*{_escaped(' · '.join(report.scope))}*",
        _decision(report),
        _table(report.by_task),
        "\n".join(f"**{_escaped(sentence)}**" for sentence in report.troubles),
        "## By the number of labelled rows" if report.curves else None,
        _table(report.curves),
        *islice(pictures, len(report.curve_charts)),
        "## Quality",
        _escaped(report.reading),
        _table(report.quality),
        "## Beside what was published" if report.published else None,
        _table(report.published),
        "## Paired by example" if report.paired else None,
        *(_table(table) for table in report.paired),
        "## Who cannot be told apart" if report.groups else None,
        _table(report.groups),
        "## Against the trivial answer",
        "\n".join(trivial_answers),
        "## Every metric" if report.metrics else None,
        *(_table(table) for table in report.metrics),
        "## Label by label" if report.labels else None,
        *(_table(table) for table in report.labels),
        "## Samples" if report.samples else None,
        _table(report.samples),
        *islice(pictures, len(report.calibration_charts)),
        "## Settings chosen on validation rows" if report.settings else None,
        *(_table(table) for table in report.settings),
        *islice(pictures, len(report.settings_charts)),
        "## Training" if report.trainings or report.training_charts else None,
        _table(report.trainings),
        "\n".join(f"- {_escaped(sentence)}" for sentence in report.overfitting),
        *islice(pictures, len(report.training_charts)),
        "## Speed" if report.variants else None,
        _table(report.variants),
        _table(report.timings),
        "## Under a load" if report.loads else None,
        _table(report.loads),
        "## The largest rate" if report.rates else None,
        _table(report.rates),
        "## What answers cost" if report.costs else None,
        _table(report.costs),
        "## By batch size and length" if report.sweeps else None,
        _table(report.sweeps),
        *islice(pictures, len(report.speed_charts)),
        "## What production needs" if report.required else None,
        _table(report.required),
        "## Quality against speed" if report.charts else None,
        *islice(pictures, len(report.charts)),
        "## Proofs of export" if report.proofs else None,
        _table(report.proofs),
        "## What rounding costs" if report.gates else None,
        _table(report.gates),
        "## The machine",
        _facts(report.machine),
        "## Conditions",
        _table(report.conditions),
        _facts(report.versions),
        "## How to repeat it" if report.command or report.by_hand or report.plan_text else None,
        _code(report.command, "sh") if report.command else None,
        f"{say(BY_HAND)}\n\n{_code(chr(10).join(report.by_hand), 'sh')}" if report.by_hand else None,
        _code(report.plan_text, "yaml") if report.plan_text else None,
    ]
    titled = (f"## {say(block.removeprefix('## '))}" if block.startswith("## ") else block for block in blocks if block)
    return "\n\n".join(titled) + "\n"


def cells_csv(run: RunRecords) -> str:
    """Every metric of every cell as a line for spreadsheets: values as the metric counts, unrounded."""
    text = StringIO()
    lines = writer(text, lineterminator="\n")
    lines.writerow(CSV_COLUMNS)
    for cell in run.cells:
        learned = "" if cell.rows is None else cell.rows.learned
        start = (cell.variant.name, cell.task.name, cell.rows_asked or "", learned, cell.seed, cell.status)
        for name, estimate in cell.metrics.items():
            low, high = estimate.ci95 or ("", "")
            lines.writerow((*start, name, estimate.scale, estimate.value, low, high, cell.scores.n, ""))
        if not cell.metrics:
            lines.writerow((*start, "", "", "", "", "", "", cell.reason))
    return text.getvalue()


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows as a Markdown table, the first one its head: first column left, the others right."""
    widths = [max(3, *(text_width(row[place]) for row in rows)) for place in range(len(rows[0]))]
    rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [[_padded(text, widths[place], place) for place, text in enumerate(row)] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:]))


class _Words:
    """The words of a page in its language; those that have the other one, too, are marked for the switch."""

    def __init__(self, language: PageLanguage) -> None:
        self.language = language
        self._places: dict[str, int] = {}

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """English and Chinese of every word that was asked for, by its number."""
        return [(text, chinese(text)) for text in self._places]

    def word(self, text: str) -> str:
        """In the page's language, for attributes and options."""
        if chinese(text) == text:
            return text
        self._places.setdefault(text, len(self._places))
        return chinese(text) if self.language == "zh" else text

    def marked(self, text: str, element: str = "<span data-t={}>{}</span>") -> Markup:
        """In the page's language, in an element with its number."""
        shown = self.word(text)
        if text not in self._places:
            return escape(text)
        return Markup(element).format(self._places[text], shown)


def render_page(report: Report, *, language: PageLanguage = "en") -> str:
    """The page, with a switch to the other language. Every name and text from records is escaped."""
    words = _Words(language)
    environment = _environment()
    environment.filters["t"], environment.filters["word"] = words.marked, words.word
    environment.filters["inline"] = lambda chart: Markup(
        reworded(inline(chart), lambda text: words.marked(text, "<tspan data-t={}>{}</tspan>"))
    )
    scripts = [SCRIPT]
    if report.samples is not None:
        scripts.append(SAMPLES_SCRIPT)
        for said in SAMPLES_WORDS:
            words.word(said)
    has_words = any("words" in row for each in report.shown_samples for row in each.shown["rows"])
    script = "\n".join((HERE / name).read_text(encoding="utf-8") for name in scripts)
    return environment.get_template(TEMPLATE).render(
        report=report,
        by_hand=BY_HAND,
        language=language,
        pairs=lambda: Markup(as_json(words.pairs)),
        kinds_of_samples=[each for each in KINDS_OF_SAMPLES if has_words or each[0] != WITH_WORDS],
        sample_data=Markup(as_json([each.shown for each in report.shown_samples])),
        script=Markup(script),
        script_hash=_content_hash(script),
    )


def render_index(runs: Sequence[object]) -> str:
    """The index of published runs, each with `name`, `question`, `answer` and `picture`."""
    return _environment().get_template(INDEX).render(runs=runs)


def render_table(table: Table) -> str:
    """One table as HTML, as the page has it; every text is escaped."""
    macros = _environment().get_template(TABLE).make_module()
    return str(macros.table(table))  # type: ignore[attr-defined]  # a macro is an attribute of its template


def notes_title(number: int) -> str:
    """The line that stands for so many notes.

    >>> notes_title(1), notes_title(62)
    ('1 note', '62 notes')
    """
    return f"{number} note{'' if number == 1 else 's'}"


def render_verdict(report: Report) -> str:
    """The decision alone as Markdown, for a pull request: a title, the answer, facts, who is best on each task."""
    blocks: list[str | None] = [
        f"### {_escaped(report.title)}",
        f"*{_escaped(' · '.join(report.scope))}*",
        _decision(report),
        "\n".join(f"**{_escaped(sentence)}**" for sentence in report.troubles),
        _table(report.by_task),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _decision(report: Report) -> str:
    """The box: sentences, then facts as a list."""
    lines = [line for sentence in report.answer for line in (_escaped(sentence), "")]
    for fact in report.facts:
        if len(fact.lines) == 1:
            lines.append(f"- **{_escaped(fact.label)}**: {_escaped(fact.lines[0])}")
        else:
            lines += [f"- **{_escaped(fact.label)}**", *(f"  - {_escaped(line)}" for line in fact.lines)]
    return "\n".join(f"> {line}".rstrip() for line in lines).removesuffix("\n>")


def _table(table: Table | None) -> str | None:
    if table is None:
        return None
    head = [
        _escaped(table.corner),
        *(" ".join(map(_escaped, filter(None, [c.title, c.detail]))) for c in table.columns),
    ]
    rows: list[list[str]] = [head]
    for group, lines in groupby(table.lines, key=lambda line: line.group):
        if group:
            rows.append([f"*{_escaped(group)}*", *[""] * len(table.columns)])
        rows += [[_name(line), *(_cell(cell) for cell in line.cells)] for line in lines]
    notes = "  \n".join(f"<sup>{number}</sup> {_escaped(note)}" for number, note in enumerate(table.notes, start=1))
    return "\n\n".join(filter(None, [_escaped(table.caption), aligned(rows), notes]))


def _name(line: Line) -> str:
    detail = f" ({_escaped(line.detail)})" if line.detail else ""
    return f"{_escaped(line.name)}{_marks(line.notes)}{detail}"


def _cell(cell: TableCell) -> str:
    text = f"**{_escaped(cell.text)}**" if cell.best else _escaped(cell.text)
    return " ".join(filter(None, [text, _escaped(cell.detail)])) + _marks(cell.notes)


def _marks(notes: Sequence[int]) -> str:
    return f"<sup>{', '.join(map(str, notes))}</sup>" if notes else ""


def _picture(chart: Chart, file: str) -> str:
    return f"![{_escaped(chart.about)}]({file})"


def _facts(pairs: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"- {_escaped(name)}: {_escaped(value)}" for name, value in pairs)


def _code(text: str, language: str) -> str:
    """A block with more back-ticks around it than stand in it."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def _escaped(text: str) -> str:
    """On one line, with what Markdown or HTML would read as more than text taken out of force."""
    return SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _padded(text: str, width: int, place: int) -> str:
    blanks = " " * (width - text_width(text))
    return text + blanks if place == 0 else blanks + text


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["groups"] = _groups
    environment.filters["t"] = environment.filters["word"] = str
    environment.globals["notes_title"] = notes_title
    return environment


def _content_hash(text: str) -> str:
    """As a Content-Security-Policy names a script (CSP level 3, section 2.3.1)."""
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"


def _groups(lines: Sequence[Line]) -> Iterator[tuple[str, list[Line]]]:
    """Neighbours of one group together."""
    for group, members in groupby(lines, key=lambda line: line.group):
        yield group, list(members)
