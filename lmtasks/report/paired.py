"""The table of paired comparisons: how far each variant is from the first that has a task, on the same examples."""

from lmtasks.metric.family import SURE
from lmtasks.report import format as show
from lmtasks.report.paired_records import PairedRecord
from lmtasks.report.records import RunRecords
from lmtasks.report.table import Cell, Column, Line, Notes, Table


def paired_table(run: RunRecords) -> Table | None:
    """One line a task, one column a variant; None where nothing was compared."""
    if run.paired is None or not run.paired.comparisons:
        return None
    comparisons = run.paired.comparisons
    found = {(each.task, each.variant): each for each in comparisons}
    variants = list(dict.fromkeys(each.variant for each in comparisons))
    first = {each.task: each for each in reversed(comparisons)}
    bases = {each.base for each in comparisons}
    notes = Notes()
    lines = tuple(
        Line(
            name=task.name,
            detail=first[task.name].metric + (f", minus {first[task.name].base}" if len(bases) > 1 else ""),
            cells=tuple(_cell(found.get((task.name, variant)), notes) for variant in variants),
        )
        for task in run.tasks
        if task.name in first
    )
    count = len(comparisons)
    base = "the first one that has the task" if len(bases) > 1 else next(iter(bases))
    return Table(
        caption=f"Each variant minus {base} on the main metric, paired by example, with its 95 % interval; "
        f"fractions in points, 0-100. better, worse: p < {SURE} by Holm's procedure over all {count} comparisons.",
        corner="task",
        columns=tuple(Column(title=variant) for variant in variants),
        lines=lines,
        notes=notes.texts,
    )


def _cell(record: PairedRecord | None, notes: Notes) -> Cell:
    if record is None:
        return Cell(text=show.MISSING, quiet=True)
    interval = "" if record.ci95 is None else f"[{show.difference(record.ci95[0])}, {show.difference(record.ci95[1])}]"
    shown = "" if record.verdict == "open" else record.verdict
    marks: tuple[int, ...] = ()
    if record.detectable is not None and not shown:
        unit = "" if record.scale == "raw" else " points"
        few = f"{record.task}: {show.count(record.n)} examples would hardly show less than "
        marks = (notes.number(f"{few}{show.value(record.detectable, 'points')}{unit}"),)
    return Cell(
        text=show.difference(record.difference),
        detail=" · ".join(filter(None, [interval, shown])),
        sort=record.difference,
        notes=marks,
    )
