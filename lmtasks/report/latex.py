r"""Tables of a report in LaTeX, for a paper: booktabs, everything escaped, the significantly best in bold.

>>> escaped("a_b & 5 %"), escaped("± [−1.0, +2.0]")
('a\\_b \\& 5 \\%', '$\\pm$ [$-$1.0, +2.0]')
"""

import re
from collections.abc import Mapping

from lmtasks.report.table import Line, Table, TableCell
from lmtasks.report.view import Report

SPECIAL: Mapping[str, str] = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
    "±": r"$\pm$",
    "−": "$-$",
    "×": r"$\times$",
    "↓": r"$\downarrow$",
    "–": "--",
    "·": r"$\cdot$",
    "∞": r"$\infty$",
}
HEAD = (
    "% made by lmtasks; needs \\usepackage{booktabs}, and for Chinese \\usepackage{ctex}",
    "% the caption says what intervals are, and what bold is",
)


def render_latex(report: Report) -> str:
    """The quality of all variants, what they are paired with, and who cannot be told apart."""
    tables = [report.quality, *report.paired, *([report.groups] if report.groups else [])]
    return "\n\n".join(["\n".join(HEAD), *map(render_tabular, tables)]) + "\n"


def render_tabular(table: Table) -> str:
    """One table with its caption; notes stand in it."""
    head = [escaped(table.corner), *(_stacked(column.title, column.detail) for column in table.columns)]
    lines: list[str] = []
    for place, line in enumerate(table.lines):
        if line.group and (place == 0 or table.lines[place - 1].group != line.group):
            lines.append(rf"\multicolumn{{{len(head)}}}{{l}}{{\emph{{{escaped(line.group)}}}}} \\")
        lines.append(" & ".join([_name(line), *map(_cell, line.cells)]) + r" \\")
    notes = " ".join(f"$^{{{number}}}$ {escaped(note)}." for number, note in enumerate(table.notes, start=1))
    caption = f"\\caption{{{escaped(table.caption)}{' ' + notes if notes else ''}}}"
    columns = "l" + "r" * len(table.columns)
    body = [
        r"\begin{table}",
        r"\centering",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        " & ".join(head) + r" \\",
        r"\midrule",
        *lines,
        r"\bottomrule",
        r"\end{tabular}",
        caption,
        r"\end{table}",
    ]
    return "\n".join(body)


def escaped(text: str) -> str:
    """Text that LaTeX prints as it is, on one line."""
    plain = " ".join(text.split())
    return re.sub("|".join(map(re.escape, SPECIAL)), lambda found: SPECIAL[found[0]], plain)


def _stacked(title: str, detail: str) -> str:
    return rf"\shortstack[r]{{{escaped(title)} \\ {escaped(detail)}}}" if detail else escaped(title)


def _name(line: Line) -> str:
    return escaped(line.name) + _marks(line.notes)


def _cell(cell: TableCell) -> str:
    text = rf"\textbf{{{escaped(cell.text)}}}" if cell.best else escaped(cell.text)
    return " ".join(filter(None, [text, escaped(cell.detail)])) + _marks(cell.notes)


def _marks(notes: tuple[int, ...]) -> str:
    return f"$^{{{', '.join(map(str, notes))}}}$" if notes else ""
