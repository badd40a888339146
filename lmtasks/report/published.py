"""A run's scores beside figures that somebody published: is an implementation right?"""

from lmtasks.report import format as show
from lmtasks.report.grid import Score, main_metric, score
from lmtasks.report.records import RunRecords
from lmtasks.report.table import Column, Line, Table, TableCell
from lmtasks.results.run import PublishedFigure

CAPTION = (
    "Figures that others printed, and what was found here; fractions in points, 0-100. Data, splits and cleaning there "
    "may differ, as each row says."
)


def published_table(run: RunRecords) -> Table | None:
    """None where the plan names no such figure."""
    if not run.published:
        return None
    return Table(
        caption=CAPTION,
        corner="task",
        columns=(
            Column(title="variant"),
            Column(title="here"),
            Column(title="wanted"),
            Column(title="reached"),
            Column(title="published"),
            Column(title="by"),
        ),
        lines=tuple(_line(run, figure) for figure in run.published),
    )


def _line(run: RunRecords, figure: PublishedFigure) -> Line:
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
