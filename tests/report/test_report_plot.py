"""Charts that are drawn here: axes, names, intervals, and what a page does with them."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmtasks.report import plot
from lmtasks.report.plot import (
    ADVANCE,
    HUES,
    MOST_NAMED,
    PALE,
    SIZE,
    Axis,
    PlotPoint,
    Series,
    draw_lines,
    draw_points,
    without_own_colours,
)

SPACE = "{http://www.w3.org/2000/svg}"


def named(svg: str) -> dict[str, tuple[float, float, float, float]]:
    """Names of series to their boxes on paper."""
    found = {}
    for group in ElementTree.fromstring(svg).iter(f"{SPACE}g"):
        for text in group.findall(f"{SPACE}text"):
            x, y, name = float(text.attrib["x"]), float(text.attrib["y"]), text.text or ""
            found[name] = (x, y - SIZE, x + len(name) * ADVANCE * SIZE, y + 2)
    return found


def overlapping(boxes: dict[str, tuple[float, float, float, float]]) -> list[tuple[str, str]]:
    def touch(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
        return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]

    names = list(boxes)
    return [(a, b) for i, a in enumerate(names) for b in names[i + 1 :] if touch(boxes[a], boxes[b])]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(1, 1e4), st.floats(0, 100), st.text("abcdefgh", min_size=1, max_size=18)),
        min_size=1,
        max_size=12,
        unique_by=lambda each: each[2],
    )
)
def test_names_of_points_never_touch(points: list[tuple[float, float, str]]) -> None:
    series = [Series(name=name, points=(PlotPoint(x=x, y=y),)) for x, y, name in points]
    svg = draw_points(series, title="t", x_title="x", y_title="y")
    boxes = named(svg)
    numbered = any(re.fullmatch(r"\d+", name) for name in boxes)
    assert numbered or set(boxes) == {name for *_, name in points}
    assert numbered or overlapping(boxes) == []


def test_many_points_have_numbers_and_a_legend() -> None:
    series = [Series(name=f"variant {n}", points=(PlotPoint(x=n + 1, y=n),)) for n in range(MOST_NAMED + 1)]
    svg = draw_points(series, title="t", x_title="x", y_title="y")
    assert ">1</text>" in svg
    assert "1 variant 0   2 variant 1" in svg
    assert f"{MOST_NAMED + 1} variant {MOST_NAMED}" in svg


def test_ends_of_lines_that_are_equal_have_names_apart() -> None:
    ends = [PlotPoint(x=1, y=2.0), PlotPoint(x=9, y=3.0)]
    svg = draw_lines([Series(name=f"v{n}", points=ends) for n in range(6)], title="t", x_title="x", y_title="y")
    assert overlapping(named(svg)) == []


@pytest.mark.parametrize(("highest", "is_log"), [(19.0, False), (21.0, True)])
def test_an_axis_is_logarithmic_from_twenty_times_on(highest: float, is_log: bool) -> None:
    points = [Series(name=f"{x}", points=(PlotPoint(x=x, y=50.0),)) for x in (1.0, highest)]
    svg = draw_points(points, title="t", x_title="x", y_title="y")
    ticks = {">2<", ">5<", ">10<"} if is_log else {">5<", ">10<", ">15<"}
    assert all(tick in svg for tick in ticks)
    marks = [float(x) for x in re.findall(r'<circle cx="([\d.]+)"|<rect x="([\d.]+)" y', svg)[0] if x]
    assert marks


def test_places_keep_the_order_of_values() -> None:
    axis = Axis(low=1, high=1000, start=0, end=300, is_log=True)
    assert [round(axis.at(value)) for value in (1, 10, 100, 1000, 5000)] == [0, 100, 200, 300, 300]
    assert axis.ticks() == [1, 10, 100, 1000]


def test_a_mark_says_whose_it_is_and_is_asked_for_by_it() -> None:
    point = PlotPoint(x=3, y=4, low=3, high=5, left=2, right=4, said="<int8>: 4.0 at 3/s")
    svg = draw_points([Series(name="<int8>", points=(point,), variant='"int8"')], title="<t>", x_title="x", y_title="y")
    root = ElementTree.fromstring(svg)
    (group,) = [each for each in root.iter(f"{SPACE}g") if "data-variant" in each.attrib]
    assert group.attrib["data-variant"] == '"int8"'
    assert [each.text for each in group.iter(f"{SPACE}title")] == ["<int8>: 4.0 at 3/s"]
    assert len(group.findall(f"{SPACE}polyline")) == 2  # its bars
    assert not re.search(r"#[0-9a-f]{6}", without_own_colours(svg))


def test_lines_have_a_colour_each_and_what_they_are_held_to_is_pale() -> None:
    points = (PlotPoint(x=0, y=1, low=0, high=2), PlotPoint(x=1, y=2, low=1, high=3))
    series = [Series(name=name, points=points, is_main=name != "diagonal") for name in ("diagonal", *"abcdefgh")]
    svg = draw_lines(series, title="t", x_title="x", y_title="y")
    groups = list(ElementTree.fromstring(svg).iter(f"{SPACE}polyline"))
    colours = [line.attrib["stroke"] for line in groups if "stroke-width" in line.attrib][-9:]
    assert colours == [PALE, *HUES]
    shown = without_own_colours(svg)
    assert "#" not in shown.replace("&#", "")
    assert 'stroke="var(--hue-7)"' in shown


def test_colours_of_lines_are_read_on_paper_and_on_the_dark_page() -> None:
    """WCAG 2.2 contrast of at least 4.5, since names of lines have their colour."""
    style = (Path(plot.__file__).parent / "page.html.j2").read_text(encoding="utf-8")
    light, dark = (
        dict(
            re.findall(r"--([\w-]+): (#[0-9a-f]{6});", style[style.index(start) : style.index("}", style.index(start))])
        )
        for start in (":root {", ":root { --paper: #15181b")
    )
    for names in (light, dark):
        hues = {name: colour for name, colour in names.items() if name.startswith("hue-")}
        assert len(hues) == len(HUES) - 1
        assert {name: round(contrast(colour, names["paper"]), 1) for name, colour in hues.items()
                if contrast(colour, names["paper"]) < 4.5} == {}  # fmt: skip
    assert [colour for colour in HUES if contrast(colour, "#ffffff") < 4.5] == []
    assert {f"hue-{number}": colour for number, colour in enumerate(HUES) if number} == {
        name: colour for name, colour in light.items() if name.startswith("hue-")
    }


def contrast(one: str, other: str) -> float:
    def light(colour: str) -> float:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    bright, dim = sorted((light(one), light(other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)
