"""`eval --out`: results of something else are replaced only where somebody says so."""

import json
from pathlib import Path

import pytest
from said import Say

LINE = ("eval", "--tasks", "starter_topic_zh", "--model", "majority", "--limit", 4)


@pytest.fixture
def held(say: Say, tmp_path: Path) -> Path:
    out = tmp_path / "out"
    assert say(*LINE, "--out", out).code == 0
    return out


@pytest.mark.parametrize(
    ("line", "difference"),
    [
        ((*LINE[:-1], 5), "--limit was 4 and is 5"),
        ((*LINE, "--seed", 7), "--seed was 1234 and is 7"),
        ((*LINE, "--no-samples"), "--no-samples was not given and is True"),
        ((*LINE[:2], "starter_topic_zh,starter_topic_en", *LINE[3:]), "task starter_topic_en is new"),
        ((*LINE[:2], "starter_topic_en", *LINE[3:]), "task starter_topic_zh is not asked any more"),
        ((*LINE[:4], "random", *LINE[5:]), "model was majority and is random"),
        ((*LINE, "--model", "random"), "holds results of one model alone"),
    ],
)
def test_other_conditions_are_refused_and_named(
    say: Say, held: Path, line: tuple[object, ...], difference: str
) -> None:
    before = {file: file.read_bytes() for file in held.rglob("*.*")}
    said = say(*line, "--out", held)
    assert said.code == 2
    assert difference in said.sentence
    assert "--overwrite" in said.sentence
    assert {file: file.read_bytes() for file in held.rglob("*.*")} == before


def test_the_same_command_replaces_its_own_results(say: Say, held: Path) -> None:
    assert say(*LINE, "--threads", 1, "--cache", "off", "--out", held).code == 0


def test_overwrite_leaves_nothing_of_the_other_results(say: Say, held: Path) -> None:
    other = ("eval", "--tasks", "starter_topic_en", "--limit", 3, "--out", held, "--overwrite")
    assert say(*other, "--model", "majority", "--model", "random").code == 0
    pages = {"charts", "decision.json", "index.html", "report.md", "results.csv"}
    assert {file.name for file in held.iterdir()} == pages | {"majority", "random"}
    assert say(*other[:-1], "--model", "majority", "--model", "longest").code == 2
    assert say(*other, "--model", "majority").code == 0
    own = {"results.json", "samples-starter_topic_en.jsonl", "statistics.json"}
    assert {file.name for file in held.iterdir()} == pages | own


def test_rows_that_changed_are_refused_when_they_are_read(say: Say, tmp_path: Path) -> None:
    file = tmp_path / "reviews.csv"
    own = ("--data", file, "--text", "text", "--label", "label", "--split", "all")
    line = ("eval", "--model", "random", *own, "--out", tmp_path / "o")
    rows = [f"a text of number {number},{'good' if number % 2 else 'bad'}" for number in range(8)]
    file.write_text("\n".join(["text,label", *rows]) + "\n")
    assert say(*line).code == 0
    before = (tmp_path / "o" / "results.json").read_bytes()
    file.write_text("\n".join(["text,label", *rows[:-1], "another one,good"]) + "\n")
    said = say(*line)
    assert (said.code, "holds results over other rows of reviews" in said.sentence) == (2, True), said.err
    assert (tmp_path / "o" / "results.json").read_bytes() == before
    assert say(*line, "--overwrite").code == 0


def test_results_of_earlier_versions_are_not_replaced_either(say: Say, held: Path) -> None:
    content = json.loads((held / "results.json").read_text())
    older = {name: value for name, value in content.items() if name not in ("asked", "checksum")}
    (held / "results.json").write_text(json.dumps(older))
    said = say(*LINE, "--out", held)
    assert (said.code, "do not say what was asked" in said.sentence) == (2, True)


def test_what_was_scored_again_is_refused_alike(say: Say, held: Path, tmp_path: Path) -> None:
    line = ("eval", "--rescore", held, "--out", tmp_path / "again")
    assert say(*line).code == 0
    assert say(*line).code == 0
    said = say(*line, "--metrics", "macro_f1")
    assert (said.code, "--metrics was not given and is macro_f1" in said.sentence) == (2, True)
    assert say(*line, "--metrics", "macro_f1", "--overwrite").code == 0
