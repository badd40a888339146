"""Learning curves: scores over the number of training rows, where the plan of a run asks by rows.

Every other table of such a run is of one number of rows (`RunRecords.at`): values from different ones are never one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import fmean

from lmtasks.records import CLASSICAL_BASELINES
from lmtasks.report import format as show
from lmtasks.report.charts import Chart
from lmtasks.report.grid import Score, baseline_of, main_metric, models, score
from lmtasks.report.plot import PlotPoint, Series, draw_lines
from lmtasks.report.quality import marked
from lmtasks.report.records import RunRecords
from lmtasks.report.table import Column, Line, Notes, Table, TableCell
from lmtasks.results.cell import CellRecord, RowsAsked, TaskInfo, Variant
from lmtasks.results.comparison import PairedRecord

CAPTION = (
    "The main metric by the number of training rows, with its 95 % interval over examples and seeds; fractions in "
    "points, 0-100. The rows of a seed are among the larger numbers of the same seed, each label with its share; "
    "models and rivals learn from the same ones, and all are scored on the same examples. Validation rows, on which "
    "weights and rivals are chosen where there is a choice, come beside them. Marked: better than every other one "
    "with that number of rows by more than chance."
)


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """Score of a variant on a task with one number of training rows."""

    learned: float
    """Rows; the mean over seeds."""
    score: Score


def rows_text(rows: RowsAsked) -> str:
    """A number of training rows for people.

    >>> rows_text(1000), rows_text("all"), rows_text(1)
    ('1,000 rows', 'all rows', '1 row')
    """
    if isinstance(rows, int):
        return f"{show.count(rows)} row{'' if rows == 1 else 's'}"
    return "all rows"


def curves_table(run: RunRecords) -> Table | None:
    """A line a variant under each task, a column a number of rows; None where the plan does not ask by rows."""
    if not run.rows_asked:
        return None
    notes = Notes()
    order = (*models(run), *(variant for variant in run.variants if baseline_of(run, variant)))
    lines: list[Line] = []
    for task in run.tasks:
        metric = main_metric(run, task)
        ahead = {rows: marked(run.at(rows), task, metric) for rows in run.rows_asked}
        for variant in order:
            cells = run.of(variant=variant.name, task=task.name)
            if any(cell.status != "not-applicable" for cell in cells):
                lines.append(
                    Line(
                        name=variant.name,
                        cells=tuple(
                            _cell(cells, metric, rows, notes, best=variant.name in ahead[rows])
                            for rows in run.rows_asked
                        ),
                        group=_title(run, task, metric),
                        quiet=bool(baseline_of(run, variant)),
                    )
                )
    return Table(
        caption=CAPTION,
        corner="variant",
        columns=tuple(Column(title=rows_text(rows)) for rows in run.rows_asked),
        lines=tuple(lines),
        notes=notes.texts,
    )


def curve_sentences(run: RunRecords) -> tuple[str, ...]:
    """Against the best classical rival at each number of rows: on how many tasks each model is ahead, and until how
    many rows. Empty where nothing was paired with one."""
    by_rows = {rows: _against_classical(run.at(rows)) for rows in run.row_counts}
    found: list[str] = []
    for variant in models(run):
        told = []
        for rows in run.row_counts:
            mine = [each for each in by_rows[rows] if each.variant == variant.name]
            if mine:
                ahead, behind = (sum(each.verdict == verdict for each in mine) for verdict in ("better", "worse"))
                tasks = f"{len(mine)} task{'' if len(mine) == 1 else 's'}"
                told.append(f"ahead on {ahead} and behind on {behind} of {tasks} with {rows_text(rows)}")
        if told:
            found.append(f"{variant.name} against the best classical rival, by more than chance: {'; '.join(told)}.")
    return (*found, *_until(run, by_rows)) if found else ()


def learning_curves(run: RunRecords) -> tuple[Chart, ...]:
    """A chart for each task on which a variant was scored with a number of rows."""
    return tuple(chart for task in run.tasks if (chart := _chart(run, task)) is not None)


def points_of(run: RunRecords, *, variant: Variant, task: TaskInfo) -> tuple[CurvePoint, ...]:
    """The curve of a variant, the fewest rows first; empty where rows are of no matter to it."""
    cells, metric = run.of(variant=variant.name, task=task.name), main_metric(run, task)
    found = []
    for rows in run.row_counts:
        mine = [cell for cell in cells if cell.rows is not None and cell.rows.asked == rows]
        value = score(mine, metric)
        if value is not None and isfinite(value.value):
            found.append(CurvePoint(learned=fmean(cell.rows.learned for cell in mine if cell.rows), score=value))
    return tuple(found)


def _title(run: RunRecords, task: TaskInfo, metric: str | None) -> str:
    every = {cell.rows.learned for cell in run.cells if cell.task.name == task.name and cell.rows
             and cell.rows.asked == "all"}  # fmt: skip
    sizes = {cell.scores.n for cell in run.cells if cell.task.name == task.name and cell.status == "done"}
    parts = [task.name, metric or "not scored", f"n {show.count(max(sizes))}" if sizes else ""]
    parts += (
        [f"all rows: {' to '.join(show.count(rows) for rows in sorted({min(every), max(every)}))}"] if every else []
    )
    return " · ".join(filter(None, parts))


def _asked_with(cells: Sequence[CellRecord], rows: RowsAsked) -> list[CellRecord]:
    """Cells of so many rows, and those for which rows are of no matter."""
    return [cell for cell in cells if cell.rows_asked in (rows, None)]


def _cell(cells: Sequence[CellRecord], metric: str | None, rows: RowsAsked, notes: Notes, *, best: bool) -> TableCell:
    mine = _asked_with(cells, rows)
    found = score(mine, metric)
    reasons = [f"failed: {cell.reason}" if cell.status == "failed" else cell.reason for cell in mine if cell.reason]
    if found is None:
        shown = "failed" if any(cell.status == "failed" for cell in mine) else show.MISSING
        return TableCell(text=shown, quiet=True, notes=_marks(notes, reasons))
    told = [*reasons, *([f"mean of {found.seeds} seeds"] if found.seeds > 1 else [])]
    told += ["learns from no rows: the same value for every number"] if all(cell.rows is None for cell in mine) else []
    lacking = max((cell.rows.labels_missing for cell in mine if cell.rows), default=0)
    told += [f"{lacking} labels are without an example among the rows"] if lacking else []
    return TableCell(
        text=show.value(found.value, found.scale),
        detail=show.uncertainty(found.value, found.ci95, found.scale),
        sort=found.value,
        best=best,
        notes=_marks(notes, told),
    )


def _marks(notes: Notes, texts: Sequence[str]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(notes.number(text) for text in texts))


def _against_classical(run: RunRecords) -> list[PairedRecord]:
    """Models against the best classical rival, one a task and model."""
    classical = {cell.variant.name for cell in run.cells if cell.baseline in CLASSICAL_BASELINES}
    return [each for each in run.comparisons if each.relation == "rival" and each.base in classical]


def _until(run: RunRecords, by_rows: dict[RowsAsked, list[PairedRecord]]) -> list[str]:
    """From how many rows on no model is ahead of the best classical rival by more than chance, task by task."""
    places: dict[str, list[str]] = {}
    for task in run.tasks:
        asked = [rows for rows in run.row_counts if any(each.task == task.name for each in by_rows[rows])]
        ahead = [rows for rows in asked if any(e.task == task.name and e.verdict == "better" for e in by_rows[rows])]
        if not asked:
            continue
        behind = asked[asked.index(ahead[-1]) + 1 :] if ahead else asked
        places.setdefault(f"with {rows_text(behind[0])} and more" if behind else "", []).append(task.name)
    ahead_to_the_end = places.pop("", [])
    told = "; ".join(f"{place} on {', '.join(names)}" for place, names in places.items())
    found = [f"No model is ahead of the best classical rival by more than chance {told}."] if told else []
    if ahead_to_the_end:
        found.append(
            "With the most rows that were asked a model is ahead of the best classical rival by more than chance on "
            f"{', '.join(ahead_to_the_end)}."
        )
    return found


def _chart(run: RunRecords, task: TaskInfo) -> Chart | None:
    lines = [(variant, points) for variant in run.variants if (points := points_of(run, variant=variant, task=task))]
    if not lines:
        return None
    metric, first = main_metric(run, task) or "", lines[0][1][0].score
    flat = [
        (variant, value)
        for variant in run.variants
        if not points_of(run, variant=variant, task=task)
        and (value := score(run.of(variant=variant.name, task=task.name), metric)) is not None
    ]
    unit = ", points" if first.scale != "raw" else ""
    told = "; ".join(
        f"{variant.name}: "
        + ", ".join(f"{show.value(p.score.value, p.score.scale)} with {show.count(round(p.learned))}" for p in points)
        for variant, points in lines
    )
    return Chart(
        task=f"curve {task.name}",
        about=f"{task.name}, {metric} by the number of training rows. {told}.",
        svg=draw_lines(
            [
                Series(
                    name=variant.name,
                    points=[_plotted(variant, point) for point in points],
                    is_main=not baseline_of(run, variant),
                    variant=variant.name,
                )
                for variant, points in lines
            ],
            levels=[(variant.name, show.in_points(value.value, value.scale)) for variant, value in flat],
            title=task.name,
            x_title="training rows",
            x_ticks=sorted({point.learned for _, points in lines for point in points}),
            y_title=f"{metric}{unit}{'' if first.higher_is_better else ' (lower is better)'}",
            width=420,
            height=280,
        ),
    )


def _plotted(variant: Variant, point: CurvePoint) -> PlotPoint:
    value, scale = point.score.value, point.score.scale
    low, high = point.score.ci95 or (value, value)
    return PlotPoint(
        x=point.learned,
        y=show.in_points(value, scale),
        low=show.in_points(low, scale),
        high=show.in_points(high, scale),
        said=f"{variant.name}: {show.value(value, scale)} with {show.count(round(point.learned))} rows",
    )
