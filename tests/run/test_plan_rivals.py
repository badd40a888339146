"""Rivals in a plan: chosen on validation rows, learned from as many rows as the plan's models, and found again."""

import json
from pathlib import Path

import pytest

from lmtasks.errors import UsageError
from lmtasks.evaluation.rivals import RivalSolver
from lmtasks.records import Json
from lmtasks.report.grid import baseline_of, bounds, comparable_metric, learned, trivial
from lmtasks.report.paired import paired_tables
from lmtasks.report.quality import quality_table
from lmtasks.report.records import read_run
from lmtasks.run.plan import load_plan, rival_rows
from lmtasks.run.run_plan import Ran, RunOptions, run_plan
from lmtasks.settings.data import DataAccess
from lmtasks.task.index import default_index

PLAN = """
plan: rivals
tasks: [starter_summarization_zh, starter_sentiment_en, starter_paragraphs_en, starter_continuation_en]
limit: 5
variants:
  - {name: floor, baseline: trivial}
  - {name: before, baseline: classical, rows: 40}
  - {name: first, baseline: copy, tasks: starter_summarization_zh}
bench: null
"""


def carried_out(folder: Path, plan: str = PLAN) -> Ran:
    file = folder / "plan.yaml"
    file.write_text(plan, encoding="utf-8")
    return run_plan(
        load_plan(file),
        plan_file=file,
        index=default_index(),
        out=folder / "run",
        options=RunOptions(data=DataAccess(offline=True)),
        report=lambda progress: None,
    )


