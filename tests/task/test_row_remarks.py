"""What a kind remarks in rows that can be used, and that not everybody would take for right."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

import lmtasks
from lmtasks.errors import UsageError
from lmtasks.records import Row
from lmtasks.task.hooks import process_rows
from lmtasks.task.kinds import kind_of
from lmtasks.task.load import load_task

Rows = list[dict[str, object]]


def remarked(folder: Path, rows: Rows, *, kind: str, more: str) -> tuple[str, ...]:
    (folder / "test.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (folder / "task.yaml").write_text(
        f"task: t\nkind: {kind}\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: test.jsonl}}}}\n"
        f"test_split: test\n{more}"
    )
    task = load_task(folder / "task.yaml")
    return tuple(kind_of(task).remarks(task, rows, where="test.jsonl"))


def test_answers_that_are_not_in_their_passage(tmp_path: Path) -> None:
    more = "inputs: {question: q, context: c, answers: a}\ndoc_to_text: '{{q}}'\n"
    rows: Rows = [
        {"q": "who?", "c": "Ann rang.", "a": {"text": ["Ann"], "answer_start": [0]}},
        {"q": "who?", "c": "Ann rang.", "a": {"text": ["Carl"], "answer_start": [2]}},
        {"q": "who?", "c": "Ann rang.", "a": {"text": [], "answer_start": []}},
        {"q": "who?", "c": "Ann rang.", "a": {"text": ["Carl", "rang"], "answer_start": [2, 0]}},
    ]
    (sentence,) = remarked(tmp_path, rows, kind="span", more=more)
    assert sentence.startswith("test.jsonl: no answer of row 2 (counted from 1) stands in the row's context")
    assert "'Carl'" in sentence
    assert remarked(tmp_path, [rows[0], *rows[2:]], kind="span", more=more) == ()


def test_candidates_fewer_than_a_metric_looks_at(tmp_path: Path) -> None:
    more = "inputs: {text: t, candidates: c, right: r}\nmetrics: [recall_1, %s]\n"
    rows: Rows = [{"t": "a", "c": ["x", "y"], "r": "x"}, {"t": "b", "c": ["x", "y", "z", "u", "v"], "r": 1}]
    (sentence,) = remarked(tmp_path, rows, kind="ranking", more=more % "recall_5")
    assert sentence.startswith("test.jsonl: row 1 (counted from 1) has fewer candidates than the 5 of recall_5")
    assert remarked(tmp_path, rows, kind="ranking", more=more % "recall_2") == ()
    assert remarked(tmp_path, rows, kind="ranking", more=more % "mrr") == ()


def test_lists_of_labels_in_a_table_are_no_classes(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text('text,label\na,"[""x"", ""y""]"\nb,"[""x""]"\nc,"[""y""]"\n')
    with pytest.raises(UsageError, match=r"holds lists of labels .* rows with several are of kind multi_label"):
        lmtasks.evaluate("majority", data=file, text="text", label="label", out=tmp_path / "out", progress=False)
    file.write_text("text,label\na,[x]\nb,[y]\nc,[x]\n")  # classes may be called so
    lmtasks.evaluate("random", data=file, text="text", label="label", out=tmp_path / "out", progress=False)


def test_rows_that_a_task_keeps(tmp_path: Path) -> None:
    rows: Rows = [{"t": f"text {n}", "s": "ab"[n % 2]} for n in range(900)]
    (tmp_path / "all.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    base = (
        "task: t\nkind: language_modelling\ndataset_path: json\ndataset_kwargs: {data_files: {train: all.jsonl}}\n"
        "training_split: train\ntest_split: train\ninputs: {text: t}\n"
    )
    (tmp_path / "task.yaml").write_text(base + "keep: {columns: {s: a}, held_out: t}\n")
    from lmtasks.data.splits import load_task_data
    from lmtasks.held_out import held_out
    from lmtasks.settings.data import DataAccess

    task = load_task(tmp_path / "task.yaml")
    found = load_task_data(task, options=DataAccess(offline=True), need=frozenset({"train", "test"}))
    assert found.train is not None
    assert found.test is not None
    mine = [row for row in rows if row["s"] == "a"]
    assert [row["t"] for row in found.test.rows] == [row["t"] for row in mine if held_out(str(row["t"]))]
    learned = {str(row["t"]) for row in found.train.rows}  # less the tenth that is set apart for validation
    assert learned < {str(row["t"]) for row in mine if not held_out(str(row["t"]))}
    assert len(learned) > 350
    for line, message in (
        ("keep: {columns: {s: c}}\n", "none of 900 rows is one that keep asks for"),
        ("keep: {columns: {z: a}}\n", "keep names the column 'z', and the data has: t, s"),
    ):
        (tmp_path / "task.yaml").write_text(base + line)
        task = load_task(tmp_path / "task.yaml")
        with pytest.raises(UsageError, match=message):
            load_task_data(task, options=DataAccess(offline=True), need=frozenset({"test"}))
    (tmp_path / "task.yaml").write_text(base + "keep: {}\n")
    with pytest.raises(UsageError, match="keep names neither columns nor held_out"):
        load_task(tmp_path / "task.yaml")


def shared(rows: Sequence[Row]) -> float:
    """Pairs of characters that wrong texts share with the right ones, in the mean."""
    texts = [(str(row["pair"]), str(row["t"])) for row in rows if row["same"] == 0]
    grams = [tuple({text[at : at + 2] for at in range(len(text) - 1)} for text in each) for each in texts]
    return sum(len(one & two) for one, two in grams) / len(grams)


def test_pairs_of_which_a_half_do_not_belong_together(tmp_path: Path) -> None:
    rows: Rows = [{"a": f"abstract {n}", "t": f"{'一二三四五六七八九十'[n % 10]}的研究 {n}"} for n in range(200)]
    (tmp_path / "all.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    text = (
        "task: t\nkind: classification\ndataset_path: json\ndataset_kwargs: {data_files: {test: all.jsonl}}\n"
        "test_split: test\npairs: {other: t, among: 30}\nlabels: [different, same]\n"
        "inputs: {text: a, pair: pair, label: same}\n"
    )
    (tmp_path / "task.yaml").write_text(text)
    task = load_task(tmp_path / "task.yaml")
    found = process_rows(task, rows)
    same = [row for row in found if row["same"] == 1]
    assert 80 < len(same) < 120
    assert all((row["pair"] == row["t"]) == (row["same"] == 1) for row in found)
    assert {row["pair"] for row in found} <= {row["t"] for row in rows}
    (tmp_path / "task.yaml").write_text(text.replace("among: 30", "among: 1"))
    easy = process_rows(load_task(tmp_path / "task.yaml"), rows)
    assert shared(found) > shared(easy) + 0.5  # of thirty drawn texts the most alike
    assert process_rows(task, rows) == found
    (tmp_path / "task.yaml").write_text(text.replace("among: 30", "among: 30, seed: 5"))
    other = load_task(tmp_path / "task.yaml")
    assert other.hash != task.hash
    assert process_rows(other, rows) != found
    (tmp_path / "task.yaml").write_text(text.replace("pair: pair", "pair: t"))
    with pytest.raises(UsageError, match=r"write kind: classification, inputs: .* label: same"):
        load_task(tmp_path / "task.yaml")
    with pytest.raises(UsageError, match="pairs cannot be drawn from 3 rows with the same other text"):
        process_rows(task, [{"a": "x", "t": "y"}] * 3)
