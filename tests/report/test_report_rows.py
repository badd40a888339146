"""The report of a run that asks by rows: curves, their table, and no value that joins different numbers of rows."""

import csv
import json
import re
from pathlib import Path

import pytest

from lmtasks.report.charts import Chart
from lmtasks.report.curves import curve_sentences, curves_table, learning_curves, points_of
from lmtasks.report.grid import main_score
from lmtasks.report.publish import publish
from lmtasks.report.records import RunRecords, read_run
from lmtasks.report.view import view
from lmtasks.report.write import write_report
from lmtasks.run.plan import load_plan
from lmtasks.run.run_plan import RunOptions, run_plan
from lmtasks.settings.data import DataAccess
from lmtasks.task.index import default_index

TASK, OTHER = "starter_topic_en", "starter_sentiment_en"
PLAN = f"""
plan: curves
question: How many rows?
tasks: [{TASK}, {OTHER}]
seeds: [1, 2, 3]
rows: [8, 60, all, 999]
models:
  vectors: {{backbone: svm, together: false}}
variants:
  - {{name: majority, baseline: majority}}
  - {{name: random, baseline: random}}
  - {{name: tf-idf, baseline: tfidf}}
  - {{name: vectors, model: vectors}}
bench: null
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("curves")
    file = folder / "plan.yaml"
    file.write_text(PLAN)
    ran = run_plan(
        load_plan(file), plan_file=file, index=default_index(), out=folder / "run",
        options=RunOptions(data=DataAccess(offline=True), threads=1, command="lmtasks run curves"),
        report=lambda _: None,
    )  # fmt: skip
    assert ran.failed == ()
    write_report(folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def run(folder: Path) -> RunRecords:
    return read_run(folder)


def test_numbers_of_rows_are_apart_everywhere(run: RunRecords) -> None:
    assert run.rows_asked == (8, 60, 999, "all")
    assert run.row_counts == (8, 60, "all")
    (task,) = (each for each in run.tasks if each.name == TASK)
    (variant,) = (each for each in run.variants if each.name == "tf-idf")
    values = {}
    for rows in run.row_counts:
        found = main_score(run.at(rows), variant=variant, task=task)
        assert found is not None
        assert found.seeds == 3
        values[rows] = found.value
    assert len(set(values.values())) == 3
    assert [point.score.value for point in points_of(run, variant=variant, task=task)] == list(values.values())
    assert [point.learned for point in points_of(run, variant=variant, task=task)] == [8, 60, 135]
    (random,) = (each for each in run.variants if each.name == "random")
    assert points_of(run, variant=random, task=task) == ()
    report = view(run)
    assert report.quality.caption.startswith("With all rows: ")
    at_all = {line.name: line.cells for line in report.quality.lines}
    shown = next(cell for line in report.quality.lines if line.name == "tf-idf" for cell in line.cells[:1])
    assert shown.sort == values["all"], at_all


def test_the_table_has_a_column_for_each_number_and_says_where_curves_end(run: RunRecords) -> None:
    table = curves_table(run)
    assert table is not None
    assert [column.title for column in table.columns] == ["8 rows", "60 rows", "999 rows", "all rows"]
    groups = {line.group for line in table.lines}
    assert f"{TASK} · acc · n 75 · all rows: 135" in groups
    line = next(line for line in table.lines if line.name == "tf-idf")
    assert [cell.text == "–" for cell in line.cells] == [False, False, True, False]
    assert f"task {TASK} has 135 training rows, not 999: its curve ends with all of them." in table.notes
    assert "mean of 3 seeds" in table.notes
    random = next(line for line in table.lines if line.name == "random")
    assert len({cell.text for cell in random.cells}) == 1
    assert not any(cell.best for line in table.lines for cell in line.cells[2:3])


def test_sentences_count_the_tasks_at_each_number_of_rows(run: RunRecords) -> None:
    first, last = curve_sentences(run)
    assert re.fullmatch(
        r"vectors against the best classical rival, by more than chance: (ahead on \d and behind on \d of 2 tasks with "
        r"(8 rows|60 rows|all rows)(; |\.)){3}",
        first,
    )
    assert last.startswith("No model is ahead of the best classical rival by more than chance with ")


def test_the_pages_have_curves_numbers_and_the_commands(folder: Path) -> None:
    markdown, page = (folder / "report.md").read_text(), (folder / "index.html").read_text()
    for text in (markdown, page):
        assert "By the number of labelled rows" in text
        assert "With 8 rows: " in text
        assert "over examples and 3 seeds" in text
        assert "learned from 8 rows, 60 rows, all rows" in text
        assert (
            f"lmtasks adapt --tasks {TASK} --backbone svm --rows 8 --seed 1 --out runs/by-hand/vectors-{TASK}-r8"
            in text
        )
    assert f"](charts/curve-{TASK}.svg)" in markdown
    assert (folder / "charts" / f"curve-{TASK}.svg").read_text().startswith("<svg")
    assert page.count("<svg") == 4  # the curves of both tasks, and how often their probabilities are right


def test_a_chart_has_a_line_and_a_band_a_variant(run: RunRecords) -> None:
    charts: tuple[Chart, ...] = learning_curves(run)
    assert [chart.task for chart in charts] == [f"curve {TASK}", f"curve {OTHER}"]
    svg = charts[0].svg
    assert all(f">{text}<" in svg for text in ("tf-idf", "vectors", "majority", "random", "8", "60", "135", TASK))
    assert svg.count("<polygon") >= 2  # a band each of tf-idf and vectors; of random none
    assert "tf-idf: " in charts[0].about


def test_every_cell_is_a_line_for_spreadsheets(folder: Path) -> None:
    with (folder / "results.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    mine = [each for each in lines if (each["variant"], each["task"], each["metric"]) == ("tf-idf", TASK, "acc")]
    assert [(each["rows_asked"], each["rows_learned"], each["seed"]) for each in mine[:4]] == [
        ("8", "8", "1"), ("8", "8", "2"), ("8", "8", "3"), ("60", "60", "1")
    ]  # fmt: skip
    cell = json.loads((folder / "cells" / f"tf-idf--{TASK}--r60-s1.json").read_text())
    assert float(mine[3]["value"]) == cell["result"]["metrics"]["acc"]["value"]
    ended = [each for each in lines if each["rows_asked"] == "999"]
    assert {each["status"] for each in ended} == {"not-applicable"}
    assert all("its curve ends" in each["reason"] for each in ended)


def test_a_published_folder_says_the_same(folder: Path, tmp_path: Path) -> None:
    page = publish(folder, reports=tmp_path)
    again = (page.parent / "report.md").read_text()
    made = (folder / "report.md").read_text()
    before, _, behind = made.partition("## Samples\n")  # which are not published
    assert again.count("\n") == (before + behind[behind.index("## ") :]).count("\n")
    cell = json.loads((page.parent / "cells" / f"tf-idf--{TASK}--r60-s2.json").read_text())
    assert cell["rows"] == {"asked": 60, "learned": 60}
