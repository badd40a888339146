"""Samples on the page: which are shown, what is counted over all of them, and texts that would harm a page."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from synthetic import write_samples

from lmtasks.report.publish import publish
from lmtasks.report.records import RunRecords, read_run
from lmtasks.report.samples import LONGEST, MOST, TaskSamples, as_json, read_samples, samples_table
from lmtasks.report.view import view
from lmtasks.report.write import write_report

HOSTILE = "</script><script>alert(1)</script> \x1b[31mred \u202eturned & <b>bold</b> \u2028"


def of(folder: Path) -> TaskSamples:
    (found,) = read_samples(read_run(folder), out=folder)
    return found


@pytest.fixture
def sampled(folder: Path) -> Path:
    write_samples(folder, n=200)
    return folder


def test_examples_are_told_apart_by_what_variants_make_of_them(sampled: Path) -> None:
    """torch errs on every fifth of 200, int8 on every fourth, trivial on every odd one; all on every twentieth. So all
    are right where a number is even, but no multiple of 4 or 5."""
    found = of(sampled)
    assert found.shown["variants"] == ["torch", "onnx int8", "trivial"]
    assert found.shown["n"] == 200
    assert dict(found.parts) == {"differ": 150, "fail": 10, "right": 40}
    assert len(found.shown["rows"]) == MOST
    shown = [row["part"] for row in found.shown["rows"]]
    assert shown.count("fail") == 10
    row = next(row for row in found.shown["rows"] if row["part"] == "fail")
    assert row["id"] % 20 == 0
    assert row["values"] == [0.0, 0.0, 0.0]
    assert [found.shown["texts"][place] for place in row["answers"]] == ["positive"] * 3
    table = samples_table([found])
    assert table is not None
    assert [cell.text for cell in table.lines[0].cells] == ["200", "150", "10", "60"]


def test_the_matrix_counts_every_example_and_its_classes(sampled: Path) -> None:
    found = of(sampled)
    assert found.shown["classes"] == ["negative", "positive"]
    trivial = found.shown["confusion"][2]
    assert trivial == [[90, 10, 0], [100, 0, 0]]
    assert sum(map(sum, found.shown["confusion"][0])) == 200


def test_answers_in_other_words_count_as_the_class_that_they_name(sampled: Path) -> None:
    """A prompted model answers 差 and 好 where a head answers negative and positive."""
    file = sampled / "samples" / "onnx int8--sst2--s1234.jsonl"
    text = file.read_text(encoding="utf-8")
    head = of(sampled).shown["confusion"][1]
    file.write_text(text.replace('"negative"', '"差"').replace('"positive"', '"好"'), encoding="utf-8")
    assert of(sampled).shown["classes"] == ["negative", "positive"]
    assert of(sampled).shown["confusion"][1] == head
    file.write_text(text.replace('"answer": "positive"', '"answer": "perhaps"'), encoding="utf-8")
    assert sum(line[-1] for line in of(sampled).shown["confusion"][1]) > 0  # no class


def test_the_calibration_error_is_that_of_its_bins(sampled: Path) -> None:
    """Every answer has probability e^-0.2 / (e^-0.2 + e^-1.7) = 0.8176, torch is right on 160 of 200."""
    torch = of(sampled).reliability[0]
    assert torch.counts == (200,)
    assert torch.stated[0] == pytest.approx(0.81757, abs=1e-5)
    assert torch.error == pytest.approx(0.01757, abs=1e-5)


def test_a_page_of_hostile_texts_runs_nothing_of_them(folder: Path) -> None:
    write_samples(folder, text=HOSTILE)
    page = write_report(folder).read_text(encoding="utf-8")
    assert page.count("<script") == 3  # the page's own, samples and words
    assert page.count("</script") == 3
    assert "\x1b" not in page
    assert "\u202e" not in page
    data = json.loads(as_json([each.shown for each in read_samples(read_run(folder), out=folder)]))
    assert data[0]["rows"][0]["text"].startswith("</script><script>alert(1)</script> \\x1b[31mred \\u202eturned")


def test_a_megabyte_in_one_field_is_cut_and_says_so(folder: Path) -> None:
    write_samples(folder, n=4, text="word " * 200_000)
    text = of(folder).shown["rows"][0]["text"]
    assert len(text) < LONGEST + 50
    assert "[… 999,300 characters …]" in text
    assert write_report(folder).stat().st_size < 400_000


def test_half_a_surrogate_pair_is_no_fault(folder: Path) -> None:
    write_samples(folder, n=4)
    file = folder / "samples" / "torch--sst2--s1234.jsonl"
    file.write_text(file.read_text(encoding="utf-8").replace("on the film", "\\ud83d film"), encoding="utf-8")
    write_report(folder)


def test_a_file_of_another_form_is_read_too_and_a_damaged_one_is_named(sampled: Path) -> None:
    file = sampled / "samples" / "torch--sst2--s1234.jsonl"
    as_written = of(sampled)
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    turned = [json.dumps(dict(reversed(line.items()))) for line in lines]
    file.write_text("\n".join(turned), encoding="utf-8")
    assert of(sampled).shown == as_written.shown
    file.write_text('{"doc_id": 0, "doc"', encoding="utf-8")
    found = of(sampled)
    assert found.shown["variants"] == ["onnx int8", "trivial"]
    assert found.remarks[0].startswith("sst2: the samples of torch cannot be read (")


def test_samples_of_other_rows_are_not_shown_beside_them(sampled: Path) -> None:
    file = sampled / "cells" / "torch--0--s1234.json"
    record = json.loads(file.read_text(encoding="utf-8"))
    record["conditions"]["data_fingerprint"] = "other"
    file.write_text(json.dumps(record), encoding="utf-8")
    both = read_samples(read_run(sampled), out=sampled)
    assert {each.shown["name"]: each.shown["variants"] for each in both} == {
        "sst2": ["onnx int8", "trivial"],
        "sst2 (other rows)": ["torch"],
    }


def test_links_lead_to_the_whole_files(sampled: Path, tmp_path: Path) -> None:
    (found,) = read_samples(read_run(sampled), out=tmp_path / "page")
    assert found.shown["files"][0] == "../run/samples/torch--sst2--s1234.jsonl"
    assert of(sampled).shown["files"][1] == "samples/onnx%20int8--sst2--s1234.jsonl"


def test_without_samples_there_is_no_section_and_published_folders_have_none(sampled: Path, tmp_path: Path) -> None:
    target = publish(sampled, reports=tmp_path / "reports")
    assert 'id="samples"' not in target.read_text(encoding="utf-8")
    assert not (target.parent / "samples").exists()
    shutil.rmtree(sampled / "samples")
    assert view(read_run(sampled)).samples is None


def test_many_variants_and_tasks_share_what_a_page_bears(run: RunRecords, sampled: Path) -> None:
    """1,600 cells: fewer examples of each task are shown, 20,000 answers / 1,600 = 12."""
    cell = next(cell for cell in run.cells if (cell.task.name, cell.variant.name) == ("sst2", "torch"))
    many = tuple(
        cell.model_copy(
            update={
                "task": cell.task.model_copy(update={"name": f"task{task}"}),
                "variant": cell.variant.model_copy(update={"name": f"variant{variant}"}),
            }
        )
        for task in range(40)
        for variant in range(40)
    )
    file = sampled / "samples" / "torch--sst2--s1234.jsonl"
    found = read_samples(replace(run, cells=many, samples={cell.id: file}), out=sampled)
    assert {len(each.shown["rows"]) for each in found} == {12}
