"""Quality against speed, one small chart a task: a mark for each variant, error bars both ways, baselines as lines.

Altair makes the specification, vl-convert draws it as SVG without a browser and without network.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING

from lmtasks.report import format as show
from lmtasks.report.grid import Score, baseline_of, main_metric, main_score, models
from lmtasks.report.read import RunRecords, TaskInfo, Timing
from lmtasks.report.speeds import timings_of, together

if TYPE_CHECKING:
    import altair

FONT = "Helvetica, Arial, 'Liberation Sans', sans-serif"
WIDTH, HEIGHT = 300, 200
INK, PALE, ACCENT, PAPER = "#20242a", "#8a919b", "#0b7285", "#ffffff"
"""Each colour has one role, so that the page can replace it by its own in light and dark."""
ROLES: Mapping[str, str] = {INK: "ink", PALE: "pale", ACCENT: "accent", PAPER: "paper"}
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left")


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One drawn chart."""

    task: str
    title: str
    about: str
    """What it shows, for those who cannot see it."""
    svg: str
    """A whole SVG file, on white paper."""


@dataclass(frozen=True, kw_only=True)
class _Mark:
    """One variant on one task."""

    name: str
    shape: str
    score: Score
    timing: Timing


def quality_charts(run: RunRecords) -> tuple[Chart, ...]:
    """A chart for each task on which at least one model was both scored and timed."""
    shapes = {variant.name: SHAPES[n % len(SHAPES)] for n, variant in enumerate(models(run))}
    charts = []
    for task in run.tasks:
        marks = [
            _Mark(name=variant.name, shape=shapes[variant.name], score=found, timing=timing)
            for variant in models(run)
            if (found := main_score(run, variant=variant, task=task)) is not None
            and isfinite(found.value)
            and (timing := together(timings_of(run, variant), task.name)) is not None
        ]
        if marks:
            charts.append(_chart(run, task, marks))
    return tuple(charts)


def inline(chart: Chart) -> str:
    """The SVG for a page: colours become the page's own, ids stay unique among several charts, no name space needed."""
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", chart.svg[chart.svg.index("<svg") :])
    svg = re.sub(r'\b(id="|url\(#)', lambda found: f"{found[1]}{_identifier(chart.task)}-", svg)
    for colour, role in ROLES.items():
        svg = re.sub(rf'(fill|stroke)="{colour}"', rf'\1="var(--{role})"', svg, flags=re.IGNORECASE)
    return svg


def _chart(run: RunRecords, task: TaskInfo, marks: Sequence[_Mark]) -> Chart:
    metric = main_metric(run, task) or ""
    arrow = "" if marks[0].score.higher_is_better else ", lower is better"
    points = ", points" if marks[0].score.scale != "raw" else ""
    timing = marks[0].timing
    spec = _spec(
        marks,
        baselines=_baselines(run, task),
        title=task.name,
        x_title=f"throughput at batch {timing.batch_size}, {timing.unit} (logarithmic)",
        y_title=f"{metric}{points}{arrow}",
    )
    import vl_convert

    told = "; ".join(
        f"{mark.name}: {show.value(mark.score.value, mark.score.scale)} at {show.rate(mark.timing.throughput)} "
        f"{mark.timing.unit}"
        for mark in marks
    )
    return Chart(
        task=task.name,
        title=f"{task.name}: {metric} against throughput",
        about=f"{task.name}, {metric} against throughput. {told}.",
        svg=vl_convert.vegalite_to_svg(spec.to_dict(), vl_version=_schema_version(), allowed_base_urls=[]),
    )


def _baselines(run: RunRecords, task: TaskInfo) -> list[tuple[str, Score]]:
    """Baselines have a quality, but no speed that would mean anything."""
    return [
        (variant.name, found)
        for variant in run.variants
        if baseline_of(run, variant)
        and (found := main_score(run, variant=variant, task=task)) is not None
        and isfinite(found.value)
    ]