def cell(folder: Path, name: str) -> Json:
    found = json.loads((folder / "run" / "cells" / f"{name}--s1234.json").read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def test_a_cell_says_which_rival_stands_and_what_the_others_had(tmp_path: Path) -> None:
    ran = carried_out(tmp_path)
    assert (ran.failed, ran.not_applicable) == ((), 2)  # no trivial text is likely, and nobody can learn to go on
    floor = cell(tmp_path, "floor--starter_summarization_zh")
    rival = floor["result"]["rival"]  # type: ignore[index]
    assert rival["scores"].keys() == {"copy", "lead-3", "lead-chars", "empty"}
    assert rival["chosen"] == max(rival["scores"], key=rival["scores"].get) == floor["model"]["family"]  # type: ignore[index]
    assert (rival["on"], rival["group"], rival["metric"]) == ("validation", "trivial", "rouge1")
    before = cell(tmp_path, "before--starter_sentiment_en")
    assert before["model"]["family"] in {"tfidf", "svm", "naive-bayes", "nearest"}  # type: ignore[index]
    assert "/40/1234" in str(before["conditions"]["train_fingerprint"])  # type: ignore[index]
    assert cell(tmp_path, "before--starter_continuation_en")["reason"] == (
        "nearest learns from training data, and task starter_continuation_en names none."
    )
    assert "rival" not in cell(tmp_path, "first--starter_summarization_zh")["result"]  # type: ignore[operator]
    again = carried_out(tmp_path)
    assert (again.done, again.found, again.not_applicable) == (0, 9, 0)


def test_the_report_shows_the_one_that_stands(tmp_path: Path) -> None:
    carried_out(tmp_path)
    run = read_run(tmp_path / "run")
    assert [variant.name for variant in trivial(run)] == ["floor", "first"]
    assert [variant.name for variant in learned(run)] == ["before"]
    floor = run.variants[0]
    assert baseline_of(run, floor) in {"copy", "lead-3", "lead-chars"}
    notes = quality_table(run).notes
    assert any("starter_summarization_zh: " in note and " is the best of copy " in note for note in notes)


def test_a_baseline_that_nobody_knows_is_said_before_anything_is_scored(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'trivial'"):
        carried_out(tmp_path, PLAN.replace("baseline: trivial", "baseline: trivail"))
    assert not (tmp_path / "run" / "cells").exists()


MODELS = """
plan: rows
tasks: [a, b, c]
models:
  one: {backbone: lstm, tasks: [a], training: {rows: 400}}
  two: {backbone: lstm, tasks: [a, b], training: {rows: 200}}
  all: {backbone: lstm, tasks: [c]}
  few: {backbone: lstm, tasks: [c], training: {rows: 10}}
variants:
  - {name: as models, baseline: classical}
  - {name: fewer, baseline: tfidf, rows: 7}
  - {name: one, model: one}
"""


def test_rivals_learn_from_as_many_rows_as_the_models_that_learn_the_task(tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(MODELS)
    plan = load_plan(file)
    as_models, fewer, model = plan.variants
    assert [rival_rows(as_models, plan=plan, task=task) for task in "abc"] == [400, 200, None]
    assert [rival_rows(fewer, plan=plan, task=task) for task in "ac"] == [7, 7]
    assert rival_rows(model, plan=plan, task="a") is None
    file.write_text(MODELS.replace("model: one}", "model: one, rows: 9}"))
    with pytest.raises(UsageError, match="`rows`, which are a baseline's"):
        load_plan(file)


def test_perplexity_per_token_stands_for_a_task_only_where_tokens_are_the_same() -> None:
    """n-grams over long byte pairs have more of it than a model over characters, and know the text better."""
    names = ("token_perplexity", "word_perplexity", "bits_per_byte")
    assert comparable_metric([(names, "one"), (names, "one")], language="en") == "token_perplexity"
    assert comparable_metric([(names, "one"), (names, "other")], language="en") == "word_perplexity"
    assert comparable_metric([(names, "one"), (names, "other")], language="zh") == "bits_per_byte"
    assert comparable_metric([(names[:1], "one"), (names, "other")], language="en") == "word_perplexity"
    assert comparable_metric([(names[:1], "one"), (names[:1], "other")], language="en") == "token_perplexity"
    assert comparable_metric([(("acc", "macro_f1"), "one"), (("acc",), "other")], language="en") == "acc"
    assert comparable_metric([], language="en") is None


def test_what_learned_from_other_rows_is_found_by_no_name() -> None:
    def hashed(*names: str, rows: int | None = None) -> str:
        return RivalSolver(names, rows=rows).model.weights_hash

    assert len({hashed("tfidf"), hashed("tfidf", rows=40), hashed("tfidf", rows=400)}) == 3
    assert hashed("copy", "lead-3") == hashed("copy", "lead-3", rows=40)  # which learn nothing


CHANGED = """
plan: changed
tasks: ["starter_sentiment_en@upper", "starter_sentiment_en@fullwidth"]
models:
  linear: {backbone: "tfidf"}
variants:
  - {name: linear, model: linear}
  - {name: floor, baseline: majority}
bench: null
"""


def test_a_plan_says_what_changed_rows_cost(tmp_path: Path) -> None:
    """The task itself is scored too, the model is trained on it alone, and its one head answers all three."""
    ran = carried_out(tmp_path, CHANGED)
    assert (ran.failed, ran.not_applicable) == ((), 0)
    run = read_run(tmp_path / "run")
    names = {"starter_sentiment_en", "starter_sentiment_en@upper", "starter_sentiment_en@fullwidth"}
    assert {task.name for task in run.tasks} == names
    costs = {(each.variant, each.task): each for each in run.comparisons if each.relation == "clean"}
    assert len(costs) == 4
    assert costs["linear", "starter_sentiment_en@upper"].difference == 0  # its tokenizer folds case
    worst = costs["linear", "starter_sentiment_en@fullwidth"]
    assert worst.difference < 0
    assert worst.base == "linear"
    (table,) = [table for table in paired_tables(run) if "itself on the rows as they are" in table.caption]
    assert [line.name for line in table.lines] == ["starter_sentiment_en@upper", "starter_sentiment_en@fullwidth"]
    assert all(len(line.cells) == 2 for line in table.lines)


LISTS = """
plan: lists
tasks: [speech_en]
limit: 20
variants:
  - {name: oracle, baseline: oracle}
  - {name: first, baseline: first-best}
  - {name: anew, baseline: reweighted}
bench: null
"""


def test_a_bound_is_nobodys_rival(tmp_path: Path) -> None:
    """It has the best value of all, and nothing is held against it, nor marked."""
    ran = carried_out(tmp_path, LISTS)
    assert (ran.failed, ran.not_applicable) == ((), 0)
    run = read_run(tmp_path / "run")
    assert [variant.name for variant in bounds(run)] == ["oracle"]
    assert "oracle" not in {name for each in run.comparisons for name in (each.base, each.variant)}
    lines = quality_table(run).lines
    assert [(line.name, line.group) for line in lines] == [
        ("first", "baselines"),
        ("anew", "baselines"),
        ("oracle", "bounds"),
    ]
    assert [line.name for line in lines for each in line.cells if each.best] != ["oracle"]
    assert not any(line.cells[0].best for line in lines if line.name == "oracle")
