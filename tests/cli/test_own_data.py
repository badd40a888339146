"""Rows as people have them, from the file to the table: what is said, refused, counted and read otherwise."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from said import Say

HOLES = """id,comment,verdict
1,Quick delivery and it works,good
2,,good
3,Broken on arrival,
4,"Two lines,
and a comma",bad
5,Never again,N/A
6,fine,good
7,poor,bad
8,ok I guess,good
"""
COLUMNS = ("--text", "comment", "--label", "verdict")


@pytest.fixture
def holes(tmp_path: Path) -> Path:
    file = tmp_path / "reviews.csv"
    file.write_text(HOLES, encoding="utf-8")
    return file


def test_rows_without_a_label_are_refused_or_left_out_counted_and_kept(say: Say, holes: Path, tmp_path: Path) -> None:
    asked = ("eval", "--model", "random", "--data", holes, *COLUMNS)
    said = say(*asked)
    assert said.code == 2
    assert "2 of 8 rows have no label ('', 'N/A'), more than 5%: rows 3 and 5 (counted from 1)" in said.sentence
    said = say(*asked, "--drop-unlabelled", "--out", tmp_path / "out")
    assert said.code == 0
    lines = [line for line in said.err.splitlines() if line.startswith("lmtasks: ")]
    assert len(lines) == len(set(lines)) == 2
    conditions = json.loads((tmp_path / "out" / "results.json").read_text())["results"]["reviews"]["conditions"]
    assert conditions["rows_left_out"] == 2
    assert [f"lmtasks: {note}" for note in conditions["data_notes"]] == lines
    samples = (tmp_path / "out" / "samples-reviews.jsonl").read_text().splitlines()
    assert [json.loads(line)["target"] for line in samples] == ["good", "good", "bad", "good", "bad", "good"]


def test_a_baseline_that_learns_is_scored_on_what_it_has_not_seen(say: Say, holes: Path, tmp_path: Path) -> None:
    models = ("--model", "majority", "--model", "random")
    said = say("eval", *models, "--data", holes, *COLUMNS, "--drop-unlabelled", "--out", tmp_path / "out")
    assert said.code == 0, said.err
    assert "reviews: the 2 rows of the file that adapt sets aside" in said.out


def test_rivals_of_a_single_file_learn_from_the_part_that_is_not_scored(say: Say, tmp_path: Path) -> None:
    rows = [f"{'works well' if number % 2 else 'broke at once'} {number},{number % 2}" for number in range(40)]
    (tmp_path / "reviews.csv").write_text("\n".join(["text,label", *rows]) + "\n", encoding="utf-8")
    models = ("--model", "trivial", "--model", "classical")
    said = say("eval", *models, "--data", tmp_path / "reviews.csv", "--label", "label", "--out", tmp_path / "out")
    assert said.code == 0, said.err
    assert "reviews: the 8 rows of the file that adapt sets aside" in said.out


def test_another_encoding_and_delimiter_are_read_once_they_are_known(say: Say, tmp_path: Path) -> None:
    file = tmp_path / "reviews.csv"
    file.write_bytes("text;label\n음식이 맛있고;pos\n배송이 너무 늦어서;neg\n".encode("euc-kr"))
    asked = ("eval", "--model", "random", "--data", file, "--label", "label")
    assert "--encoding NAME" in say(*asked).sentence
    said = say(*asked, "--encoding", "euc-kr", "--out", tmp_path / "out")
    assert said.code == 0
    assert said.err.count("its cells are divided by semicolons") == 1
    assert "음식이 맛있고" in (tmp_path / "out" / "samples-reviews.jsonl").read_text(encoding="utf-8")
    task = tmp_path / "mine.yaml"
    task.write_text(
        "task: mine\nkind: classification\ndataset_path: csv\ntest_split: test\nlabels: [neg, pos]\n"
        "dataset_kwargs: {data_files: {test: reviews.csv}, encoding: euc-kr}\n"
        "inputs: {text: text, label: label}\ndoc_to_text: text\n"
    )
    assert say("eval", "--model", "random", "--tasks", task, "--out", tmp_path / "task").code == 0
    assert "describes --data" in say("eval", "--model", "random", "--tasks", task, "--encoding", "euc-kr").sentence


NEAR: Sequence[tuple[str, str]] = [
    ("--model random --data review.csv", "there is no data file review.csv; did you mean 'reviews.csv'?"),
    ("--model random --tasks mime.yaml", "there is no task file mime.yaml; did you mean 'mine.yaml'?"),
    ("--model majorty --data reviews.csv", "did you mean 'majority'"),
    ("--model bert-base-chinese --tasks sst2", "perhaps google-bert/bert-base-chinese"),
    ("--model gpt2 --tasks sst2", "perhaps openai-community/gpt2"),
    ("--model nobody-knows --tasks sst2", "a Hub id with its owner (org/name)"),
    ("--model adapters --tasks sst2", "holds adapters of peft, and no model: merge them into org/base"),
    ("--model runs/mne --tasks sst2 --offline", "there is no folder runs/mne; did you mean 'runs/mine'?"),
    ("--model runs/other --tasks sst2 --offline", "there is no folder runs/other; as a Hub id: "),
    ("--model ./runs/mne --tasks sst2", "did you mean the folder runs/mine?"),
    ("--model majority --data reviews.csv --text comment", "name the column of the classes by --label"),
    ("--model random --data reviews.csv --label verdict", "Name the column of the texts by --text"),
]


@pytest.mark.parametrize(("line", "says"), NEAR)
def test_a_wrong_name_gets_the_near_one_or_a_way_out(
    say: Say, holes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, says: str
) -> None:
    (tmp_path / "mine.yaml").touch()
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "adapters").mkdir()
    (tmp_path / "adapters" / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base"}')
    monkeypatch.chdir(tmp_path)
    label = () if "--label" in line or "--text" in line or "--tasks" in line else ("--text", "comment", "--label", "id")
    said = say("eval", *line.split(), *label)
    assert said.code == 2
    assert says in said.sentence


def test_predict_asks_the_one_head_that_a_model_has(say: Say, tmp_path: Path, llama: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(
        "".join('{"w": ["to", "York"], "t": ["O", "B-LOC"], "en": "a", "fr": "b"}\n' for _ in range(6))
    )
    head = "dataset_path: json\ndataset_kwargs: {data_files: {train: rows.jsonl}}\ntraining_split: train\n"
    tasks = {
        "places": "kind: tagging\ninputs: {tokens: '{{ w }}', tags: t}\nlabels: [O, B-LOC]\n",
        "french": "kind: translation\ninputs: {references: '{{ [fr] }}'}\ndoc_to_text: '{{en}} ='\n",
    }
    for name, lines in tasks.items():
        file, model = tmp_path / f"{name}.yaml", tmp_path / f"model-{name}"
        file.write_text(f"task: {name}\n{head}test_split: train\n{lines}")
        said = say("adapt", "--backbone", llama, "--tasks", file, "--epochs", 1, "--out", model)
        assert said.code == 0, said.err
    said = say("predict", "--model", tmp_path / "model-places", stdin="to New York\n")
    assert (said.code, len(said.out.split())) == (0, 3), said.err
    assert (
        say("predict", "--model", tmp_path / "model-places", "--tasks", tmp_path / "places.yaml", "to York").code == 0
    )
    said = say("predict", "--model", tmp_path / "model-french", "--new-tokens", 8, "a")
    assert (said.code, "the prompt of french is not known here" in said.err) == (0, True), said.err
    few = ("--gen-kwargs", "max_gen_toks=8")
    said = say("predict", "--model", tmp_path / "model-french", "--tasks", tmp_path / "french.yaml", *few, "a")
    assert (said.code, "not known here" in said.err) == (0, False)


def test_validate_and_run_leave_rows_out_as_eval_does(say: Say, holes: Path, tmp_path: Path) -> None:
    task = tmp_path / "mine.yaml"
    task.write_text(
        "task: mine\nkind: classification\ndataset_path: csv\ntest_split: test\nlabels: [bad, good]\n"
        f"dataset_kwargs: {{data_files: {{test: {holes}}}}}\ninputs: {{text: comment, label: verdict}}\n"
        "doc_to_text: comment\n"
    )
    plan = tmp_path / "plan.yaml"
    plan.write_text(f"plan: tiny\ntasks: [{task}]\nbench: null\nvariants: [{{name: trivial, baseline: random}}]\n")
    for command in (("validate", task), ("validate", plan), ("run", plan, "--out", tmp_path / "refused")):
        said = say(*command)
        assert said.code in (1, 2), said.out
        assert "have no label" in said.err
        assert "--drop-unlabelled" in said.err
    assert say("validate", task, "--drop-unlabelled").code == 0
    assert say("validate", plan, "--drop-unlabelled").code == 0
    said = say("run", plan, "--out", tmp_path / "run", "--drop-unlabelled", "--language", "zh")
    assert said.code == 0, said.err
    (cell,) = (json.loads(file.read_text()) for file in (tmp_path / "run" / "cells").iterdir())
    assert cell["result"]["n"] == 6
    assert "--drop-unlabelled" in cell["repeat"][0]
    assert '<html lang="zh">' in (tmp_path / "run" / "index.html").read_text(encoding="utf-8")
