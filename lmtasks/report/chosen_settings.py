"""Settings of trainings that a plan has chosen on validation rows: every point with its score, and the chosen one."""

from collections.abc import Mapping, Sequence
from itertools import product
from math import isfinite
from statistics import fmean, stdev

from lmtasks.report import format as show
from lmtasks.report.charts import Chart
from lmtasks.report.curves import rows_text
from lmtasks.report.plot import PlotPoint, Series, draw_lines
from lmtasks.report.records import RunRecords
from lmtasks.report.table import Column, Line, Notes, Table, TableCell
from lmtasks.results.sweep import SweepPoint, SweepRecord


def settings_tables(run: RunRecords) -> tuple[Table, ...]:
    """A table a model: a line each point, a column each choice."""
    models = dict.fromkeys(record.model for record in run.sweeps)
    return tuple(_table(model, [each for each in run.sweeps if each.model == model]) for model in models)


def settings_charts(run: RunRecords) -> tuple[Chart, ...]:
    """A chart a choice with at least one setting of numbers."""
    return tuple(chart for record in run.sweeps if (chart := _chart(record)) is not None)


def settings_sentences(run: RunRecords) -> tuple[str, ...]:
    """Sweeps that ended before all of their points."""
    return tuple(
        f"The settings of {_name(record)} were chosen among what {record.budget_minutes:g} minutes allowed: "
        f"{_finished(record)} of {len(_settings(record)) * len(record.seeds)} trainings."
        for record in run.sweeps
        if record.out_of_budget and record.budget_minutes is not None
    )


def _table(model: str, records: Sequence[SweepRecord]) -> Table:
    notes = Notes()
    points = list({_key(each): each for record in records for each in _settings(record)}.values())
    names = list(dict.fromkeys(name for point in points for name in point))
    columns = [
        Column(title=_where(record) or "score", detail=f"{show.duration(sum(each.seconds for each in record.points))}")
        for record in records
    ]
    lines = tuple(
        Line(
            name=", ".join(f"{name} {_value(point[name])}" for name in names if name in point),
            cells=tuple(_cell(record, point, notes) for record in records),
        )
        for point in points
    )
    return Table(
        caption=f"{model}: the score on validation rows (0-100, mean over its tasks, of the weights that were kept); "
        "the mean over seeds ± its standard deviation. The chosen settings are marked; scored rows had no part in it.",
        corner="settings",
        columns=tuple(columns),
        lines=lines,
        notes=notes.texts,
    )


def _cell(record: SweepRecord, point: Mapping[str, object], notes: Notes) -> TableCell:
    mine = _of(record, point)
    scores = [each.score for each in mine if each.score is not None]
    marks = [notes.number(f"{each.status}: {each.reason}") for each in mine if each.reason]
    if len(scores) < len(record.seeds) and scores:
        marks.append(notes.number(f"{len(scores)} of {len(record.seeds)} seeds"))
    if not scores:
        return TableCell(text=mine[0].status if mine else show.MISSING, quiet=True, notes=_once(marks))
    spread = f"±{show.value(stdev(scores), 'fraction')}" if len(scores) > 1 else ""
    return TableCell(
        text=show.value(fmean(scores), "fraction"),
        detail=spread,
        sort=fmean(scores),
        best=dict(record.chosen) == dict(point),
        notes=_once(marks),
    )


def _once(marks: Sequence[int]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(marks))


def _chart(record: SweepRecord) -> Chart | None:
    """Scores over the setting of numbers with most values; a line for each value of the others."""
    settings = _settings(record)
    numbers = [
        name
        for name in settings[0]
        if all(isinstance(each[name], int | float) and not isinstance(each[name], bool) for each in settings)
        and len({each[name] for each in settings}) > 1
    ]
    scored = [each for each in settings if any(point.score is not None for point in _of(record, each))]
    if not numbers or not scored:
        return None
    axis = max(numbers, key=lambda name: len({each[name] for each in settings}))
    rows = [
        {
            "x": float(str(each[axis])),
            "score": show.in_points(float(point.score), "fraction"),
            "others": ", ".join(f"{name} {_value(each[name])}" for name in each if name != axis),
            "chosen": dict(each) == dict(record.chosen),
        }
        for each in scored
        for point in _of(record, each)
        if point.score is not None and isfinite(point.score)
    ]
    chosen = ", ".join(f"{name} {_value(value)}" for name, value in record.chosen.items())
    told = "; ".join(f"{row['x']:g} {row['others']}: {row['score']:.1f}".replace(" :", ":") for row in rows)
    return Chart(
        task=f"settings {_name(record)}",
        about=f"{_name(record)}, score on validation rows by {axis}; chosen: {chosen}. {told}.",
        svg=draw_settings(rows, axis=axis, title=_name(record)),
    )


def draw_settings(rows: Sequence[Mapping[str, object]], *, axis: str, title: str) -> str:
    """Draw a point each training, a line through the means, the chosen settings in the accent's colour: a whole SVG
    file.

    Args:
        rows: with `x`, `score`, `others` (the other settings) and `chosen`.
    """
    series: list[Series] = []
    for others in dict.fromkeys(str(row["others"]) for row in rows):
        mine = sorted((row for row in rows if row["others"] == others), key=lambda row: float(str(row["x"])))
        points = [PlotPoint(x=float(str(row["x"])), y=float(str(row["score"]))) for row in mine]
        places = sorted({point.x for point in points})
        means = [PlotPoint(x=x, y=fmean(point.y for point in points if point.x == x)) for x in places]
        series.append(Series(name=others, points=means, is_main=False, has_marks=False))
        series.append(Series(name="", points=points, is_main=False, has_line=False))
    best = [(float(str(row["x"])), float(str(row["score"]))) for row in rows if row["chosen"]]
    if best:
        middle = PlotPoint(x=best[0][0], y=fmean(score for _, score in best))
        series.append(Series(name="chosen", points=(middle,), has_line=False))
    return draw_lines(
        series,
        title=title,
        x_title=axis,
        x_ticks=sorted({float(str(row["x"])) for row in rows}),
        y_title="validation score, points",
    )


def _settings(record: SweepRecord) -> list[Mapping[str, object]]:
    """The points that the plan asks for, without seeds."""
    return [dict(zip(record.values, values, strict=True)) for values in product(*record.values.values())]


def _is_asked(record: SweepRecord, point: SweepPoint) -> bool:
    return set(point.settings) == set(record.values) and all(
        value in record.values[name] for name, value in point.settings.items()
    )


def _of(record: SweepRecord, point: Mapping[str, object]) -> list[SweepPoint]:
    return [each for each in record.points if dict(each.settings) == dict(point) and each.seed in record.seeds]


def _finished(record: SweepRecord) -> int:
    return sum(each.status != "unfinished" for each in record.points if _is_asked(record, each))


def _key(point: Mapping[str, object]) -> tuple[tuple[str, object], ...]:
    return tuple(point.items())


def _where(record: SweepRecord) -> str:
    return ", ".join(filter(None, [record.task, rows_text(record.rows) if record.rows is not None else ""]))


def _name(record: SweepRecord) -> str:
    return ", ".join(filter(None, [record.model, _where(record)]))


def _value(value: object) -> str:
    return "default" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
