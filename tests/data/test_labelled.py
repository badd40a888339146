"""Rows without a label, labels that are none, and labels that are one."""

import math
from collections.abc import Sequence
from pathlib import Path

import pytest

import lmtasks.data.local
from lmtasks.data.labelled import labelled_rows, read_labels
from lmtasks.data.local import open_file
from lmtasks.data.splits import load_task_data
from lmtasks.errors import UsageError
from lmtasks.records import Row
from lmtasks.settings.data import DataAccess
from lmtasks.task.load import load_task, own_task
from lmtasks.task.roles import MISSING, label_number
from lmtasks.task.task import Task

TASK = """task: mine
kind: classification
dataset_path: csv
dataset_kwargs: {{data_files: {{test: rows.csv}}}}
test_split: test
inputs: {{text: text, label: label}}
labels: {labels}
doc_to_text: "{{{{text}}}}"
"""


def task_of(folder: Path, *, labels: str = "[neg, pos]", rows: str = "text,label\na,neg\n") -> Task:
    (folder / "rows.csv").write_text(rows, encoding="utf-8")
    (folder / "mine.yaml").write_text(TASK.format(labels=labels), encoding="utf-8")
    return load_task(folder / "mine.yaml")


def rows_with(label: object, *, of: int = 20) -> list[Row]:
    """One row has the label, the others are negative and positive."""
    return [{"text": f"text {n}", "label": label if n == 3 else ("neg", "pos")[n % 2]} for n in range(of)]


@pytest.mark.parametrize("label", [None, math.nan, "  ", "\u200b", "-1", -1, *sorted(MISSING)])
def test_a_row_without_a_label_is_left_out_and_said(tmp_path: Path, label: object) -> None:
    told: list[str] = []
    rows = rows_with(label)
    found = labelled_rows(task_of(tmp_path), rows, where="rows.csv", notify=told.append)
    assert (found.rows, found.left_out) == (rows[:3] + rows[4:], 1)
    assert told == [f"rows.csv: 1 of 20 rows has no label ({label!r}), and is left out: row 4 (counted from 1)."]


def test_more_than_five_in_a_hundred_are_refused_unless_they_are_to_be_left_out(tmp_path: Path) -> None:
    task = task_of(tmp_path)
    rows = [*rows_with("N/A", of=18), {"text": "x", "label": ""}]
    with pytest.raises(UsageError) as error:
        labelled_rows(task, rows, where="rows.csv")
    assert "2 of 19 rows have no label ('N/A', ''), more than 5%: rows 4 and 19 (counted from 1)" in str(error.value)
    assert "--drop-unlabelled" in str(error.value)
    assert labelled_rows(task, rows, where="rows.csv", drop=True).left_out == 2
    with pytest.raises(UsageError, match="19 of 19 rows have no label"):
        labelled_rows(task, [{"text": "x", "label": -1}] * 19, where="rows.csv", drop=True)


def test_a_class_that_a_task_file_names_is_no_missing_label(tmp_path: Path) -> None:
    task = task_of(tmp_path, labels="['NA', '-', '-1', neg, pos]")
    rows: Sequence[Row] = [{"text": "x", "label": label} for label in ("NA", "-", "-1", -1, "neg")]
    assert labelled_rows(task, rows, where="rows.csv").left_out == 0
    assert [label_number(task, row, where="row") for row in rows] == [0, 1, 2, 2, 3]


@pytest.mark.parametrize(
    ("label", "number"), [(" pos", 1), ("pos\u3000", 1), ("\ufeffpos", 1), (1, 1), (1.0, 1), ("0", 0)]
)
def test_a_label_is_read_without_blanks_around_it(tmp_path: Path, label: object, number: int) -> None:
    told: list[str] = []
    task = task_of(tmp_path)
    labelled_rows(task, rows_with(label), where="rows.csv", notify=told.append)
    assert label_number(task, {"text": "x", "label": label}, where="row") == number
    assert bool(told) == (str(label).strip("\ufeff").strip() != str(label))


@pytest.mark.parametrize("label", [1.5, math.inf, [], ["pos"], {"a": 1}, {}, b"pos", (1,)])
def test_what_is_no_class_is_refused_with_its_row(tmp_path: Path, label: object) -> None:
    with pytest.raises(UsageError, match=r"task mine, row 3: the label .* (is|of type)"):
        labelled_rows(task_of(tmp_path), rows_with(label), where="rows.csv")
    with pytest.raises(UsageError, match=r"rows\.csv, row 4 \(counted from 1\), column 'label': the label"):
        read_labels(rows_with(label), column="label", where="rows.csv")


