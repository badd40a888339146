"""Charts as SVG: quality against speed, a small one for each task; and how a training went, its loss over validation.

Quality against speed: a mark a point, error bars both ways, baselines as dashed lines. Altair makes the specification,
vl-convert draws it without a browser and without network.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil, floor, isfinite, log10, sqrt
from typing import TYPE_CHECKING

from lmtasks.report import format as show
from lmtasks.report.grid import Score, baseline_of, main_metric, main_score, models
from lmtasks.report.records import RunRecords
from lmtasks.report.speeds import timings_of, together
from lmtasks.results.cell import TaskInfo, Variant
from lmtasks.results.speed import Timing

if TYPE_CHECKING:
    import altair as alt


FONT = "Helvetica, Arial, 'Liberation Sans', sans-serif"
WIDTH, HEIGHT = 300, 190
INK, PALE, ACCENT, PAPER = "#20242a", "#6a717b", "#0b7285", "#ffffff"
ROLES: Mapping[str, str] = {INK: "ink", PALE: "pale", ACCENT: "accent", PAPER: "paper"}
"""Each colour has one role, so that a page can put its own in its place, in light and in dark."""
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left")

REACH = 1.5
"""A baseline farther from the points than so many times their span is named, not drawn: it would flatten the rest."""
MARGIN = 1.45
"""Room beside the outermost speeds, as a factor."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One variant."""

    name: str
    shape: str
    quality: float
    low: float
    high: float
    speed: float
    slow: float
    fast: float


@dataclass(frozen=True, kw_only=True)
class BaselineLevel:
    """One baseline: a quality without a speed."""

    name: str
    quality: float
    shown: str
    """The quality as people read it."""


def draw(*, points: Sequence[Point], levels: Sequence[BaselineLevel], title: str, x_title: str, y_title: str) -> str:
    """A whole SVG file on white paper."""
    import altair as alt

    near, far = _levels(points, levels)
    x_domain = min(p.slow for p in points) / MARGIN, max(p.fast for p in points) * MARGIN
    x = alt.X(
        "speed:Q",
        title=x_title,
        scale=alt.Scale(type="log", domain=x_domain, nice=False),
        axis=alt.Axis(values=_ticks(*x_domain), format="~s", grid=False),
    )
    y = alt.Y(
        "quality:Q",
        title=y_title,
        scale=alt.Scale(domain=_y_domain(points, near), nice=False, zero=False),
        axis=alt.Axis(tickCount=5),
    )
    chart = alt.layer(*_lines(near, y), *_bars(points, x, y), *_marks(points, x, y)).properties(
        width=WIDTH, height=HEIGHT, background=PAPER, title=alt.TitleParams(title, subtitle=far)
    )
    return as_svg(chart)


def as_svg(chart: "alt.LayerChart | alt.FacetChart | alt.VConcatChart") -> str:
    """A chart in the look of the reports, as a whole SVG file."""
    import altair as alt
    import vl_convert

    styled = (
        chart.configure(font=FONT, padding=8)
        .configure_view(stroke=None)
        .configure_title(
            anchor="start",
            fontSize=13,
            fontWeight="bold",
            color=INK,
            offset=12,
            subtitleColor=PALE,
            subtitleFontSize=11,
            subtitlePadding=4,
        )
        .configure_axis(
            labelColor=INK,
            titleColor=INK,
            tickColor=PALE,
            domainColor=PALE,
            gridColor=PALE,
            gridOpacity=0.2,
            labelFontSize=10.5,
            titleFontSize=11,
            titleFontWeight="normal",
            titlePadding=8,
        )
    )
    version = "_".join(alt.SCHEMA_VERSION.split(".")[:2])  # v6.1.0 is v6_1 in vl-convert
    return str(vl_convert.vegalite_to_svg(styled.to_dict(), vl_version=version, allowed_base_urls=[]))


def _lines(levels: Sequence[BaselineLevel], y: "alt.Y") -> "list[alt.Chart]":
    import altair as alt

    if not levels:
        return []
    base = alt.Chart({"values": [asdict(level) for level in levels]}).encode(y=y)
    text = base.mark_text(color=PALE, align="left", baseline="bottom", dx=4, dy=-3, fontSize=10.5)
    return [base.mark_rule(color=PALE, strokeDash=[3, 3]), text.encode(x=alt.value(0), text="name:N")]


