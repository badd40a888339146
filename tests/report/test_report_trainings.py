"""What the training of each model took, beside what came of it."""

import json
from pathlib import Path

import pytest
from synthetic import write_run

from lmtasks.errors import UsageError
from lmtasks.report.chinese import chinese
from lmtasks.report.conditions import training_table
from lmtasks.report.publish import publish
from lmtasks.report.records import read_run
from lmtasks.report.write import write_report

TRAINED = {"seconds": 90.0, "steps": 400, "weights": 3_018_006, "stopped": "steps", "best": 0.9, "best_step": 300}


def trained_run(folder: Path) -> Path:
    """The three variants of the model `mini` carry its training; torch has been made with a second seed too."""
    run = write_run(folder)
    for file in sorted((run / "cells").glob("*.json")):
        record = json.loads(file.read_text())
        if record["variant"]["model"] != "mini":
            continue
        file.write_text(json.dumps({**record, "trained": TRAINED}))
        if record["variant"]["name"] == "torch":
            other = {**record, "seed": 7, "trained": {**TRAINED, "seconds": 110.0, "steps": 500, "stopped": "patience"}}
            file.with_name(file.name.replace("s1234", "s7")).write_text(json.dumps(other))
    return run


def test_a_model_has_one_row_the_mean_over_its_seeds(tmp_path: Path) -> None:
    table = training_table(read_run(trained_run(tmp_path)))
    assert table is not None
    (line,) = table.lines
    assert line.name == "mini"
    assert [cell.text for cell in line.cells[:4]] == ["1 min 40 s", "2", "450", "3,018,006"]
    assert line.cells[4].text.startswith("sst2 81.3, tatoeba_en_zh 21.4, ")
    assert table.notes == ("mini: it had stopped to gain after 500 steps (seed 7)",)
    assert line.cells[0].notes == (1,)


def test_both_pages_and_a_published_folder_have_it(tmp_path: Path) -> None:
    run = trained_run(tmp_path / "run")
    write_report(run)
    for page in ("report.md", "index.html"):
        assert "Seconds of training steps" in (run / page).read_text(encoding="utf-8")
    target = publish(run, reports=tmp_path / "reports").parent
    assert training_table(read_run(target)) == training_table(read_run(run))


def test_heads_that_weigh_words_are_named(tmp_path: Path) -> None:
    run = trained_run(tmp_path / "run")
    assert not any("n-grams" in note for note in training_table(read_run(run)).notes)
    for file in run.glob("cells/*.json"):
        record = json.loads(file.read_text())
        if "trained" in record and record["task"]["name"] == "sst2":
            file.write_text(json.dumps({**record, "trained": {**record["trained"], "words": 1234}}))
    (note,) = [note for note in training_table(read_run(run)).notes if "n-grams" in note]
    assert note.endswith("beside the backbone's states: sst2")
    assert chinese(note).endswith("的任务头：sst2")


def test_a_run_that_trained_nothing_is_read_as_before(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    assert training_table(read_run(run)) is None
    write_report(run)
    assert "Seconds of training steps" not in (run / "report.md").read_text(encoding="utf-8")


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    run = trained_run(tmp_path)
    file = next((run / "cells").glob("torch--*.json"))
    record = json.loads(file.read_text())
    file.write_text(json.dumps({**record, "trained": {"seconds": "long"}}))
    with pytest.raises(UsageError, match=r"torch--.*trained\.seconds"):
        read_run(run)
