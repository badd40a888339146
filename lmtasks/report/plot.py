"""Charts as SVG, drawn here: points and lines with intervals, on axes that are logarithmic where values span a lot,
with names that do not touch.

Else Altair with vl-convert, which was here before: it lays names over each other, says nothing of which mark is whose,
and is two packages more to install. A chart is a text file; everything that a page does with it
(its own colours, what is under the pointer, a click) needs only what stands in it.

>>> steps = Series(name="mini", points=(PlotPoint(x=1, y=2.0), PlotPoint(x=100, y=1.0)))
>>> svg = draw_lines([steps], title="loss", x_title="step", y_title="nats")
>>> svg.startswith("<svg"), "10" in svg
(True, True)
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import ceil, floor, log10
from xml.sax.saxutils import escape, quoteattr, unescape

from lmtasks.scripts import text_width
from lmtasks.visible import visible

FONT = "Helvetica, Arial, 'Liberation Sans', sans-serif"
WIDTH, HEIGHT = 360, 250
INK, PALE, ACCENT, PAPER = "#20242a", "#5d646e", "#0b6577", "#ffffff"
HUES: Sequence[str] = (ACCENT, "#a84300", "#6a3d9a", "#2b7a2b", "#b0286b", "#7a6200", "#2f5fb3", "#8c4b3c")
"""Of lines that cross each other, one each, told apart by those who see few colours, too, and by mark and dash by
those who see none; on white all have a contrast of 4.5 or more."""
ROLES: Mapping[str, str] = {
    **{INK: "ink", PALE: "pale", ACCENT: "accent", PAPER: "paper"},
    **{hue: f"hue-{number}" for number, hue in enumerate(HUES) if number},
}
"""Each colour has one role, so that a page can put its own in its place, in light and in dark."""
SHAPES: Sequence[str] = ("circle", "square", "triangle", "diamond", "cross", "star")
DASHES: Sequence[str] = ("", "6 3", "2 2", "8 3 2 3", "12 4")
LOGARITHMIC = 20.0
"""Values whose largest is so many times the smallest stand on a logarithmic axis."""
MOST_TIMES = 1e15
"""Of values that span more, one is as good as zero."""
SIZE = 11.0
"""Of letters."""
ADVANCE = 0.56
"""Mean width of a letter, in sizes; of Helvetica, a little more than measured."""
TOP, BOTTOM, LEFT, RIGHT = 34, 42, 52, 14
ROOM = 0.07
"""Of an axis, beyond the outermost values."""
MOST_NAMED = 14
"""More points than that have numbers, and their names stand below."""


@dataclass(frozen=True, kw_only=True)
class PlotPoint:
    """One value, with its interval on either axis."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    left: float | None = None
    right: float | None = None
    said: str = ""
    """Under the pointer."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """Points that belong together."""

    name: str
    points: Sequence[PlotPoint]
    is_main: bool = True
    """In the accent's colour; else pale."""
    has_line: bool = True
    has_marks: bool = True
    variant: str = ""
    """Whom a click on it asks for."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """Values to places on paper."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool

    def at(self, value: float) -> float:
        """The place of a value; one beyond the axis stands at its end."""
        value = min(max(value, self.low), self.high)
        part = (
            (log10(value) - log10(self.low)) / (log10(self.high) - log10(self.low))
            if self.is_log
            else (value - self.low) / (self.high - self.low)
        )
        return self.start + part * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round numbers within it."""
        if self.is_log:
            powers = range(floor(log10(self.low)), ceil(log10(self.high)) + 1)
            found = [step * 10.0**power for power in powers for step in (1, 2, 5)]
            inside = [tick for tick in found if self.low <= tick <= self.high]
            return inside if len(inside) <= 7 else [tick for tick in inside if f"{tick:e}".startswith("1")]
        rough = (self.high - self.low) / 4.5
        size = 10.0 ** floor(log10(rough))
        step = next(size * each for each in (1, 2, 2.5, 5, 10) if size * each >= rough)
        first = ceil(self.low / step - 1e-9)
        return [round(number * step, 12) for number in range(first, floor(self.high / step + 1e-9) + 1)]


@dataclass
class _Boxes:
    """Places that are taken."""

    taken: list[tuple[float, float, float, float]] = field(default_factory=list)

    def add(self, box: tuple[float, float, float, float]) -> None:
        self.taken.append(box)

    def is_free(self, box: tuple[float, float, float, float]) -> bool:
        left, top, right, bottom = box
        return all(right <= a or c <= left or bottom <= b or d <= top for a, b, c, d in self.taken)


def draw_points(
    series: Sequence[Series],
    *,
    title: str,
    x_title: str,
    y_title: str,
    levels: Sequence[tuple[str, float]] = (),
    subtitle: str = "",
    front: Sequence[PlotPoint] = (),
) -> str:
    """A point a series, with bars for its intervals and its name beside it, or numbers where there are too many.

    Args:
        levels: names and values of dashed lines across.
        front: points that nothing is better than, joined by a line.
    """
    chart = _Chart(series, levels=levels, height=HEIGHT, width=WIDTH)
    boxes = _Boxes()
    body = [*chart.levels(levels, boxes)]
    if len(front) > 1:
        body.append(_path(((chart.x.at(p.x), chart.y.at(p.y)) for p in front), PALE, dash="1 3", width=1.5))
    for one in series:
        for point in one.points:
            boxes.add(_around(chart.x.at(point.x), chart.y.at(point.y), 6))
    lines = _Boxes([*boxes.taken, *chart.drawn(series, levels=levels, front=front)])
    few = len(series) <= MOST_NAMED
    places = (_name_places(chart, series, lines) or _name_places(chart, series, boxes)) if few else []
    legend: list[str] = []
    for number, one in enumerate(series):
        parts = [part for point in one.points for part in (*chart.bars(point, one), chart.mark(point, one, number))]
        if places:
            parts += _name(one, places[number])
        else:
            legend.append(f"{number + 1} {one.name}")
            spot = one.points[0]
            parts.append(_text(chart.x.at(spot.x), chart.y.at(spot.y) + 3, str(number + 1), size=8, anchor="middle"))
        body.append(_group(one, parts))
    return chart.svg(body, title=title, subtitle=subtitle, x_title=x_title, y_title=y_title, legend=legend)


def draw_lines(
    series: Sequence[Series],
    *,
    title: str,
    x_title: str,
    y_title: str,
    levels: Sequence[tuple[str, float]] = (),
    subtitle: str = "",
    x_ticks: Sequence[float] = (),
    y_domain: tuple[float, float] | None = None,
    width: int = WIDTH,
    height: int = HEIGHT,
) -> str:
    """A line a series, with a band for its intervals and its name behind its last point.

    Args:
        levels: names and values of dashed lines across.
        x_ticks: the only values of the axis that are written; none: round numbers.
        y_domain: ends of the axis; None: all values, with some room.
    """
    room = max((_width(one.name) for one in series), default=0.0) + 10
    chart = _Chart(series, levels=levels, height=height, width=width, right=room, y_domain=y_domain)
    boxes = _Boxes()
    body = [*chart.levels(levels, boxes)]
    ends: list[tuple[float, float]] = []
    hues = _hues(series)
    for number, one in enumerate(series):
        colour = hues[number]
        spots = [(chart.x.at(point.x), chart.y.at(point.y)) for point in one.points]
        ends.append(spots[-1])
        parts = [*chart.band(one, colour)]
        if one.has_line:
            parts.append(_path(spots, colour, dash=DASHES[number % len(DASHES)], width=1.8 if one.is_main else 1.3))
        if one.has_marks:
            parts += [chart.mark(point, one, number, colour) for point in one.points]
        body.append(_group(one, parts))
    places = _apart([y for _, y in ends], under=chart.y.start)
    for (x, y), one, place, colour in zip(ends, series, places, hues, strict=True):
        own = INK if len(set(hues) - {PALE}) < 2 and one.is_main else colour
        body += _name(one, (x + 8, place + 4, x + 4 if abs(place - y) > 6 else None, y), own)
    return chart.svg(body, title=title, subtitle=subtitle, x_title=x_title, y_title=y_title, x_ticks=x_ticks)


def _hues(series: Sequence[Series]) -> list[str]:
    """A colour for each line: pale is what others are held to."""
    main = [number for number, one in enumerate(series) if one.is_main]
    return [HUES[main.index(number) % len(HUES)] if one.is_main else PALE for number, one in enumerate(series)]


class _Chart:
    """Axes over all values, and what is drawn on them."""

    def __init__(
        self,
        series: Sequence[Series],
        *,
        levels: Sequence[tuple[str, float]],
        width: int,
        height: int,
        right: float = 0.0,
        y_domain: tuple[float, float] | None = None,
    ) -> None:
        points = [point for one in series for point in one.points]
        xs = [end for point in points for end in (point.x, point.left, point.right) if end is not None]
        ys = [end for point in points for end in (point.y, point.low, point.high) if end is not None]
        ys += [value for _, value in levels]
        self.width, self.height = width, height
        self.x = _axis(xs, start=LEFT, end=width - RIGHT - right)
        self.y = (
            Axis(low=y_domain[0], high=y_domain[1], start=height - BOTTOM, end=TOP, is_log=False)
            if y_domain
            else _axis(ys, start=height - BOTTOM, end=TOP)
        )

    def drawn(
        self, series: Sequence[Series], *, levels: Sequence[tuple[str, float]], front: Sequence[PlotPoint]
    ) -> Iterator[tuple[float, float, float, float]]:
        """Places of lines, which a name had better not lie on."""
        for _, value in levels:
            yield self.x.start, self.y.at(value) - 1, self.x.end, self.y.at(value) + 1
        for point in (point for one in series for point in one.points):
            x, y = self.x.at(point.x), self.y.at(point.y)
            if point.low is not None and point.high is not None:
                yield x - 1, self.y.at(point.high), x + 1, self.y.at(point.low)
            if point.left is not None and point.right is not None:
                yield self.x.at(point.left), y - 1, self.x.at(point.right), y + 1
        for one, other in pairwise(front):
            ends = (self.x.at(one.x), self.y.at(one.y)), (self.x.at(other.x), self.y.at(other.y))
            steps = max(2, int(abs(ends[1][0] - ends[0][0]) / 6))
            for step in range(steps + 1):
                x, y = (a + (b - a) * step / steps for a, b in zip(*ends, strict=True))
                yield _around(x, y, 2)

    def levels(self, levels: Sequence[tuple[str, float]], boxes: _Boxes) -> Iterator[str]:
        """Dashed lines across, each with its name above it, moved aside where two would touch."""
        for name, value in sorted(levels, key=lambda level: -level[1]):
            y = self.y.at(value)
            yield _path([(self.x.start, y), (self.x.end, y)], PALE, dash="3 3", width=1)
            width = _width(name)
            spots = [self.x.start + 4 + step * (width + 8) for step in range(4)]
            free = (x for x in spots if boxes.is_free((x, y - SIZE - 3, x + width, y)) and x + width < self.width)
            x = next(free, None)
            if x is not None:
                boxes.add((x, y - SIZE - 3, x + width, y))
                yield _text(x, y - 4, name, colour=PALE)

    def band(self, one: Series, colour: str) -> Iterator[str]:
        """The area between the ends of the intervals."""
        ends = [point for point in one.points if point.low is not None and point.high is not None]
        if len(ends) < 2:
            return
        above = [(self.x.at(p.x), self.y.at(p.high)) for p in ends if p.high is not None]
        below = [(self.x.at(p.x), self.y.at(p.low)) for p in reversed(ends) if p.low is not None]
        spots = " ".join(f"{x:.1f},{y:.1f}" for x, y in (*above, *below))
        yield f'<polygon points="{spots}" fill="{colour}" opacity="0.13"/>'

    def bars(self, point: PlotPoint, one: Series) -> Iterator[str]:
        """Lines from end to end of the intervals."""
        x, y, colour = self.x.at(point.x), self.y.at(point.y), ACCENT if one.is_main else PALE
        if point.low is not None and point.high is not None:
            yield _path([(x, self.y.at(point.low)), (x, self.y.at(point.high))], colour, width=1.4)
        if point.left is not None and point.right is not None:
            yield _path([(self.x.at(point.left), y), (self.x.at(point.right), y)], colour, width=1.4)

    def mark(self, point: PlotPoint, one: Series, number: int, colour: str = "") -> str:
        """One mark, with what is said under the pointer."""
        x, y, colour = self.x.at(point.x), self.y.at(point.y), colour or (ACCENT if one.is_main else PALE)
        drawn = MARKS[SHAPES[number % len(SHAPES)]](x, y)
        said = escape(visible(point.said or one.name))
        return f'<g stroke="{colour}" stroke-width="1.8" fill="{PAPER}"><title>{said}</title>{drawn}</g>'

    def svg(
        self,
        body: Sequence[str],
        *,
        title: str,
        subtitle: str,
        x_title: str,
        y_title: str,
        x_ticks: Sequence[float] = (),
        legend: Sequence[str] = (),
    ) -> str:
        """A whole file, on white paper."""
        below = list(_wrapped(legend, self.width - 16))
        height = self.height + len(below) * (SIZE + 3)
        frame = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {height:.0f}" width="{self.width}" '
            f'height="{height:.0f}" font-family="{FONT}">',
            f'<rect width="100%" height="100%" fill="{PAPER}"/>',
            _text(8, 15, title, size=13, weight="bold"),
            *([_text(8, 28, subtitle, colour=PALE, size=10)] if subtitle else []),
        ]
        middle = (self.y.start + self.y.end) / 2
        for tick in self.y.ticks():
            y = self.y.at(tick)
            frame.append(f'<line x1="{self.x.start:.1f}" x2="{self.x.end:.1f}" y1="{y:.1f}" y2="{y:.1f}" '
                         f'stroke="{PALE}" opacity="0.2"/>')  # fmt: skip
            frame.append(_text(self.x.start - 5, y + 3.5, tick_text(tick), size=10, anchor="end"))
        last = -1e9
        for tick in x_ticks or self.x.ticks():
            x, shown = self.x.at(tick), tick_text(tick)
            if x - _width(shown) / 2 < last:
                continue
            last = x + _width(shown) / 2 + 4
            frame.append(_path([(x, self.y.start), (x, self.y.start + 4)], PALE, width=1))
            frame.append(_text(x, self.y.start + 15, shown, size=10, anchor="middle"))
        frame += [
            _path([(self.x.start, self.y.start), (self.x.end, self.y.start)], PALE, width=1),
            _text((self.x.start + self.x.end) / 2, self.y.start + 31, x_title, anchor="middle"),
            f'<text transform="translate(12 {middle:.1f}) rotate(-90)" text-anchor="middle" font-size="{SIZE}" '
            f'fill="{INK}">{escape(visible(y_title))}</text>',
            *body,
            *(_text(8, self.height + 8 + row * (SIZE + 3), line, size=10) for row, line in enumerate(below)),
        ]
        return "\n".join([*frame, "</svg>\n"])


def tick_text(value: float) -> str:
    """A value of an axis.

    >>> [tick_text(value) for value in (0.5, 20, 1500, 20_000, 3e6)]
    ['0.5', '20', '1,500', '20k', '3M']
    """
    if abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    if abs(value) >= 1e4:
        return f"{value / 1e3:g}k"
    return f"{value:,.0f}" if abs(value) >= 1e3 else f"{value:g}".replace("-", "−")


def _axis(values: Sequence[float], *, start: float, end: float) -> Axis:
    """Over all values with some room; logarithmic where they span more than `LOGARITHMIC` times."""
    low, high = min(values), max(values)
    if low > 0 and LOGARITHMIC * low < high < MOST_TIMES * low:
        room = (high / low) ** ROOM
        return Axis(low=low / room, high=high * room, start=start, end=end, is_log=True)
    room = ROOM * ((high - low) or abs(high) or 1.0)
    if low - room == high + room:  # of numbers that are as good as zero
        room = ROOM
    return Axis(low=low - room, high=high + room, start=start, end=end, is_log=False)


def _name_places(
    chart: _Chart, series: Sequence[Series], boxes: _Boxes
) -> list[tuple[float, float, float | None, float]]:
    """For each name its place, and where its leader begins (None: it needs none); empty where a name has no place."""
    found = []
    for one in series:
        x, y = chart.x.at(one.points[0].x), chart.y.at(one.points[0].y)
        width = _width(one.name)
        for reach in (8, 20, 34, 50, 70):
            beside, across = (reach, -reach - width), (4, -reach, reach + 6)
            offsets: list[tuple[float, float]] = [(dx, dy) for dy in across for dx in beside]
            offsets += [(-width / 2, -reach), (-width / 2, reach + SIZE - 2)]
            spot = next(
                (
                    (x + dx, y + dy)
                    for dx, dy in offsets
                    if x + dx >= chart.x.start + 2
                    and x + dx + width <= chart.width - 4
                    and y + dy - SIZE >= TOP - 4
                    and y + dy <= chart.y.start
                    and boxes.is_free((x + dx - 1, y + dy - SIZE, x + dx + width + 1, y + dy + 3))
                ),
                None,
            )
            if spot is not None:
                boxes.add((spot[0] - 1, spot[1] - SIZE, spot[0] + width + 1, spot[1] + 3))
                found.append((*spot, x if reach > 8 else None, y))
                break
        else:
            return []
    return found


def _apart(heights: Sequence[float], *, under: float) -> list[float]:
    """Heights of names beside the ends of lines, a line apart: above `under` as far as they go, below the title always.

    >>> _apart([40.0, 36.0, 200.0], under=200.0)
    [51.0, 38.0, 187.0]
    """
    placed = list(heights)
    for number in sorted(range(len(heights)), key=lambda each: -heights[each]):
        placed[number] = min(heights[number], under - SIZE - 2)
        under = placed[number]
    over = TOP + 4.0
    for number in sorted(range(len(heights)), key=lambda each: heights[each]):
        placed[number] = max(placed[number], over)
        over = placed[number] + SIZE + 2
    return placed


def _name(one: Series, place: tuple[float, float, float | None, float], colour: str = "") -> Iterator[str]:
    """The name, and a line to its mark where it stands apart."""
    x, y, from_x, from_y = place
    if from_x is not None:
        near = min(max(from_x, x), x + _width(one.name))
        yield f'<line x1="{from_x:.1f}" y1="{from_y:.1f}" x2="{near:.1f}" y2="{y - 4:.1f}" stroke="{PALE}" ' \
              'stroke-width="0.7" opacity="0.7"/>'  # fmt: skip
    yield _text(x, y, one.name, colour=colour or (INK if one.is_main else PALE))


def _group(one: Series, parts: Sequence[str]) -> str:
    """What belongs to a series; a page finds out by it whom a click asks for."""
    variant = f" data-variant={quoteattr(visible(one.variant))}" if one.variant else ""
    return f"<g{variant}>{''.join(parts)}</g>"


def reworded(svg: str, word: Callable[[str], str]) -> str:
    """A chart with other words: of its title, its axes and its legend.

    Args:
        word: gives for each text what stands there instead, escaped.

    >>> reworded('<text x="1">steps &amp; rows</text><title>steps</title>', str.upper)
    '<text x="1">STEPS & ROWS</text><title>steps</title>'
    """
    return re.sub(r"(<text [^>]*>)([^<]*)(?=</text>)", lambda found: found[1] + str(word(unescape(found[2]))), svg)


def _text(
    x: float, y: float, text: str, *, colour: str = INK, size: float = SIZE, anchor: str = "start", weight: str = ""
) -> str:
    bold = f' font-weight="{weight}"' if weight else ""
    at = f'x="{x:.1f}" y="{y:.1f}"'
    return (
        f'<text {at} text-anchor="{anchor}" font-size="{size:g}" fill="{colour}"{bold}>{escape(visible(text))}</text>'
    )


def _path(
    spots: "Iterator[tuple[float, float]] | Sequence[tuple[float, float]]", colour: str, *, width: float, dash: str = ""
) -> str:
    drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<polyline points="{drawn}" fill="none" stroke="{colour}" stroke-width="{width:g}"{dashed}/>'


def _polygon(*spots: tuple[float, float]) -> str:
    return f'<polygon points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in spots)}"/>'


CROSS = (
    *((-1.5, -4.5), (1.5, -4.5), (1.5, -1.5), (4.5, -1.5), (4.5, 1.5), (1.5, 1.5)),
    *((1.5, 4.5), (-1.5, 4.5), (-1.5, 1.5), (-4.5, 1.5), (-4.5, -1.5), (-1.5, -1.5)),
)
MARKS: Mapping[str, Callable[[float, float], str]] = {
    "circle": lambda x, y: f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"/>',
    "square": lambda x, y: f'<rect x="{x - 3.6:.1f}" y="{y - 3.6:.1f}" width="7.2" height="7.2"/>',
    "triangle": lambda x, y: _polygon((x, y - 5), (x + 4.6, y + 3.5), (x - 4.6, y + 3.5)),
    "diamond": lambda x, y: _polygon((x, y - 5.2), (x + 5.2, y), (x, y + 5.2), (x - 5.2, y)),
    "cross": lambda x, y: _polygon(*((x + dx, y + dy) for dx, dy in CROSS)),
    "star": lambda x, y: _polygon((x, y + 5), (x + 4.6, y - 3.5), (x - 4.6, y - 3.5)),
}


def _around(x: float, y: float, reach: float) -> tuple[float, float, float, float]:
    return x - reach, y - reach, x + reach, y + reach


def _width(text: str, size: float = SIZE) -> float:
    """Of a text in the chart's letters, about."""
    return text_width(visible(text)) * ADVANCE * size


def _wrapped(parts: Sequence[str], width: float) -> Iterator[str]:
    """Parts in lines of that width."""
    line = ""
    for part in parts:
        longer = f"{line}   {part}" if line else part
        if line and _width(longer, 10) > width:
            yield line
            longer = part
        line = longer
    if line:
        yield line


def without_own_colours(svg: str) -> str:
    """A chart for a page: in the page's colours, light or dark, and without a name space."""
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg[svg.index("<svg") :])
    for colour, role in ROLES.items():
        svg = re.sub(rf'\b(fill|stroke)="{colour}"', rf'\1="var(--{role})"', svg)
    return svg


def stacked(above: str, below: str) -> str:
    """Two charts of one width as one file."""
    boxes = [re.search(r'viewBox="0 0 (\d+) (\d+)"', each) for each in (above, below)]
    width, top, bottom = (
        int(found[number]) for found, number in ((boxes[0], 1), (boxes[0], 2), (boxes[1], 2)) if found
    )
    second = below.replace("<svg ", f'<svg y="{top}" ', 1)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top + bottom}" width="{width}" '
        f'height="{top + bottom}">\n{above}{second}</svg>\n'
    )
