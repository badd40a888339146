"""Quality gates that packages of a run have passed: one row a task, what rounding cost and how sure that is."""

from lmtasks.report import format as show
from lmtasks.report.fields import Fields
from lmtasks.report.records import RunRecords
from lmtasks.report.table import Column, Line, Table, TableCell

CAPTION = (
    "What rounding cost on validation rows, which nothing here is scored on, of the package paired with the same in "
    "fp32; packages that lost more than was allowed were not kept. Where the layers that rounding hurt most stayed in "
    "fp32 for that, the package's line says how many. An interval that reaches beyond what was allowed leaves open "
    "whether more is lost; so many examples would tell."
)


def gates_table(run: RunRecords) -> Table | None:
    """None where no package carries a gate's record.

    Raises:
        UsageError: a record is damaged (named).
    """
    lines = [line for name, gate in run.gates.items() for line in _lines(name, gate)]
    if not lines:
        return None
    return Table(
        caption=CAPTION,
        corner="task",
        columns=(
            Column(title="metric"),
            Column(title="n"),
            Column(title="fp32"),
            Column(title="rounded"),
            Column(title="drop", detail="95 % interval"),
            Column(title="a larger drop"),
        ),
        lines=tuple(lines),
    )


def _lines(name: str, gate: Fields) -> list[Line]:
    kept = list(gate.each("kept"))
    group = f"{name} · allowed: a drop of {gate.number('most'):g}"
    if kept:
        part = show.share(gate.number("kept_share"))
        group += f" · in fp32 stay {len(kept)} of {int(gate.number('layers'))} layers, {part} of the weights"
    return [_line(task, group) for task in gate.each("tasks")]


def _line(task: Fields, group: str) -> Line:
    interval, needed = task.interval("ci95"), task.optional_number("needed")
    drop, unit = task.number("drop"), "%" if task.text("unit") == "%" else ""
    ends = "" if interval is None else f" ({interval[0]:.2f} to {interval[1]:.2f})"
    sure = "excluded" if task.flag("excluded") else "open"
    if needed is not None:
        sure += f"; {show.count(int(needed))} examples would tell"
    return Line(
        name=task.text("task"),
        group=group,
        cells=(
            TableCell(text=task.text("metric")),
            TableCell(text=show.count(int(task.number("n"))), sort=task.number("n")),
            TableCell(text=f"{task.number('base'):.4f}", sort=task.number("base")),
            TableCell(text=f"{task.number('found'):.4f}", sort=task.number("found")),
            TableCell(text=f"{drop:.2f}{unit}{ends}", sort=drop),
            TableCell(text=sure),
        ),
    )
