"""What any command line takes: --json, --quiet, a file of defaults, and a shell that completes it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from said import Said, Say

from lmtasks.cli.main import COMMANDS
from lmtasks.results.json_schema import json_schema

TASK = "starter_sentiment_en"


def answered(said: Said) -> dict[str, object]:
    """The one object on standard output, held against its schema."""
    (line,) = said.out.splitlines()
    record: dict[str, object] = json.loads(line)
    assert not list(Draft202012Validator(json_schema("answer")).iter_errors(record))
    assert record["code"] == said.code
    return record


def test_scores_come_as_one_object(say: Say, tmp_path: Path) -> None:
    said = say("eval", "--json", "--model", "majority", "--tasks", TASK, "--limit", 8, "--out", tmp_path / "out")
    record = answered(said)
    scores = {each["metric"]: each for each in record["scores"]}  # type: ignore[attr-defined]
    assert scores["acc"]["n"] == 8
    assert record["folder"] == str(tmp_path / "out")
    assert str(tmp_path / "out" / "index.html") in record["files"]  # type: ignore[operator]
    assert record["printed"][0]["columns"][:3] == ["task", "n", "metric"]  # type: ignore[index]
    assert any("Scores are in" in line for line in record["said"])  # type: ignore[attr-defined]


def test_a_failure_is_an_object_too_with_the_sentence_of_standard_error(say: Say) -> None:
    said = say("eval", "--model", "majorty", "--tasks", TASK, "--json")
    record = answered(said)
    assert (said.code, record["command"]) == (2, "eval")
    assert f"lmtasks: {record['error']}" == said.sentence


@pytest.mark.parametrize("what", ["tasks", "models", "baselines", "metrics"])
def test_lists_come_as_tables(say: Say, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    record = answered(say("list", what, "--json"))
    assert record["printed"][0]["rows"]  # type: ignore[index]


def test_comparisons_come_with_every_number_and_a_gate_with_its_code(say: Say, tmp_path: Path) -> None:
    for model in ("tfidf", "majority"):
        assert say("eval", "--model", model, "--tasks", TASK, "--out", tmp_path / model).code == 0
    said = say("compare", tmp_path / "tfidf", tmp_path / "majority", "--fail-if-worse", "--json")
    record = answered(said)
    assert said.code == 3
    assert record["comparisons"][0]["verdict"] == "worse"  # type: ignore[index]
    assert "worse than" in str(record["error"])


def test_predict_keeps_an_object_a_text(say: Say, classifier: Path) -> None:
    said = say("predict", "--model", classifier, "--json", stdin="good\nbad\n")
    assert [json.loads(line)["text"] for line in said.out.splitlines()] == ["good", "bad"]


def test_quiet_shows_warnings_and_answers_alone(say: Say, tmp_path: Path) -> None:
    words = ("adapt", "--backbone", "tfidf", "--data", _reviews(tmp_path), "--label", "label", "--out")
    loud, quiet = say(*words, tmp_path / "a"), say(*words, tmp_path / "b", "--quiet")
    assert (loud.code, quiet.code) == (0, 0)
    assert loud.err
    assert quiet.err == ""
    assert "The model is in" in quiet.out


def _reviews(folder: Path) -> Path:
    file = folder / "reviews.csv"
    file.write_text("text,label\n" + "".join(f"item {n} is {'ab'[n % 2]},{'ab'[n % 2]}\n" for n in range(40)))
    return file


def test_a_file_of_defaults_counts_below_the_command_line_and_is_told(
    say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lmtasks.toml").write_text('seed = 7\n[eval]\nmodel = ["majority", "tfidf"]\nlimit = 6\n')
    inner = tmp_path / "inner"
    inner.mkdir()
    monkeypatch.chdir(inner)
    said = say("eval", "--tasks", TASK, "--limit", 4, "--out", "out")
    assert said.code == 0, said.err
    assert "from a file of defaults: --model majority --model tfidf --seed 7" in said.err
    stored = json.loads(Path("out/tfidf/results.json").read_text())["results"][TASK]
    assert (stored["n"], stored["conditions"]["seed"]) == (4, 7)
    assert "--model majority --model tfidf" in Path("out/report.md").read_text()  # the page can be repeated elsewhere


def test_defaults_stand_in_pyproject_too(say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.lmtasks.list]\nlanguage = "zh"\n')
    monkeypatch.chdir(tmp_path)
    said = say("list", "tasks")
    assert "starter_sentiment_zh" in said.out
    assert "starter_sentiment_en" not in said.out
    assert "starter_sentiment_en" in say("list", "tasks", "--language", "en").out


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("thread = 2\n", "did you mean 'threads'"),
        ("[eval]\nlimt = 2\n", "unknown key of [eval] in"),
        ("[evaluate]\nlimit = 2\n", "unknown section of"),
        ("limit = \n", "lmtasks.toml is no TOML"),
        ('limit = "few"\n', "--limit must be a whole number"),
        ('token = "hf_x"\n', "which is a secret"),
        ("limit = 2024-01-01\n", "limit must be a text, a number"),
    ],
)
def test_a_wrong_file_of_defaults_is_told(
    say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, sentence: str
) -> None:
    (tmp_path / "lmtasks.toml").write_text(content)
    monkeypatch.chdir(tmp_path)
    said = say("eval", "--model", "majority", "--tasks", TASK)
    assert said.code == 2
    assert sentence in said.sentence
    assert say("eval", "--help").code == 0  # help comes whatever the file says


def test_tasks_are_chosen_by_kind_and_language(say: Say) -> None:
    said = say("list", "tasks", "--language", "zh", "--kind", "classification", "--json")
    rows = answered(said)["printed"][0]["rows"]  # type: ignore[index]
    assert {row[1] for row in rows} == {"classification"}
    assert all("zh" in row[2].split("-") for row in rows)
    assert "did you mean 'tagging'" in say("list", "tasks", "--kind", "taging").sentence
    assert "unknown language" in say("list", "tasks", "--language", "xx").sentence
    assert "choose among tasks" in say("list", "heads", "--kind", "tagging").sentence


def test_models_of_this_machine_are_listed(
    say: Say, tmp_path: Path, classifier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert say("export", "--model", classifier, "--out", "runs/small").code == 0
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / "model.json").write_text("{")
    said = say("list", "models")
    assert "lmtasks-mini" in said.out
    assert "made here, package in fp32" in next(line for line in said.out.splitlines() if "runs/small" in line)
    assert "which cannot be read" in next(line for line in said.out.splitlines() if "runs/broken" in line)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [("lmtasks ev", "eval"), ("lmtasks eval --spe", "--speed"), ("lmtasks try --la", "--label")],
)
def test_a_shell_completes_commands_and_options(words: str, wanted: str) -> None:
    environment = {
        **os.environ,
        "_LMTASKS_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-m", "lmtasks"], env=environment, capture_output=True, text=True, check=True
    )
    assert wanted in done.stdout.splitlines()


def test_the_root_says_how_completion_is_installed(say: Say) -> None:
    said = say("--help")
    assert "--show-completion" in said.out
    assert "--quiet" in said.out
    assert all(name in said.out for name in COMMANDS)
