"""Charts: quality against speed, a small one for each task; and how a training went, its loss over its validation."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING

from lmtasks.report import format as show
from lmtasks.report.drawing import ACCENT, HEIGHT, PALE, PAPER, ROLES, SHAPES, WIDTH, BaselineLevel, Point, as_svg, draw
from lmtasks.report.grid import Score, baseline_of, main_metric, main_score, models
from lmtasks.report.records import RunRecords
from lmtasks.report.speeds import timings_of, together
from lmtasks.results.cell import TaskInfo, Variant
from lmtasks.results.speed import Timing

if TYPE_CHECKING:
    import altair as alt


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
            levels=_levels(run, task),
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


def _levels(run: RunRecords, task: TaskInfo) -> list[BaselineLevel]:
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
