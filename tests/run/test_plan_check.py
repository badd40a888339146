"""`validate PLAN` opens what the plan names: its models, baselines and rows."""

import re
from pathlib import Path

import pytest
from tiny import tiny_checkpoint

from lmtasks.errors import UsageError
from lmtasks.run.plan import load_plan
from lmtasks.run.preflight import PlanCheck, check_plan
from lmtasks.run.run_plan import Ran, RunOptions, run_plan
from lmtasks.settings.data import DataAccess
from lmtasks.task.index import default_index
from lmtasks.workflow.split_check import CheckOptions

PLAN = """plan: p
tasks: [starter_topic_en, mine.yaml]
models:
  own: {backbone: BACKBONE, tasks: [starter_topic_en]}
  new: {backbone: "lstm:width=8", tokenizer: "words:100"}
variants:
  - {name: trivial, baseline: majority}
  - {name: own, model: own}
  - {name: plain, model: BACKBONE}
  - {name: away, model: some/where-else}
"""
TASK = """task: mine
kind: classification
dataset_path: csv
dataset_kwargs: {data_files: {train: rows.csv, test: rows.csv}}
training_split: train
test_split: test
inputs: {text: comment, label: mood}
labels: [bad, good]
doc_to_text: "{{comment}}"
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_checkpoint(tmp_path / "backbone", "llama")
    (tmp_path / "mine.yaml").write_text(TASK)
    (tmp_path / "rows.csv").write_text(
        "comment,mood\n" + "".join(f"number {n},{('bad', 'good')[n % 2]}\n" for n in range(8))
    )


def checked(old: str = "", new: str = "") -> PlanCheck:
    assert old in PLAN
    Path("plan.yaml").write_text(PLAN.replace(old, new).replace("BACKBONE", "backbone"))
    plan = load_plan(Path("plan.yaml"))
    tasks = default_index().find(",".join(plan.tasks))
    return check_plan(plan, tasks, options=CheckOptions(data=DataAccess(offline=True)), report=lambda _: None)


def test_how_heads_read_is_told_and_held_against_the_backbone() -> None:
    Path("backbone/pretraining.json").write_text('{"objective": "mixed"}')
    assert checked().opened["own"].endswith(", pretrained both ways, and so read by heads that do not write")
    asked = checked("own: {backbone", "own: {attention: causal, backbone")
    assert asked.problems == ()
    assert asked.opened["own"].endswith(" tokens")
    (problem,) = checked("new: {backbone", "new: {attention: both, backbone").problems
    assert problem.startswith(
        "model 'new' of the plan: a backbone of family lstm (causal) cannot read both ways: it ca"
    )


def test_a_plan_is_opened_without_loading_a_model() -> None:
    check = checked()
    assert check.problems == ()
    assert check.opened["own"].startswith("llama, causal, ")
    assert check.opened["new"] == "made new"
    assert check.opened["plain"] == check.opened["own"]
    assert check.opened["away"] == "not on this machine yet, not looked at"
    assert check.rows["mine"] == "8 rows looked at; columns comment, mood"


WRONG = {
    "trivial, baseline: majority": (
        "trivial, baseline: majorty",
        "unknown baseline 'majorty'; did you mean 'majority'",
    ),
    "own, model: own": ("own, model: onw", "unknown model 'onw'; did you mean .*'own'"),
    "own: {backbone: BACKBONE": ("own: {backbone: lmtasks-mni", "model 'own' of the plan: unknown model 'lmtasks-mni'"),
    "tasks: [starter_topic_en]}": ("tasks: [starter_topic_zh]}", "unknown task of model 'own' of the plan: 'starter_"),
    "lstm:width=8": ("lstm:widht=8", "model 'new' of the plan: .*widht"),
    "words:100": ("wrods:100", "model 'new' of the plan: .*wrods"),
    "baseline: majority}": (
        "baseline: majority, tasks: [starter_topic_e]}",
        "did you mean 'starter_topic_en'",
    ),
}


@pytest.mark.parametrize("old", WRONG)
def test_what_a_plan_names_wrongly_is_said_with_near_names(old: str) -> None:
    new, said = WRONG[old]
    (problem,) = checked(old, new).problems
    assert re.search(said, problem), problem


def test_rows_that_do_not_fit_are_said_before_anything_is_trained() -> None:
    Path("rows.csv").write_text("comment,moods\nx,bad\n")
    (problem,) = checked().problems
    assert "mood" in problem
    assert "moods" in problem


def test_every_problem_is_found_at_once() -> None:
    Path("rows.csv").unlink()
    assert len(checked("baseline: majority", "baseline: nothing").problems) == 2


def test_a_backbone_that_is_not_there_is_said_before_anything_is_trained(tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(
        "plan: away\ntasks: [starter_topic_en]\nlimit: 4\n"
        "models: {gone: {backbone: runs/gone/away, tasks: [starter_topic_en]}}\n"
        "variants: [{name: floor, baseline: majority}, {name: gone, model: gone}]\nbench: null\n"
    )

    def carry_out(*only: str) -> Ran:
        options = RunOptions(data=DataAccess(offline=True), threads=1, only=only)
        out = tmp_path / "run"
        return run_plan(
            load_plan(file), plan_file=file, index=default_index(), out=out, options=options, report=lambda _: None
        )

    with pytest.raises(UsageError, match=r"model 'gone' of the plan: .*runs/gone/away"):
        carry_out()
    assert not (tmp_path / "run").exists()
    assert carry_out("floor").done == 1