def _spec(
    marks: Sequence[_Mark], *, baselines: Sequence[tuple[str, Score]], title: str, x_title: str, y_title: str
) -> "altair.LayerChart":
    import altair as alt

    x_scale = alt.Scale(type="log", domain=_x_domain(marks), nice=False)
    y_scale = alt.Scale(domain=_y_domain(marks, [found for _, found in baselines]), nice=True, zero=False)
    x = alt.X("speed:Q", title=x_title, scale=x_scale, axis=alt.Axis(tickCount=4, format="~s", grid=False))
    y = alt.Y("quality:Q", title=y_title, scale=y_scale, axis=alt.Axis(tickCount=5))
    middle = sum(_x_domain(marks)) / 2

    def row(mark: _Mark) -> dict[str, object]:
        low, high = _points(mark.score.ci95 or (mark.score.value, mark.score.value), mark.score)
        slow, fast = mark.timing.throughput_ci95 or (mark.timing.throughput, mark.timing.throughput)
        return {
            "name": mark.name,
            "quality": _points((mark.score.value,), mark.score)[0],
            "low": low,
            "high": high,
            "speed": mark.timing.throughput,
            "slow": slow,
            "fast": fast,
        }

    rows = [row(mark) for mark in marks]
    data = alt.Data(values=rows)
    base = alt.Chart(data)
    layers: list[alt.Chart] = []
    if baselines:
        lines = [{"name": name, "quality": _points((found.value,), found)[0]} for name, found in baselines]
        ruled = alt.Chart(alt.Data(values=lines)).encode(y=y)
        layers.append(ruled.mark_rule(color=PALE, strokeDash=[3, 3]))
        layers.append(
            ruled.mark_text(color=PALE, align="left", baseline="bottom", dx=3, dy=-2, fontSize=10).encode(
                x=alt.value(0), text="name:N"
            )
        )
    layers.append(base.mark_rule(color=ACCENT, strokeWidth=1.5).encode(x=x, y=alt.Y("low:Q"), y2="high:Q"))
    layers.append(base.mark_rule(color=ACCENT, strokeWidth=1.5).encode(x=alt.X("slow:Q"), x2="fast:Q", y=y))
    for mark, values in zip(marks, rows, strict=True):
        one = alt.Chart(alt.Data(values=[values])).encode(x=x, y=y)
        layers.append(
            one.mark_point(color=ACCENT, fill=PAPER, filled=False, shape=mark.shape, size=70, opacity=1, strokeWidth=2)
        )
        right = mark.timing.throughput < middle
        layers.append(
            one.mark_text(
                color=INK,
                align="left" if right else "right",
                baseline="bottom",
                dx=7 if right else -7,
                dy=-5,
                fontSize=11,
            ).encode(text="name:N")
        )
    chart: alt.LayerChart = (
        alt.layer(*layers)
        .properties(width=WIDTH, height=HEIGHT, background=PAPER, title=title)
        .configure(font=FONT, padding=8)
        .configure_view(stroke=None)
        .configure_title(anchor="start", fontSize=13, fontWeight="bold", color=INK, offset=10)
        .configure_axis(
            labelColor=INK,
            titleColor=INK,
            tickColor=PALE,
            domainColor=PALE,
            gridColor=PALE,
            gridOpacity=0.25,
            labelFontSize=10,
            titleFontSize=11,
            titleFontWeight="normal",
        )
    )
    return chart


def _schema_version() -> str:
    """The Vega-Lite that altair writes, as vl-convert calls it: v6.1.0 is v6_1."""
    import altair as alt

    return "_".join(alt.SCHEMA_VERSION.split(".")[:2])


def _points(numbers: Sequence[float], score: Score) -> list[float]:
    return [show.in_points(number, score.scale) for number in numbers]


def _x_domain(marks: Sequence[_Mark]) -> tuple[float, float]:
    ends = [end for m in marks for end in (*(m.timing.throughput_ci95 or ()), m.timing.throughput)]
    return min(ends) / 1.4, max(ends) * 1.4


def _y_domain(marks: Sequence[_Mark], baselines: Sequence[Score]) -> tuple[float, float]:
    ends = [end for m in marks for end in _points((*(m.score.ci95 or ()), m.score.value), m.score)]
    ends += [end for found in baselines for end in _points((found.value,), found)]
    room = 0.12 * (max(ends) - min(ends)) or 1.0
    return min(ends) - room, max(ends) + room


def _identifier(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower())
