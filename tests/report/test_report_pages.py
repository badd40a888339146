import re
from html.parser import HTMLParser
from pathlib import Path
from unicodedata import east_asian_width
from xml.etree import ElementTree

import pytest
from synthetic import TASKS, write_run

from lmtasks.report.charts import Chart, inline, quality_charts
from lmtasks.report.records import read_run
from lmtasks.report.write import chart_files, write_report

HOSTILE = {"sst2": "<script>alert(1)</script>|*a*", "ptb": '"><img src=http://x onerror=y> `中文`'}
VOID = {"meta", "link", "img", "br", "hr", "input"}


class WellFormed(HTMLParser):
    """Fails where an element is not closed in its order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.attributes: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parsed(page: str) -> WellFormed:
    parser = WellFormed()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser


@pytest.fixture(scope="module")
def charts(written: Path) -> tuple[Chart, ...]:
    return quality_charts(read_run(written))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_run(tmp_path_factory.mktemp("hostile") / "run", rename=HOSTILE)
    write_report(folder)
    return folder


def test_the_page_is_whole_and_says_everything(written: Path) -> None:
    page = (written / "index.html").read_text(encoding="utf-8")
    found = parsed(page)
    assert found.seen.count("svg") == len(TASKS) + 1  # how often the probabilities of sst2 are right
    assert found.seen.count("script") == 3  # its own; the samples and the words as data
    for title in ("Quality", "Against the trivial answer", "Speed", "Quality against speed", "The machine",
                  "Conditions", "How to repeat it"):  # fmt: skip
        assert re.search(rf"<h2><span data-t=\d+>{title}</span></h2>", page)
    assert "lmtasks run benchmarks/first-light.yaml --data-root ../shared/data" in page
    assert 'name="viewport"' in page
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page


@pytest.mark.parametrize("which", ["written", "hostile"])
def test_the_page_loads_nothing(which: str, request: pytest.FixtureRequest) -> None:
    page = (request.getfixturevalue(which) / "index.html").read_text(encoding="utf-8")
    found = parsed(page)
    loading = {"src", "href", "xlink:href", "srcset", "action", "data", "poster"}
    links = [value for name, value in found.attributes if name in loading]
    assert [link for link in links if not link.startswith("#")] == []  # a section of the page itself
    assert "@import" not in page
    assert re.findall(r"url\((?!#)", page) == []
    assert [pair for pair in found.attributes if pair[0].startswith("on")] == []


def test_hostile_names_stay_text(hostile: Path) -> None:
    page = (hostile / "index.html").read_text(encoding="utf-8")
    found = parsed(page)
    assert found.seen.count("script") == 2
    assert "img" not in found.seen
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    markdown = (hostile / "report.md").read_text(encoding="utf-8")
    assert not re.search(r"(?<!\\)<(?!sup>|/sup>|br>)", markdown)
    for file in hostile.glob("charts/*"):
        ElementTree.parse(file)  # well-formed
        assert re.fullmatch(r"[\w.-]+\.svg", file.name)


def test_inlined_charts_share_no_ids_and_no_colours_of_their_own(charts: tuple[Chart, ...]) -> None:
    identifiers: list[str] = []
    for chart in charts:
        drawn = inline(chart)
        identifiers += re.findall(r'\bid="([^"]*)"', drawn)
        assert "xmlns" not in drawn
        assert set(re.findall(r'(?:fill|stroke)="(#[^"]*)"', drawn)) == set()
        for used in re.findall(r"url\(#([^)]*)\)", drawn):
            assert f'id="{used}"' in drawn
    assert len(identifiers) == len(set(identifiers))


def test_charts_tell_their_numbers_to_those_who_cannot_see_them(charts: tuple[Chart, ...]) -> None:
    chart = charts[0]
    assert chart.about == (
        "sst2, acc against throughput. torch: 81.3 at 310 examples/s; onnx fp32: 81.3 at 403 examples/s; "
        "onnx int8: 80.8 at 931 examples/s."
    )
    for text in ("onnx fp32", "tf-idf", "acc, points", "throughput at batch 16, examples/s", "below: trivial 50.9"):
        assert text in chart.svg


def test_markdown_says_the_same_and_its_charts_exist(written: Path) -> None:
    markdown = (written / "report.md").read_text(encoding="utf-8")
    for text in ("Nowhere worse by more than chance are torch and onnx fp32", "## Against the trivial answer",
                 "lmtasks run benchmarks/first-light.yaml"):  # fmt: skip
        assert text in markdown
    pictures = re.findall(r"\]\((charts/[^)]*)\)", markdown)
    assert len(pictures) == len(TASKS) + 1
    assert all((written / picture).is_file() for picture in pictures)


@pytest.mark.parametrize("which", ["written", "hostile"])
def test_markdown_tables_are_aligned(which: str, request: pytest.FixtureRequest) -> None:
    lines = (request.getfixturevalue(which) / "report.md").read_text(encoding="utf-8").split("\n")
    tables: list[list[str]] = [[]]
    for line in lines:
        if line.startswith("|"):
            tables[-1].append(line)
        elif tables[-1]:
            tables.append([])
    tables = [table for table in tables if table]
    assert len(tables) >= 5
    for table in tables:
        assert len({sum(2 if east_asian_width(mark) in "WF" else 1 for mark in line) for line in table}) == 1
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1


def test_a_run_of_baselines_alone_has_a_page_too(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    for file in (*folder.glob("cells/torch*"), *folder.glob("cells/onnx*"), *folder.glob("speed/*")):
        file.unlink()
    page = write_report(folder).read_text(encoding="utf-8")
    parsed(page)
    assert "No model was scored yet." not in page  # rivals compete where there is nobody else
    assert not re.search(r"<h2><span data-t=\d+>Speed</span></h2>", page)


def test_two_names_that_become_one_file_stay_apart(charts: tuple[Chart, ...]) -> None:
    assert len(set(chart_files((*charts, *charts)))) == 2 * len(charts)
