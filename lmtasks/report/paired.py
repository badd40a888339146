"""Tables of comparisons: each variant against another one, on the same examples, and scores beside figures that others
published."""

from collections.abc import Mapping

from lmtasks.metric.paired import SURE
from lmtasks.report import format as show
from lmtasks.report.grid import Score, main_metric, score
from lmtasks.report.records import RunRecords
from lmtasks.report.table import Column, Line, Notes, Table, TableCell, readable
from lmtasks.results.comparison import PairedRecord
from lmtasks.results.run import PublishedFigure

PUBLISHED_CAPTION = (
    "Figures that others printed, and what was found here; fractions in points, 0-100. Data, splits and cleaning there "
    "may differ, as each row says."
)
RELATIONS: Mapping[str, tuple[str, str]] = {
    "parent": ("Each exported variant", "the one that it was exported from"),
    "rival": ("Each model", "the best rivals: the best trivial answer, and the best that learns from the same rows"),
    "clean": ("Each variant on changed rows", "itself on the rows as they are"),
    "best": ("Each variant", "the best that was scored, rivals among them"),
    "first": ("Each model", "the reference, or the first one that has the task"),
}
"""In the order of the page: who is compared, and with whom."""


def paired_tables(run: RunRecords) -> tuple[Table, ...]:
    """A table for each relation that was compared."""
    return tuple(table for relation in RELATIONS if (table := _table(run, relation)) is not None)


def published_table(run: RunRecords) -> Table | None:
    """None where the plan names no such figure."""
    if not run.published:
        return None
    return Table(
        caption=PUBLISHED_CAPTION,
        corner="task",
        columns=(
            Column(title="variant"),
            Column(title="here"),
            Column(title="wanted"),
            Column(title="reached"),
            Column(title="published"),
            Column(title="by"),
        ),
        lines=tuple(_figure_line(run, figure) for figure in run.published),
    )


def _table(run: RunRecords, relation: str) -> Table | None:
    """One line a task and base, one column a variant; None where nothing was compared."""
    comparisons = [each for each in run.comparisons if each.relation == relation]
    if not comparisons:
        return None
    if relation == "clean":  # the base of each is itself, which makes no line of its own
        comparisons = [each.model_copy(update={"base": RELATIONS[relation][1]}) for each in comparisons]
    found = {(each.task, each.base, each.variant): each for each in comparisons}
    variants = list(dict.fromkeys(each.variant for each in comparisons))
    metrics = {each.task: each.metric for each in comparisons}
    rows = list(dict.fromkeys((each.task, each.base) for task in run.tasks for each in comparisons
                              if each.task == task.name))  # fmt: skip
    bases = {each.base for each in comparisons}
    notes = Notes()
    lines = tuple(
        Line(
            name=task,
            detail=metrics[task] + (f", minus {base}" if len(bases) > 1 else ""),
            cells=tuple(_cell(found.get((task, base, variant)), notes) for variant in variants),
        )
        for task, base in rows
    )
    seeds = max(each.seeds for each in comparisons)
    over = f", over examples and {seeds} seeds" if seeds > 1 else ""
    who, general = RELATIONS[relation]
    base = general if len(bases) > 1 else next(iter(bases))
    table = Table(
        caption=f"{who} minus {base} on the main metric, paired by example, with its 95 % interval{over}; "
        f"fractions in points, 0-100. better, worse: p < {SURE} by Holm's procedure over all {len(comparisons)} of "
        "the table.",
        corner="task",
        columns=tuple(Column(title=variant) for variant in variants),
        lines=lines,
        notes=notes.texts,
    )
    return readable(table, value="difference", by_column=False, corner="variant")


def _cell(record: PairedRecord | None, notes: Notes) -> TableCell:
    if record is None:
        return TableCell(text=show.MISSING, quiet=True)
    ends = (show.difference(end, record.scale) for end in record.ci95 or ())
    interval = f"[{', '.join(ends)}]" if record.ci95 is not None else ""
    shown = "" if record.verdict == "open" else record.verdict
    marks: tuple[int, ...] = ()
    if record.detectable is not None and not shown:
        unit = "" if record.scale == "raw" else " points"
        few = f"{record.task}: {show.count(record.n)} examples would hardly show less than "
        marks = (notes.number(f"{few}{show.value(record.detectable, 'points')}{unit}"),)
    return TableCell(
        text=show.difference(record.difference, record.scale),
        detail=" · ".join(filter(None, [interval, shown])),
        sort=record.difference,
        notes=marks,
    )


def _figure_line(run: RunRecords, figure: PublishedFigure) -> Line:
    task = next((task for task in run.tasks if task.name == figure.task), None)
    metric = figure.metric or (main_metric(run, task) if task else None) or ""
    wanted = figure.value if figure.wanted is None else figure.wanted
    found = score(run.of(variant=figure.variant, task=figure.task), metric)
    return Line(
        name=figure.task,
        detail=metric,
        cells=(
            TableCell(text=figure.variant),
            _here(found),
            TableCell(text=f"{wanted:g}", sort=wanted),
            TableCell(text=_reached(found, wanted)),
            TableCell(text=f"{figure.value:g}", sort=figure.value),
            TableCell(text=figure.by),
        ),
    )


def _here(found: Score | None) -> TableCell:
    if found is None:
        return TableCell(text="not run", quiet=True)
    seeds = f"{found.seeds} seeds" if found.seeds > 1 else ""
    detail = " · ".join(filter(None, [show.uncertainty(found.value, found.ci95, found.scale), seeds]))
    return TableCell(text=show.value(found.value, found.scale), detail=detail, sort=found.value)


def _reached(found: Score | None, wanted: float) -> str:
    """By the value itself, unrounded: the interval stands beside it."""
    if found is None:
        return show.MISSING
    ours = show.in_points(found.value, found.scale)
    return "yes" if (ours >= wanted if found.higher_is_better else ours <= wanted) else "no"