def _bars(points: Sequence[Point], x: "alt.X", y: "alt.Y") -> "list[alt.Chart]":
    import altair as alt

    base = alt.Chart({"values": [asdict(point) for point in points]})
    return [
        base.mark_rule(color=ACCENT, strokeWidth=1.5).encode(x=x, y=alt.Y("low:Q"), y2="high:Q"),
        base.mark_rule(color=ACCENT, strokeWidth=1.5).encode(x=alt.X("slow:Q"), x2="fast:Q", y=y),
    ]


def _marks(points: Sequence[Point], x: "alt.X", y: "alt.Y") -> "list[alt.Chart]":
    """Marks with their names: above and below in turn, towards the middle, so that neighbours do not collide."""
    import altair as alt

    middle = sqrt(min(p.slow for p in points) * max(p.fast for p in points))
    layers: list[alt.Chart] = []
    for number, point in enumerate(sorted(points, key=lambda each: each.speed)):
        one = alt.Chart({"values": [asdict(point)]}).encode(x=x, y=y)
        above, rightwards = number % 2 == 0, point.speed <= middle
        layers += [
            one.mark_point(
                color=ACCENT, fill=PAPER, filled=False, shape=point.shape, size=64, opacity=1, strokeWidth=2
            ),
            one.mark_text(
                color=INK,
                align="left" if rightwards else "right",
                baseline="bottom" if above else "top",
                dx=7 if rightwards else -7,
                dy=-5 if above else 6,
                fontSize=11.5,
            ).encode(text="name:N"),
        ]
    return layers


def _levels(points: Sequence[Point], levels: Sequence[BaselineLevel]) -> tuple[list[BaselineLevel], list[str]]:
    """The levels within reach, and words for the others."""
    low, high = _span(points)
    reach = REACH * (high - low)
    near = [level for level in levels if low - reach <= level.quality <= high + reach]
    far = [level for level in levels if level not in near]
    return near, [
        ", ".join(f"{'below' if level.quality < low else 'above'}: {level.name} {level.shown}" for level in far)
    ]


def _y_domain(points: Sequence[Point], levels: Sequence[BaselineLevel]) -> tuple[float, float]:
    low, high = _span(points)
    low, high = min([low, *(level.quality for level in levels)]), max([high, *(level.quality for level in levels)])
    return low - 0.12 * (high - low), high + 0.12 * (high - low)


def _span(points: Sequence[Point]) -> tuple[float, float]:
    """Lowest and highest end of an error bar; never one point."""
    low, high = min(p.low for p in points), max(p.high for p in points)
    return (low, high) if high > low else (low - 1, high + 1)


def _ticks(low: float, high: float) -> list[float]:
    """1, 2, 5, 10, ... within the domain; more of them where it is narrow."""
    powers = range(floor(log10(low)), ceil(log10(high)) + 1)
    steps = (1, 2, 5) if high > 8 * low else (1, 1.5, 2, 3, 5, 7)
    return [tick for power in powers for step in steps if low <= (tick := step * 10.0**power) <= high]


SPREAD = 0.98
"""Share of the losses that the axis reaches over: the first steps would flatten the rest."""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One drawn chart."""

    task: str
    about: str
    """What it shows, for those who cannot see it."""
    svg: str
    """A whole SVG file, on white paper."""


def quality_charts(run: RunRecords) -> tuple[Chart, ...]:
    """A chart for each task on which at least one model was both scored and timed."""
    return tuple(chart for task in run.tasks if (chart := _chart(run, task)) is not None)


def inline(chart: Chart) -> str:
    """The SVG for a page: the page's own colours, ids that are unique among several charts, no name space needed."""
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", chart.svg[chart.svg.index("<svg") :])
    prefix = re.sub(r"[^a-z0-9]+", "-", chart.task.lower())
    svg = re.sub(r'(\bid="|url\(#)', lambda found: f"{found[1]}{prefix}-", svg)
    for colour, role in ROLES.items():
        svg = re.sub(rf'\b(fill|stroke)="{colour}"', rf'\1="var(--{role})"', svg, flags=re.IGNORECASE)
    return svg