def test_an_empty_text_is_said_and_asked_and_a_missing_one_refused(tmp_path: Path) -> None:
    told: list[str] = []
    rows: list[Row] = [*rows_with("pos"), {"text": " ", "label": "pos"}]
    assert labelled_rows(task_of(tmp_path), rows, where="rows.csv", notify=told.append).rows is rows
    assert told == ["rows.csv: row 21 (counted from 1) has no text, and is asked as it is."]
    for text in (None, math.nan, ["a"]):
        with pytest.raises(UsageError, match="row 1: 'text'"):
            labelled_rows(task_of(tmp_path), [rows[0], {"text": text, "label": "pos"}], where="rows.csv")


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (["pos", " neg", "pos ", None], ("neg", "pos")),
        ([10, 9, 1, math.nan], ("1", "9", "10")),
        ([2.0, 1.0, 10], ("1", "2", "10")),
        ([True, False], ("False", "True")),
        ([10**29, 1], ("1", "1" + "0" * 29)),
        (["none", "hate", "None"], ("hate", "none")),
        (["007", "7"], ("007", "7")),
    ],
)
def test_the_classes_of_a_column(labels: Sequence[object], found: tuple[str, ...]) -> None:
    assert read_labels([{"label": label} for label in labels], column="label", where="rows.csv") == found


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ([True, "true", False], "differ in case, spacing or form alone: 'True' (1 rows), 'true' (1 rows)"),
        (["Pos", "pos", "neg", "pos"], "'Pos' (1 rows), 'pos' (2 rows)"),
        (["very good", "very  good", "bad"], "differ in case"),
        (["caf\u00e9", "cafe\u0301", "bar"], "differ in case"),
        ([True, 0, 1], "truth values beside others"),
        (["pos", "", None], "holds 1 value (2 of 3 rows have no label)"),
        (list(range(201)), "201 different values"),
    ],
)
def test_columns_that_hold_no_classes(labels: Sequence[object], says: str) -> None:
    with pytest.raises(UsageError) as error:
        read_labels([{"label": label} for label in labels], column="label", where="rows.csv")
    assert says in str(error.value)


def test_a_number_and_a_text_of_one_name_are_one_class_and_said() -> None:
    told: list[str] = []
    rows: Sequence[Row] = [{"label": label} for label in (1, "1", 2)]
    assert read_labels(rows, column="label", where="rows.csv", notify=told.append) == ("1", "2")
    assert told == ["column 'label' of rows.csv: 1 as a number and as a text were taken as one class."]


@pytest.mark.parametrize("large", [False, True])
def test_rows_that_are_left_out_are_counted_in_every_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: bool
) -> None:
    if large:
        monkeypatch.setattr(lmtasks.data.local, "LARGE_BYTES", 0)
    file = tmp_path / "mine.csv"
    lines = [f"number {n};{'' if n in (7, 30) else 'ab'[n % 2]}" for n in range(50)]
    file.write_text("\n".join(["text;label", *lines]) + "\n")
    task = own_task(data=file, text="text", label="label", labels=["a", "b"], use="both")
    data = load_task_data(task, options=DataAccess(), need=frozenset({"train", "validation", "test"}))
    parts = [part for part in (data.train, data.validation, data.test) if part is not None]
    texts = [row["text"] for part in parts for row in part.rows]
    assert sorted(texts) == sorted(row["text"] for n, row in enumerate(open_file(file)) if n not in (7, 30))
    assert [part.left_out for part in parts] == [2, 2, 2]
    assert parts[2].notes == (
        f"{file}: its cells are divided by semicolons, and were read so.",
        f"{file}: 2 of 50 rows have no label ('' 2 times), and are left out: rows 8 and 31 (counted from 1).",
    )


@pytest.mark.parametrize("names", [["neg", "neu", "pos"], ["1", "2", "3"], ["2", "0", "1"]])
def test_names_that_a_parquet_file_stores_are_the_labels(tmp_path: Path, names: list[str]) -> None:
    """`datasets` writes numbers, and their names into the file's own metadata."""
    from datasets import ClassLabel, Dataset, Features, Value

    from lmtasks.workflow.choose_tasks import TaskRequest, own_data_task

    features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
    file = tmp_path / "mine.parquet"
    Dataset.from_dict({"text": ["a", "b", "c"], "label": [0, 2, None]}, features=features).to_parquet(str(file))
    task = own_data_task(TaskRequest(text="text", label="label"), data=file)
    assert task.labels == tuple(names)
    rows = open_file(file)
    assert [label_number(task, row, where="row") for row in rows[:2]] == [0, 2]
    assert labelled_rows(task, rows, where="mine", drop=True).left_out == 1


def test_a_parquet_file_that_numbers_the_classes_otherwise_is_refused(tmp_path: Path) -> None:
    """Every answer would be taken for that of another class."""
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["pos", "neg"])})
    Dataset.from_dict({"text": ["a"], "label": [0]}, features=features).to_parquet(str(tmp_path / "rows.parquet"))
    for labels in ("[neg, pos]", "[pos, neg]", "[negative, positive]"):
        text = TASK.format(labels=labels).replace("csv", "parquet")
        (tmp_path / "mine.yaml").write_text(text)
        task = load_task(tmp_path / "mine.yaml")
        if labels == "[neg, pos]":
            with pytest.raises(UsageError, match="numbers the same ones otherwise: pos, neg"):
                load_task_data(task, options=DataAccess(), need=frozenset({"test"}))
        else:
            assert load_task_data(task, options=DataAccess(), need=frozenset({"test"})).test is not None
