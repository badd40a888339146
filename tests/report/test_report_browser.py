"""The page in a real browser: headless Chromium, as Debian has it. Skipped where it, playwright or axe is not there."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from synthetic import write_run, write_samples, write_words

from lmtasks.report.write import write_report

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MISSING = [
    name
    for name, there in {
        "Chromium (apt-get install chromium)": CHROMIUM,
        "playwright (pip install lmtasks[browser])": find_spec("playwright"),
        "axe-core-python (pip install lmtasks[browser])": find_spec("axe_core_python"),
    }.items()
    if not there
]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"the browser's tests need {', '.join(MISSING)}")
SERIOUS = ("serious", "critical")


@dataclass
class Opened:
    """A page and what went wrong in it."""

    page: "Page"
    faults: list[str] = field(default_factory=list)
    """Messages of the console, errors of the script, and requests beyond the file itself."""

    def table(self, caption: str) -> str:
        """The selector of the table with these words in its caption."""
        return f'.table:has(.caption:has-text("{caption}"))'

    def names(self, caption: str) -> list[str]:
        """The names of the lines that are seen."""
        rows = self.page.locator(f"{self.table(caption)} tbody tr:not(.group):visible > th")
        return [str(row.get_attribute("data-sort")) for row in rows.all()]


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


def opened(browser: "Browser", file: Path, *, width: int = 1440, dark: bool = False) -> Opened:
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if dark else "light",
        permissions=["clipboard-read", "clipboard-write"],
    )
    found = Opened(page=context.new_page())
    found.page.on("console", lambda message: found.faults.append(f"console: {message.text}"))
    found.page.on("pageerror", lambda error: found.faults.append(f"script: {error}"))
    found.page.on("request", lambda request: found.faults.append(f"request: {request.url}"))
    found.page.goto(file.as_uri())
    found.faults.remove(f"request: {file.as_uri()}")
    return found


@pytest.fixture
def shown(browser: "Browser", written: Path) -> Iterator[Opened]:
    found = opened(browser, written / "index.html")
    yield found
    assert found.faults == []
    found.page.context.close()


@pytest.mark.parametrize("width", [390, 1440, 1920])
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_opens_without_a_fault_and_nothing_serious_is_found(
    width: int, dark: bool, browser: "Browser", written: Path
) -> None:
    from axe_core_python.sync_playwright import Axe

    found = opened(browser, written / "index.html", width=width, dark=dark)
    result = Axe().run(found.page)
    assert [(each["id"], each["nodes"][0]["html"]) for each in result["violations"] if each["impact"] in SERIOUS] == []
    assert found.faults == []
    found.page.context.close()


@pytest.mark.parametrize("width", [1440, 1920])
def test_no_column_is_cut(width: int, browser: "Browser", written: Path) -> None:
    found = opened(browser, written / "index.html", width=width)
    beyond = "boxes => boxes.filter(box => box.scrollWidth > box.clientWidth + 1).map(box => box.ariaLabel)"
    assert found.page.locator(".wide").evaluate_all(beyond) == []
    assert found.page.evaluate("document.documentElement.scrollWidth") == width
    found.page.context.close()


def test_a_phone_shows_that_a_table_goes_on_to_the_side(browser: "Browser", written: Path) -> None:
    found = opened(browser, written / "index.html", width=390)
    assert found.page.evaluate("document.documentElement.scrollWidth") == 390
    wide = found.page.locator(f"{found.table('Each variant in fresh processes')} .wide")
    assert wide.evaluate("box => box.classList.contains('cut')")
    wide.evaluate("box => box.scrollTo(box.scrollWidth, 0)")
    found.page.wait_for_function("box => !box.classList.contains('cut')", arg=wide.element_handle())
    first = wide.locator("tbody th").first.bounding_box()
    assert first is not None
    assert first["x"] >= 0  # the names stay where they are
    found.page.context.close()


def test_the_first_click_puts_the_best_first(shown: Opened) -> None:
    caption = "Each variant in fresh processes"
    head = shown.page.locator(f"{shown.table(caption)} thead th")
    head.filter(has_text="throughput").locator("button").click()
    assert shown.names(caption) == ["onnx int8", "onnx fp32", "torch"]
    head.filter(has_text="on disk").locator("button").click()  # the smallest
    assert shown.names(caption) == ["onnx int8", "onnx fp32", "torch"]
    head.filter(has_text="on disk").locator("button").click()
    assert shown.names(caption) == ["torch", "onnx fp32", "onnx int8"]
    assert head.filter(has_text="on disk").get_attribute("aria-sort") == "descending"


def test_a_filter_leaves_the_lines_with_its_words(shown: Opened) -> None:
    caption = "Latency of one request alone"
    before = shown.names(caption)
    shown.page.locator(f"{shown.table(caption)} .filter").fill("sst2 int8")
    assert shown.names(caption) == ["onnx int8"]
    assert shown.page.locator(f"{shown.table(caption)} tr.group:visible").count() == 1
    shown.page.locator(f"{shown.table(caption)} .filter").fill("")
    assert shown.names(caption) == before


def test_a_table_is_copied_as_it_is_seen(shown: Opened) -> None:
    caption = "The main metric of each task"
    table = shown.page.locator(shown.table(caption))
    table.locator("[data-as=csv]").click()
    copied = shown.page.evaluate("navigator.clipboard.readText()").splitlines()
    assert copied[0].startswith(",variant,sst2 acc · n 872,tatoeba_en_zh")
    assert copied[1].startswith('models,"torch mini, full, fp32, 2 threads",81.3 ±1.3,')
    assert len(copied) == 6
    table.locator("[data-as=markdown]").click()
    copied = shown.page.evaluate("navigator.clipboard.readText()").splitlines()
    assert re.fullmatch(r"\|( :--- )(\| ---: )+\|", copied[1])
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in copied}) == 1


def test_contents_lead_to_every_section(shown: Opened) -> None:
    links = shown.page.locator("nav a")
    targets = [str(link.get_attribute("href")) for link in links.all()]
    assert len(targets) == len(set(targets)) >= 8
    assert all(shown.page.locator(target).count() == 1 for target in targets)
    shown.page.locator("nav a", has_text="Conditions").click()
    shown.page.wait_for_function("document.querySelector('nav a[aria-current]') !== null")


def test_notes_are_one_line_until_they_are_asked_for(shown: Opened) -> None:
    notes = shown.page.locator(f"{shown.table('The main metric of each task')} .notes")
    assert not notes.locator("li").first.is_visible()
    notes.locator("summary").click()
    assert notes.locator("li").first.is_visible()


def test_paper_shows_what_is_folded_and_no_buttons(shown: Opened) -> None:
    shown.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    shown.page.emulate_media(media="print")
    assert shown.page.locator(".notes li").first.is_visible()
    assert not shown.page.locator(".tools").first.is_visible()
    assert not shown.page.locator("nav").is_visible()


def test_samples_are_found_by_kind_label_length_and_words(shown: Opened) -> None:
    box, cards = shown.page.locator("#sample-box"), shown.page.locator("#sample-box article")

    def numbers() -> list[int]:
        return [int(each.removeprefix("#")) for each in cards.locator(".over").all_inner_texts()]

    count = box.locator(".count")
    assert count.inner_text().endswith("/ 40 / 40")
    box.locator("[name=kind]").select_option("fail")
    assert numbers() == [0, 20]
    assert [line.inner_text().split()[0] for line in cards.first.locator(".said-by").all()] == [
        "right",
        "torch",
        "onnx",
    ]
    box.locator("[name=kind]").select_option("wins")  # torch against int8: int8 alone errs
    assert [card.locator(".over").inner_text() for card in cards.all()] == [
        f"#{doc}" for doc in (4, 8, 12, 16, 24, 28, 32, 36)
    ]
    box.locator("[name=kind]").select_option("losses")
    assert [card.locator(".over").inner_text() for card in cards.all()] == [
        f"#{doc}" for doc in (5, 10, 15, 25, 30, 35)
    ]
    box.locator("[name=label]").select_option("negative")
    assert numbers() == [10, 30]
    box.locator("[name=words]").fill("sentence 30")
    assert cards.count() == 1
    assert cards.first.locator("mark").all_inner_texts() == ["positive"]  # the wrong one
    box.locator("[name=words]").fill("")
    box.locator("[name=label]").select_option("")
    box.locator("[name=kind]").select_option("all")
    box.locator("[name=least]").fill("60")
    assert all(len(text) >= 60 for text in cards.locator(".asked").all_inner_texts())
    box.locator("[name=least]").fill("")
    assert cards.count() == 12
    box.locator("[name=more]").click()
    assert cards.count() == 40


def test_the_matrix_and_f1_of_each_class_are_drawn(shown: Opened) -> None:
    matrix = shown.page.locator(".matrix").nth(0)
    assert matrix.locator("caption").inner_text() == "torch"
    cells = [row.locator("td").all_inner_texts() for row in matrix.locator("tbody tr").all()]
    assert cells == [["16", "4", "80.0", "80.0", "80.0"], ["4", "16", "80.0", "80.0", "80.0"]]


def test_hostile_samples_stay_text(browser: "Browser", tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    write_samples(folder, text="<img src=x onerror=alert(1)></script><script>alert(1)</script>\x1b[31m\u202e")
    found = opened(browser, write_report(folder))
    asked = found.page.locator("article .asked").first
    assert asked.inner_text() == "<img src=x onerror=alert(1)></script><script>alert(1)</script>\\x1b[31m\\u202e"
    assert found.page.locator("article img").count() == 0
    assert found.faults == []
    found.page.context.close()


def test_names_in_charts_do_not_touch_in_the_browsers_own_letters(shown: Opened) -> None:
    touching = """charts => charts.flatMap(chart => {
        const names = [...chart.querySelectorAll("text")].map(each => [each.textContent, each.getBoundingClientRect()]);
        const meet = (p, q) =>
            p.left < q.right - 1 && q.left < p.right - 1 && p.top < q.bottom - 2 && q.top < p.bottom - 2;
        return names.flatMap(([a, p], i) => names.slice(i + 1).filter(([b, q]) => meet(p, q)).map(([b]) => [a, b]));
    })"""
    assert shown.page.locator("#trade svg").evaluate_all(touching) == []


def test_a_click_on_a_point_leaves_its_variant_in_all_tables(shown: Opened) -> None:
    point = shown.page.locator("#trade figure").first.locator("[data-variant='onnx int8']")
    mark = point.locator("rect, polygon")
    mark.first.click()
    assert shown.page.locator("#only > span").inner_text() == "onnx int8"
    assert set(shown.names("Latency of one request alone")) == {"onnx int8"}
    heads = shown.page.locator(f"{shown.table('Each exported variant minus')} thead th:visible .sort")
    assert [head.inner_text() for head in heads.all()] == ["task", "onnx int8"]
    shown.page.locator("#only button").click()
    assert set(shown.names("Latency of one request alone")) == {"torch", "onnx fp32", "onnx int8"}


def test_the_switch_turns_the_whole_page_chinese_and_back(shown: Opened) -> None:
    page = shown.page
    before = page.locator("body").inner_text()
    page.locator("#language").click()
    assert page.evaluate("document.documentElement.lang") == "zh"
    assert page.locator("#quality h2").inner_text() == "质量"
    assert page.locator("nav").get_attribute("aria-label") == "目录"
    assert page.locator(".filter").first.get_attribute("placeholder") == "筛选"
    assert page.locator("[name=kind] option").first.inner_text() == "变体不一致"
    assert "正确答案" in page.locator("article").first.inner_text()
    head = page.locator("#speed thead th").filter(has_text="磁盘占用").locator("button")
    head.click()  # sorting goes on
    page.reload()
    page.locator("#language").click()
    page.locator("#language").click()
    assert page.locator("body").inner_text() == before
    shown.faults.clear()  # the request of the page itself


def test_a_page_in_chinese_has_no_cut_column_and_nothing_serious(browser: "Browser", tmp_path: Path) -> None:
    from axe_core_python.sync_playwright import Axe

    folder = write_run(tmp_path / "run")
    write_samples(folder)
    for width in (390, 1440):
        found = opened(browser, write_report(folder, language="zh"), width=width)
        assert found.page.evaluate("document.documentElement.scrollWidth") == width
        result = Axe().run(found.page)
        assert [each["id"] for each in result["violations"] if each["impact"] in SERIOUS] == []
        assert found.page.locator("#language").inner_text() == "English"
        found.page.locator("#language").click()
        assert found.page.locator("#quality h2").inner_text() == "Quality"
        assert found.faults == []
        found.page.context.close()


def test_words_that_moved_an_answer_are_marked_and_listed(browser: "Browser", tmp_path: Path) -> None:
    from axe_core_python.sync_playwright import Axe

    folder = write_run(tmp_path / "run")
    write_samples(folder)
    write_words(folder, variants=("torch", "onnx int8"), docs=(5, 7))
    write_report(folder)
    found = opened(browser, folder / "index.html")
    page = found.page
    page.select_option("select[name=kind]", "words")
    cards = page.locator("#sample-box article")
    assert cards.count() == 2
    first = cards.first
    assert first.locator(".asked").inner_text() == "sentence 5 on the film and on and on and on and on and on"
    assert first.locator(".word").all_inner_texts() == ["sentence", "film"]
    assert first.locator(".word.against").all_inner_texts() == ["film"]
    lists = [" ".join(text.split()) for text in first.locator(".moved").all_inner_texts()]
    assert lists == ["sentence +41.5 without it: positive film −12.3"] * 2
    page.click("#language")
    assert "去掉后：" in first.locator(".moved").first.inner_text()
    assert "遮挡法" in page.locator("#samples details.notes").first.text_content()
    assert found.faults == []
    violations = Axe().run(page)["violations"]
    assert [each["id"] for each in violations if each["impact"] in SERIOUS] == []
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
