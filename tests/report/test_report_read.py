import json
from pathlib import Path

import pytest
from synthetic import TASKS, VALUES

from lmtasks.errors import UsageError
from lmtasks.report.grid import learned, main_metric, models, score, trivial
from lmtasks.report.records import RunRecords, read_run

A_CELL = "cells/torch--0--s1234.json"


def change(file: Path, **fields: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), **fields}), encoding="utf-8")


def test_a_run_is_read_in_the_plans_order(run: RunRecords) -> None:
    assert run.name == "first-light"
    assert [variant.name for variant in run.variants] == list(VALUES)
    assert [task.name for task in run.tasks] == list(TASKS)
    assert run.command.startswith("lmtasks run benchmarks/first-light.yaml")
    assert set(run.speeds) == {"torch", "onnx fp32", "onnx int8"}
    assert [variant.name for variant in models(run)] == ["torch", "onnx fp32", "onnx int8"]
    assert [variant.name for variant in trivial(run)] == ["trivial"]
    assert [variant.name for variant in learned(run)] == ["tf-idf"]


def test_the_main_metric_is_the_tasks_first(run: RunRecords) -> None:
    assert [main_metric(run, task) for task in run.tasks] == [metric for _, metric, _, _ in TASKS.values()]


def test_numbers_that_json_has_no_form_for_are_read(folder: Path) -> None:
    record = json.loads((folder / "cells/torch--4--s1234.json").read_text(encoding="utf-8"))
    record["result"]["metrics"]["token_perplexity"].update(value="inf", stderr=None, ci95=None)
    change(folder / "cells/torch--4--s1234.json", **record)
    found = score(read_run(folder).of(variant="torch", task="ptb"), "token_perplexity")
    assert found is not None
    assert found.value == float("inf")


def test_several_seeds_become_one_score(folder: Path) -> None:
    record = json.loads((folder / A_CELL).read_text(encoding="utf-8"))
    estimate = record["result"]["metrics"]["acc"]
    estimate["value"] += 0.02
    change(folder / A_CELL, id="torch--sst2--s2", seed=2, result=record["result"])
    before = json.loads((folder / A_CELL).read_text(encoding="utf-8"))
    (folder / "cells/second.json").write_text(json.dumps(before), encoding="utf-8")
    estimate["value"] -= 0.02
    change(folder / A_CELL, id="torch--sst2--s1234", seed=1234, result=record["result"])
    found = score(read_run(folder).of(variant="torch", task="sst2"), "acc")
    assert found is not None
    assert found.seeds == 2
    assert found.value == pytest.approx(0.8131 + 0.01)
    assert found.ci95 is not None
    # sampling 0.0129 / 1.96, spread of the seeds 0.02 / sqrt(2), over two of them
    assert found.ci95[1] - found.value == pytest.approx(1.96 * ((0.0129 / 1.96) ** 2 + 0.0002 / 2) ** 0.5)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", r"is damaged, it is no JSON"),
        ("[1]", r"holds no JSON object"),
        ('{"schema": 7}', r"has schema 7, this version of lmtasks reads 1"),
        ('{"schema": 1}', r"the field id is missing"),
        (
            '{"schema": 2, "versions": {"lmtasks": "0.9.1"}}',
            r"reads 1; lmtasks 0\.9\.1 wrote it and reads it",
        ),
    ],
)
def test_a_damaged_or_foreign_file_is_named(folder: Path, text: str, complaint: str) -> None:
    (folder / A_CELL).write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=complaint) as raised:
        read_run(folder)
    assert "torch--0--s1234.json" in str(raised.value)


def test_a_field_of_the_wrong_type_is_named(folder: Path) -> None:
    change(folder / A_CELL, result={"n": "many", "metrics": {}})
    with pytest.raises(UsageError, match=r"the field result\.n should be a whole number, but it is \"many\""):
        read_run(folder)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no run: it has no folder 'cells'"):
        read_run(tmp_path)
    (tmp_path / "cells").mkdir()
    with pytest.raises(UsageError, match="has no finished cell yet"):
        read_run(tmp_path)
