"""A plan that was mended keeps the cells that the change is not about."""

import json
from pathlib import Path

import pytest

from lmtasks.checksums import FIELD, sealed
from lmtasks.errors import UsageError
from lmtasks.report.records import read_run
from lmtasks.run.plan import load_plan
from lmtasks.run.run_plan import Ran, RunOptions, run_plan
from lmtasks.settings.data import DataAccess
from lmtasks.task.index import default_index

PLAN = """
plan: mended
question: What is kpet?
tasks: [starter_sentiment_en, starter_topic_en]
limit: 4
seeds: [1]
models:
  small: {backbone: "average:width=8,buckets=50", training: {epochs: 0.3, rows: 20, evaluations: 1}}
variants:
  - {name: floor, baseline: majority}
  - {name: other, baseline: majority}
  - {name: average, model: small}
bench: null
"""
MODEL = "models/small-s1/model.json"


def carry_out(folder: Path, plan: str) -> Ran:
    file = folder / "plan.yaml"
    file.write_text(plan)
    options = RunOptions(data=DataAccess(offline=True), threads=1)
    return run_plan(
        load_plan(file), plan_file=file, index=default_index(), out=folder / "run", options=options,
        report=lambda _: None,
    )  # fmt: skip


def _cells(folder: Path) -> dict[str, int]:
    return {file.stem: file.stat().st_mtime_ns for file in (folder / "run" / "cells").glob("*.json")}


@pytest.mark.parametrize(
    ("old", "new", "done", "model_stays"),
    [
        ("kpet", "kept", 0, True),
        ("variants:", 'published: [{task: starter_topic_en, variant: floor, value: 9, by: "x"}]\nvariants:', 0, True),
        ("other, baseline: majority", "other, baseline: random", 2, True),
        ("other, baseline: majority", "another, baseline: majority", 2, True),
        ("seeds: [1]", "seeds: [1, 2]", 6, True),
        ("limit: 4", "limit: 3", 6, True),
        ("epochs: 0.3", "epochs: 0.4", 2, False),
        ("[starter_sentiment_en, starter_topic_en]", "[starter_sentiment_en]", 1, False),
        ("{name: average, model: small}", "{name: average, model: small, threads: 1}", 0, True),
    ],
)
def test_only_what_the_change_is_about_is_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, old: str, new: str, done: int, model_stays: bool
) -> None:
    assert carry_out(tmp_path, PLAN).done == 6
    before, model = _cells(tmp_path), (tmp_path / "run" / MODEL).stat().st_mtime_ns
    assert old in PLAN
    ran = carry_out(tmp_path, PLAN.replace(old, new))
    assert ran.done == done
    assert ran.failed == ()
    kept = {name for name, time in _cells(tmp_path).items() if before.get(name) == time}
    assert len(kept) == ran.found
    assert ((tmp_path / "run" / MODEL).stat().st_mtime_ns == model) is model_stays
    assert "the plan was changed since" in caplog.text
    run = read_run(tmp_path / "run")
    assert len(run.cells) == ran.done + ran.found  # nothing of the earlier form is shown
    assert (tmp_path / "run" / "plan.yaml").read_text() == PLAN.replace(old, new)
    again = carry_out(tmp_path, PLAN.replace(old, new))
    assert (again.done, again.found) == (0, ran.done + ran.found)
    if not model_stays:
        assert (tmp_path / "run" / "before-1" / MODEL).is_file()


def test_another_plan_is_refused(tmp_path: Path) -> None:
    carry_out(tmp_path, PLAN)
    with pytest.raises(UsageError, match="holds a run of plan 'mended', and this one is 'new'"):
        carry_out(tmp_path, PLAN.replace("plan: mended", "plan: new"))


def test_a_run_that_does_not_say_what_it_is_of_is_refused(tmp_path: Path) -> None:
    carry_out(tmp_path, PLAN)
    file = tmp_path / "run" / "run.json"
    text = file.read_text()
    for changed in (text.replace('"limit": 4', '"limit": 5'), text[:50]):
        file.write_text(changed)
        with pytest.raises(UsageError, match=r"run\.json was changed since it was written, or is cut short"):
            carry_out(tmp_path, PLAN)


def test_other_settings_of_a_model_with_the_same_weights_are_another_model(tmp_path: Path) -> None:
    """A cell was found again by the hash of its weights alone."""
    from tiny import tiny_checkpoint

    model = tiny_checkpoint(tmp_path / "llama", "llama")
    plan = PLAN.replace("{name: average, model: small}", f"{{name: average, model: {model}}}")
    assert carry_out(tmp_path, plan).done == 6
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 0.5}))
    ran = carry_out(tmp_path, plan)
    assert (ran.done, ran.found) == (2, 4)


@pytest.mark.parametrize(("turned", "attention"), [(True, "both"), (False, ""), (True, "")])
def test_a_run_of_a_version_that_turned_whole_models_is_gone_on_with(
    tmp_path: Path, turned: bool, attention: str
) -> None:
    """Its run.json says `bidirectional`, which was yes or no, of every model."""
    carry_out(tmp_path, PLAN)
    file = tmp_path / "run" / "run.json"
    content = json.loads(file.read_text())
    for model in content["plan"]["models"].values():
        del model["attention"]
        model["bidirectional"] = turned
    content.pop(FIELD)
    content["plan_hash"] = "of another form"
    file.write_text(json.dumps(sealed(content)))
    changed = PLAN.replace("kpet", "kept")
    if attention:
        changed = changed.replace("{backbone:", f"{{attention: {attention}, backbone:")
    ran = carry_out(tmp_path, changed)
    assert (ran.done, ran.found) == ((0, 6) if turned == bool(attention) else (2, 4))
