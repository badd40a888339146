"""The table of paired comparisons, read and published with the rest."""

import json
from pathlib import Path

import pytest
from synthetic import write_run

from lmtasks.errors import UsageError
from lmtasks.report.paired import paired_tables
from lmtasks.report.publish import publish
from lmtasks.report.records import read_run
from lmtasks.report.write import write_report


def test_each_export_stands_against_the_model_that_it_was_exported_from(tmp_path: Path) -> None:
    table = paired_tables(read_run(write_run(tmp_path)))[0]
    assert [column.title for column in table.columns] == ["onnx fp32", "onnx int8"]
    assert [line.name for line in table.lines][:2] == ["sst2", "tatoeba_en_zh"]
    assert table.caption.startswith("Each exported variant minus torch")
    assert "all 10 of the table" in table.caption
    worse = table.lines[1].cells[1]
    assert (worse.text, worse.detail, worse.notes) == ("−2.4", "[−3.1, −1.6] · worse", ())
    still_open = table.lines[0].cells[0]
    assert (still_open.text, still_open.detail) == ("+0.1", "[−0.4, +0.6]")
    assert table.notes[still_open.notes[0] - 1] == "sst2: 872 examples would hardly show less than 0.8 points"


def test_each_model_stands_against_the_best_rivals_and_each_line_names_its_own(tmp_path: Path) -> None:
    table = paired_tables(read_run(write_run(tmp_path)))[1]
    assert table.caption.startswith("Each model minus the best rivals")
    assert [(line.name, line.detail) for line in table.lines][:3] == [
        ("sst2", "acc, minus tf-idf"),
        ("sst2", "acc, minus trivial"),
        ("tatoeba_en_zh", "bleu_zh, minus trivial"),
    ]


def test_comparisons_of_before_there_were_several_questions_are_with_the_first(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    record = json.loads((run / "paired.json").read_text())
    record["comparisons"] = [each for each in record["comparisons"] if each["relation"] == "first"]
    for each in record["comparisons"]:
        del each["relation"]
    (run / "paired.json").write_text(json.dumps(record))
    (table,) = paired_tables(read_run(run))
    assert table.caption.startswith("Each model minus torch")


def test_both_pages_and_a_published_folder_have_it(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    write_report(run)
    for page in ("report.md", "index.html"):
        assert "Paired by example" in (run / page).read_text(encoding="utf-8")
    target = publish(run, reports=tmp_path / "reports").parent
    assert read_run(target).paired == read_run(run).paired


def test_a_run_without_it_is_read_as_before(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    (run / "paired.json").unlink()
    assert read_run(run).paired is None
    assert paired_tables(read_run(run)) == ()
    write_report(run)
    assert "Paired by example" not in (run / "report.md").read_text(encoding="utf-8")


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    record = json.loads((run / "paired.json").read_text())
    record["comparisons"][0]["n"] = "many"
    (run / "paired.json").write_text(json.dumps(record))
    with pytest.raises(UsageError, match=r"paired\.json.*comparisons"):
        read_run(run)