def _chart(run: RunRecords, task: TaskInfo) -> Chart | None:
    found = [
        (variant, score, timing)
        for variant in models(run)
        if (score := main_score(run, variant=variant, task=task)) is not None
        and isfinite(score.value)
        and (timing := together(timings_of(run, variant), task.name)) is not None
        and timing.examples_per_s
    ]
    if not found:
        return None
    metric, (_, first, timing) = main_metric(run, task) or "", found[0]
    points = ", points" if first.scale != "raw" else ""
    points_text = "; ".join(
        f"{variant.name}: {show.value(score.value, score.scale)} at {show.rate(rate.examples_per_s or 0.0)} examples/s"
        for variant, score, rate in found
    )
    shapes = {variant.name: SHAPES[number % len(SHAPES)] for number, variant in enumerate(models(run))}
    return Chart(
        task=task.name,
        about=f"{task.name}, {metric} against throughput. {points_text}.",
        svg=draw(
            points=[_point(variant, shapes[variant.name], score, rate) for variant, score, rate in found],
            levels=_baseline_levels(run, task),
            title=task.name,
            x_title=f"throughput at batch {timing.batch_size}, examples/s",
            y_title=f"{metric}{points}{'' if first.higher_is_better else ' (lower is better)'}",
        ),
    )


def _point(variant: Variant, shape: str, score: Score, timing: Timing) -> Point:
    low, high = score.ci95 or (score.value, score.value)
    speed = timing.examples_per_s or 0.0
    slow, fast = timing.examples_ci95 or (speed, speed)
    return Point(
        name=variant.name,
        shape=shape,
        quality=show.in_points(score.value, score.scale),
        low=show.in_points(low, score.scale),
        high=show.in_points(high, score.scale),
        speed=speed,
        slow=slow,
        fast=fast,
    )


def _baseline_levels(run: RunRecords, task: TaskInfo) -> list[BaselineLevel]:
    """Baselines have a quality, but no speed that would mean anything."""
    return [
        BaselineLevel(
            name=variant.name,
            quality=show.in_points(score.value, score.scale),
            shown=show.value(score.value, score.scale),
        )
        for variant in run.variants
        if baseline_of(run, variant)
        and (score := main_score(run, variant=variant, task=task)) is not None
        and isfinite(score.value)
    ]


def draw_curve(records: Sequence[Mapping[str, object]], *, title: str, judged: str) -> str:
    """A whole SVG file.

    Args:
        records: with `step` and `loss`; some with `validation`, and `validation_parts` by source.
        judged: what `validation` is, for the axis.
    """
    import altair as alt

    losses = [{"step": record["step"], "value": record["loss"]} for record in records]
    highest = sorted(float(str(point["value"])) for point in losses)[int(SPREAD * (len(losses) - 1))]
    lowest = min(float(str(point["value"])) for point in losses)
    x = alt.X("step:Q", title="step", axis=alt.Axis(format="~s", grid=False))
    scale = alt.Scale(domain=(lowest, max(highest, lowest + 0.1)), clamp=True, nice=False, zero=False)
    y = alt.Y("value:Q", title="loss, nats per token", scale=scale)
    line = alt.Chart({"values": losses}).mark_line(color=ACCENT, strokeWidth=1).encode(x=x, y=y)
    top = line.properties(width=1.6 * WIDTH, height=HEIGHT, title=title)
    charts = [top, *_judged(records, judged)]
    return as_svg(alt.vconcat(*charts).properties(background=PAPER))


def _judged(records: Sequence[Mapping[str, object]], judged: str) -> "list[alt.LayerChart | alt.FacetChart]":
    import altair as alt

    points: list[dict[str, object]] = []
    for record in records:
        parts = record.get("validation_parts")
        if "validation" in record:
            points.append({"step": record["step"], "value": record["validation"], "source": "all"})
        if isinstance(parts, Mapping):
            points += [{"step": record["step"], "value": value, "source": name} for name, value in parts.items()]
    if not points:
        return []
    last = max(int(str(point["step"])) for point in points)
    base = alt.Chart({"values": points}).encode(
        x=alt.X("step:Q", title="step", axis=alt.Axis(format="~s", grid=False)),
        y=alt.Y("value:Q", title=judged, scale=alt.Scale(zero=False)),
        detail="source:N",
    )
    whole = alt.datum.source == "all"
    lines = base.mark_line(strokeWidth=1.2, point=alt.OverlayMarkDef(size=8)).encode(
        color=alt.condition(whole, alt.value(ACCENT), alt.value(PALE)),
        strokeWidth=alt.condition(whole, alt.value(2.5), alt.value(0.8)),
    )
    names = base.transform_filter(alt.datum.step == last).mark_text(align="left", dx=6, fontSize=9.5, color=PALE)
    return [alt.layer(lines, names.encode(text="source:N")).properties(width=1.6 * WIDTH, height=1.6 * HEIGHT)]
