"""Figures that others published, beside the run's own."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from synthetic import write_run

from lmtasks.errors import UsageError
from lmtasks.report.paired import published_table
from lmtasks.report.publish import publish
from lmtasks.report.records import read_run
from lmtasks.report.write import write_report
from lmtasks.run.plan import load_plan

BY = "Somebody, 2014"
FIGURES: Mapping[str, tuple[dict[str, object], tuple[str, ...]]] = {
    "a fraction that is reached": (
        {"task": "sst2", "variant": "torch", "value": 82.7, "wanted": 81.3, "by": BY},
        ("torch", "81.3", "81.3", "yes", "82.7", BY),
    ),
    "one that is not": (
        {"task": "sst2", "variant": "onnx int8", "value": 81.5, "by": BY},
        ("onnx int8", "80.8", "81.5", "no", "81.5", BY),
    ),
    "less is better": (
        {"task": "ptb", "variant": "torch", "value": 115.9, "metric": "token_perplexity", "by": BY},
        ("torch", "61.22", "115.9", "yes", "115.9", BY),
    ),
    "nobody ran it": (
        {"task": "ptb", "variant": "lstm", "value": 115.9, "by": BY},
        ("lstm", "not run", "115.9", "–", "115.9", BY),
    ),
}


def run_with(folder: Path, *figures: dict[str, object]) -> Path:
    run = write_run(folder)
    header = json.loads((run / "run.json").read_text())
    header["plan"]["published"] = figures
    (run / "run.json").write_text(json.dumps(header))
    return run


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_stands_beside_the_score(name: str, tmp_path: Path) -> None:
    figure, cells = FIGURES[name]
    table = published_table(read_run(run_with(tmp_path, figure)))
    assert table is not None
    (line,) = table.lines
    assert line.name == figure["task"]
    assert tuple(cell.text for cell in line.cells) == cells


def test_both_pages_and_a_published_folder_have_it(tmp_path: Path) -> None:
    run = run_with(tmp_path / "run", FIGURES["less is better"][0])
    write_report(run)
    for page in ("report.md", "index.html"):
        assert "Beside what was published" in (run / page).read_text(encoding="utf-8")
        assert BY in (run / page).read_text(encoding="utf-8")
    target = publish(run, reports=tmp_path / "reports").parent
    assert published_table(read_run(target)) == published_table(read_run(run))


def test_a_run_without_any_has_no_such_section(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    assert published_table(read_run(run)) is None
    write_report(run)
    assert "Beside what was published" not in (run / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("figure", "sentence"),
    [
        ("{task: starter_topic_en, variant: mayority, value: 25, by: me}", "did you mean 'majority'"),
        ("{task: starter_topic_zh, variant: majority, value: 25, by: me}", "did you mean 'starter_topic_en'"),
        ("{task: starter_topic_en, variant: majority, value: 25, by: me, metrik: acc}", "did you mean 'metric'"),
    ],
)
def test_a_plan_names_tasks_and_variants_of_its_own(figure: str, sentence: str, tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(
        "plan: p\ntasks: starter_topic_en\nvariants: [{name: majority, baseline: majority}]\n"
        f"published:\n  - {figure}\n"
    )
    with pytest.raises(UsageError, match=sentence):
        load_plan(file)
