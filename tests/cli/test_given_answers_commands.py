"""Answers that exist on the command line, in plans and from Python: scored, compared and shown as a model's are."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from said import Say

import lmtasks
from lmtasks.errors import UsageError
from lmtasks.evaluation.write import read_results

TASK = "starter_sentiment_en"
LIMIT = 20
PLAN = """plan: given
tasks: [{task}]
limit: {limit}
variants:
  - {{name: trivial, baseline: majority}}
  - {{name: words, model: {model}}}
  - {{name: theirs, answers: {answers}}}
bench: null
"""


@pytest.fixture(scope="module")
def bayes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that learns in a moment."""
    folder = tmp_path_factory.mktemp("bayes") / "model"
    lmtasks.adapt("naive-bayes", tasks=TASK, out=folder, progress=False)
    return folder


@pytest.fixture(scope="module")
def texts(bayes: Path, tmp_path_factory: pytest.TempPathFactory) -> Sequence[str]:
    """The scored texts, as lines that `predict` reads."""
    out = tmp_path_factory.mktemp("texts")
    lmtasks.evaluate("majority", TASK, limit=LIMIT, out=out / "floor", progress=False)
    samples = (out / "floor" / f"samples-{TASK}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.dumps(json.loads(line)["doc"], ensure_ascii=False) for line in samples]


@pytest.fixture
def theirs(say: Say, bayes: Path, texts: Sequence[str], tmp_path: Path) -> Path:
    """What `predict --json` writes of them."""
    said = say("predict", "--model", bayes, "--tasks", TASK, "--json", stdin="\n".join(texts) + "\n")
    assert said.code == 0, said.err
    file = tmp_path / "theirs.jsonl"
    file.write_text(said.out, encoding="utf-8")
    return file


def test_side_by_side_with_the_model_that_answered(say: Say, bayes: Path, theirs: Path, tmp_path: Path) -> None:
    command = ["eval", "--model", bayes, "--model", "majority", "--answers", theirs, "--answers", f"again={theirs}"]
    command += ["--tasks", TASK, "--limit", LIMIT, "--cache", "off", "--out", tmp_path / "out"]
    said = say(*command)
    assert said.code == 0, said.err
    assert "theirs" in said.out
    assert "again" in said.out
    assert "Its lines name no rows: they were taken in their order." in said.out
    model, given = (read_results(tmp_path / "out" / name) for name in ("model", "theirs"))
    assert given.record.model.kind == "answers"
    for name, estimate in model.tasks[TASK].metrics.items():
        assert given.tasks[TASK].metrics[name] == estimate
    assert given.record.results[TASK].conditions["prompt_way"] == "answers"
    compared = say("compare", tmp_path / "out" / "model", tmp_path / "out" / "theirs")
    assert compared.code == 0, compared.err
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "theirs" in page
    assert "given answers" in page
    again = say(*command)
    assert again.code == 0, again.err
    lines = theirs.read_text(encoding="utf-8").splitlines()
    theirs.write_text("\n".join([lines[-1], *lines[1:]]), encoding="utf-8")
    changed = say(*command)
    assert changed.code == 2
    assert "holds results of something else: model was" in changed.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "missing option '--model'"),
        (("--answers", "none.jsonl"), "none.jsonl"),
        (("--allow-missing", "5%", "--model", "majority"), "--allow-missing is about --answers, and none are given."),
        (("--answers-id", "q", "--model", "majority"), "--answers-id is about --answers, and none are given."),
        (("--answers", "{theirs}", "--answers", "{theirs}"), "'theirs' names two systems"),
        (("--answers", "{theirs}", "--tasks", f"{TASK},starter_topic_en"), "does not say which of 2 tasks"),
        (("--answers", "{theirs}", "--sample", "5"), "--sample draws rows"),
        (("--answers", "{theirs}", "--limit", "40"), "has no answer to 20 of 40 rows"),
        (("--answers", "{theirs}", "--allow-missing", "100%"), "must be a percentage of at least 0 and below 100"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told(
    say: Say, theirs: Path, tmp_path: Path, arguments: Sequence[str], sentence: str
) -> None:
    given = [each.format(theirs=theirs) for each in arguments]
    tasks = [] if "--tasks" in given else ["--tasks", TASK]
    limit = [] if {"--limit", "--sample"} & set(given) else ["--limit", LIMIT]
    said = say("eval", *given, *tasks, *limit, "--out", tmp_path / "out")
    assert said.code != 0
    assert sentence in said.err.replace("\n", " ")


def test_a_variant_of_a_plan(say: Say, bayes: Path, theirs: Path, tmp_path: Path) -> None:
    plan = tmp_path / "given.yaml"
    plan.write_text(PLAN.format(task=TASK, limit=LIMIT, model=bayes, answers=theirs))
    command = ["run", plan, "--out", tmp_path / "out", "--cache", "off"]
    said = say(*command)
    assert said.code == 0, said.err
    cells = {
        name: json.loads((tmp_path / "out" / "cells" / f"{name}--{TASK}--s1234.json").read_text())
        for name in ("words", "theirs")
    }
    assert cells["theirs"]["result"]["metrics"] == cells["words"]["result"]["metrics"]
    assert cells["theirs"]["variant"]["runtime"] == "answers"
    assert cells["theirs"]["repeat"] == [
        f"lmtasks eval --answers theirs={theirs} --tasks {TASK} --limit {LIMIT} --seed 1234"
    ]
    assert "theirs" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    again = say(*command)
    assert "3 found" in again.out + again.err
    plan.write_text(PLAN.format(task=TASK, limit=LIMIT, model=bayes, answers="none.jsonl"))
    refused = say("run", plan, "--out", tmp_path / "other")
    assert refused.code == 2
    assert "variant 'theirs' of the plan" in refused.err
    plan.write_text(PLAN.format(task=TASK, limit=LIMIT, model=bayes, answers=f"{theirs}, model: {bayes}"))
    assert "needs one of `model`, `baseline` and `answers`" in say("run", plan, "--out", tmp_path / "other").err


def test_from_python(theirs: Path, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in theirs.read_text(encoding="utf-8").splitlines()]
    given = {
        "file": str(theirs),
        "held": [{"row": place, "answer": line["answer"]} for place, line in enumerate(lines)],
    }
    results = lmtasks.evaluate(tasks=TASK, answers=given, limit=LIMIT, out=tmp_path / "out", progress=False)
    assert results.value("file", metric="acc") == results.value("held", metric="acc")
    with pytest.raises(UsageError, match="missing option '--model'"):
        lmtasks.evaluate(tasks=TASK, out=tmp_path / "none")
    with pytest.raises(UsageError, match="percentage"):
        lmtasks.evaluate(tasks=TASK, answers=theirs, allow_missing=100.0, out=tmp_path / "none")
