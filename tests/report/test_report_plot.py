"""Charts that are drawn here: axes, names, intervals, and what a page does with them."""

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmtasks.report.plot import (
    ADVANCE,
    MOST_NAMED,
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
