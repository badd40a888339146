"""Semantic roles on the command line: the same sentence is tagged for each of its predicates."""

import json
from pathlib import Path

from said import Say

TASK = """task: roles
kind: semantic_roles
language: en
dataset_path: json
dataset_kwargs: {data_files: {train: rows.jsonl, test: rows.jsonl}}
training_split: train
test_split: test
cluster: tokens
inputs: {tokens: tokens, predicate: predicate, tags: tags}
labels: [O, B-V, I-V, B-ARG0, I-ARG0, B-ARG1, I-ARG1]
"""
NAMES = ("ann", "bob", "cy", "dee", "eve")


def rows() -> list[dict[str, object]]:
    """A saw B and C saw D: who saw whom depends on which `saw` is asked about."""
    found: list[dict[str, object]] = []
    for number in range(20):
        a, b, c, d = (NAMES[(number * step + step) % 5] for step in (1, 2, 3, 4))
        words = [a, "saw", b, "and", c, "saw", d]
        empty = ["O"] * 7
        found += [
            {"tokens": words, "predicate": 1, "tags": ["B-ARG0", "B-V", "B-ARG1", *empty[3:]]},
            {"tokens": words, "predicate": 5, "tags": [*empty[:4], "B-ARG0", "B-V", "B-ARG1"]},
        ]
    return found


def test_every_predicate_of_a_sentence_is_answered_by_one_command(say: Say, tmp_path: Path) -> None:
    (tmp_path / "roles.yaml").write_text(TASK)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()))
    task, model = tmp_path / "roles.yaml", tmp_path / "model"
    adapted = say(
        "adapt", "--backbone", "bilstm:width=24,dropout=0", "--tokenizer", "blanks:50", "--tasks", task,
        "--out", model, "--epochs", 40, "--learning-rate", 0.02, "--tokens-per-batch", 128, "--patience", 0,
    )  # fmt: skip
    assert adapted.code == 0, adapted.err
    assert json.loads((model / "model.json").read_text())["card"]["heads"][0]["scheme"] == "iob2"
    scored = say("eval", "--model", model, "--model", "linear-tagger", "--tasks", task, "--out", tmp_path / "out")
    assert scored.code == 0, scored.err
    for folder in sorted((tmp_path / "out").rglob("results.json")):
        result = json.loads(folder.read_text())["results"]["roles"]
        assert result["metrics"]["role_f1"]["value"] == 1.0
    line = json.dumps({"tokens": "ann saw bob and cy saw dee", "predicate": [1, 5]})
    # With and without the task file: the head itself knows that it is asked about a predicate.
    for options in (("--tasks", task), ()):
        told = say("predict", "--model", model, *options, line)
        assert told.code == 0, told.err
        assert json.loads(told.out) == [
            {"predicate": 1, "word": "saw", "tags": "B-ARG0 B-V B-ARG1 O O O O"},
            {"predicate": 5, "word": "saw", "tags": "O O O O B-ARG0 B-V B-ARG1"},
        ]
    one = say("predict", "--model", model, json.dumps({"tokens": "ann saw bob", "predicate": 1}))
    assert one.out == "B-ARG0 B-V B-ARG1\n"
    beyond = say("predict", "--model", model, json.dumps({"tokens": "ann saw bob", "predicate": [1, 3]}))
    assert beyond.code == 2
    assert "row 1: the predicate 3 is no place of a sentence of 3 words; places are counted from 0." in beyond.err


def test_a_predicate_that_is_no_place_is_told_with_its_row(say: Say, tmp_path: Path) -> None:
    (tmp_path / "roles.yaml").write_text(TASK)
    for value, sentence in (
        (7, "the predicate 7 is no place of a sentence of 7 words"),
        (-1, "the predicate -1 is no place"),
        ("saw", "(inputs.predicate) is the place of a word, counted from 0, was: 'saw'"),
        ([1, 5], "(inputs.predicate) is the place of a word, counted from 0, was: '[1, 5]'"),
        (True, "is the place of a word"),
        (None, "is the place of a word"),
    ):
        wrong = [*rows()[:3], {**rows()[3], "predicate": value}]
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in wrong))
        told = say("eval", "--model", "majority", "--tasks", tmp_path / "roles.yaml", "--out", tmp_path / "out")
        assert told.code != 0
        assert "row 3: " in told.err, told.err
        assert sentence in told.err
