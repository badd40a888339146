import json
from pathlib import Path

import pytest
from synthetic import write_run

from lmtasks.errors import UsageError
from lmtasks.report.publish import publish, published_runs
from lmtasks.report.records import read_run
from lmtasks.report.summary import answer
from lmtasks.report.write import render_index


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run with everything that must not be published, and where it was published."""
    root = tmp_path_factory.mktemp("publish")
    run = write_run(root / "runs" / "first-light")
    for name in (
        "models/mini-s1/backbone/model.safetensors",
        "samples/torch--0.jsonl",
        "packages/mini-s1234-fp32/score.onnx",
    ):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("heavy", encoding="utf-8")
    header = json.loads((run / "run.json").read_text(encoding="utf-8"))
    header["command"] = f"lmtasks run plan.yaml --data-root {Path.home()}/data --out {run}"
    (run / "run.json").write_text(json.dumps(header), encoding="utf-8")
    return run, publish(run, reports=root / "reports").parent


def test_records_pages_and_charts_are_published_and_nothing_heavy(published: tuple[Path, Path]) -> None:
    _, report = published
    names = {str(file.relative_to(report)) for file in report.rglob("*") if file.is_file()}
    assert {
        "index.html",
        "report.md",
        "run.json",
        "plan.yaml",
        "parity/mini-s1234-fp32.json",
        "charts/sst2.svg",
    } <= names
    assert not [name for name in names if name.endswith((".onnx", ".safetensors", ".jsonl", ".part"))]
    for file in report.rglob("*.json"):
        text = file.read_text(encoding="utf-8")
        assert "statistics" not in text
        assert "raw_ms" not in text


def test_local_folders_are_not_told(published: tuple[Path, Path]) -> None:
    run, report = published
    command = json.loads((report / "run.json").read_text(encoding="utf-8"))["command"]
    assert command == "lmtasks run plan.yaml --data-root ~/data --out RUN"
    for file in report.rglob("*"):
        assert file.is_dir() or str(run) not in file.read_text(encoding="utf-8")


def test_a_published_report_can_be_read_again(published: tuple[Path, Path]) -> None:
    run, report = published
    assert answer(read_run(report)) == answer(read_run(run))
    assert set(read_run(report).proofs) == {"mini-s1234-fp32", "mini-s1234-int8"}


def test_publishing_again_replaces_and_leaves_nothing_behind(published: tuple[Path, Path]) -> None:
    run, report = published
    (report / "cells" / "stale.json").write_text("{}", encoding="utf-8")
    publish(run, reports=report.parent)
    assert not (report / "cells" / "stale.json").exists()
    assert sorted(item.name for item in report.parent.iterdir()) == [report.name, "index.html"]


def test_a_folder_with_something_else_is_not_replaced(published: tuple[Path, Path], tmp_path: Path) -> None:
    run, _ = published
    (tmp_path / "first-light").mkdir()
    (tmp_path / "first-light" / "thesis.tex").write_text("dear", encoding="utf-8")
    with pytest.raises(UsageError, match="holds something else than a published report"):
        publish(run, reports=tmp_path)
    assert (tmp_path / "first-light" / "thesis.tex").read_text(encoding="utf-8") == "dear"


def test_the_index_lists_every_published_run(published: tuple[Path, Path]) -> None:
    run, report = published
    publish(run, reports=report.parent)
    index = (report.parent / "index.html").read_text(encoding="utf-8")
    assert f'<a href="{report.name}/index.html">' in index
    assert "Which runtime should serve one small model" in index
    assert answer(read_run(report))[0] in index
    assert "<svg" in index
    assert "<script" not in index


def test_the_committed_index_is_that_of_the_committed_reports() -> None:
    """After a change that is meant: publish a run, or write `render_index(published_runs(...))` there."""
    reports = Path(__file__).parents[2] / "reports"
    assert (reports / "index.html").read_text(encoding="utf-8") == render_index(published_runs(reports))
