"""`lmtasks export --max-drop`, and the precisions that ask for something."""

import json
from pathlib import Path

import pytest
from said import Say
from tiny import tiny_checkpoint

TASKS = ("--tasks", "starter_sentiment_en")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("bert") / "bert", "bert-classifier")


def test_what_rounding_costs_is_measured_printed_and_kept(say: Say, classifier: Path, tmp_path: Path) -> None:
    out = tmp_path / "package"
    asked = ("--precision", "int8", "--max-drop", 50, "--limit", 10, "--out", out)
    said = say("export", "--model", classifier, *asked, *TASKS)
    assert said.code == 0, said.err
    assert "Allowed: a drop of 50 points. Measured on validation rows" in said.out
    assert "a larger drop" in said.out
    gate = json.loads((out / "gate.json").read_text())
    assert gate["tasks"][0]["n"] == 10
    assert "train" in gate["tasks"][0]["rows"]  # the starter suite has no validation split: a part of train
    assert not list(tmp_path.glob("*.part"))


def test_fixed_scales_come_from_training_rows(say: Say, classifier: Path, tmp_path: Path) -> None:
    said = say("export", "--model", classifier, "--precision", "int8-static", "--out", tmp_path / "package", *TASKS)
    assert said.code == 0, said.err
    assert "Allowed in int8-static" in said.out


def test_a_gate_that_says_no_ends_with_3(
    say: Say, classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmtasks.prove.gate.MOST_KEPT", 0.0)
    monkeypatch.setattr("lmtasks.prove.gate._hold", lambda drops: False)
    said = say("export", "--model", classifier, "--precision", "int8", "--max-drop", 0, "--out", tmp_path / "p", *TASKS)
    assert said.code == 3
    assert "Nothing was written" in said.sentence
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--max-drop", "half", *TASKS), "--max-drop must be a number of at least 0, was 'half'"),
        (("--max-drop", "0.5"), "--max-drop is measured on tasks; name them with --tasks"),
        (("--limit", "9"), "--limit and --label-map are about --max-drop"),
        (("--max-drop", "0.5", *TASKS), "fp32 rounds nothing"),
        (("--precision", "int8-static"), "int8-static measures its scales on real rows; name --tasks"),
        (("--precision", "fp16"), "onnxruntime has no CUDAExecutionProvider here"),
    ],
)
def test_what_does_not_go_together_is_said(
    say: Say, classifier: Path, tmp_path: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    said = say("export", "--model", classifier, "--out", tmp_path / "p", *arguments)
    assert said.code == 2
    assert sentence in said.sentence
    assert not list(tmp_path.iterdir())
