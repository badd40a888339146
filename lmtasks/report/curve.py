"""How a training went, as SVG: its loss, and below it what it was judged by, source by source."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lmtasks.report.drawing import ACCENT, HEIGHT, PALE, PAPER, WIDTH, as_svg

if TYPE_CHECKING:
    import altair as alt

SPREAD = 0.98
"""Share of the losses that the axis reaches over: the first steps would flatten the rest."""


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
