"""Settings that a plan chooses on validation rows: every point is kept, nothing is done twice, a budget holds."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from lmtasks.cli.validate_output import print_plan
from lmtasks.errors import UsageError
from lmtasks.model.store import read_provenance
from lmtasks.records import Progress
from lmtasks.results.sweep import SweepRecord
from lmtasks.run.plan import load_plan
from lmtasks.run.run_plan import Ran, RunOptions, run_plan
from lmtasks.settings.data import DataAccess
from lmtasks.task.index import default_index
from lmtasks.workflow import adapt as workflow
from lmtasks.workflow.split_check import CheckOptions

TASK = "starter_topic_en"
PLAN = f"""
plan: swept
tasks: [{TASK}]
limit: 20
seeds: [1, 2]
rows: [20, all]
models:
  small:
    backbone: "average:width=8,buckets=50"
    together: false
    training: {{epochs: 3, evaluations: 2}}
    sweep: {{learning_rate: [1.0e-6, 0.05], label_smoothing: [0, 0.1], seeds: 2}}
variants:
  - {{name: small, model: small}}
bench: null
"""
SMALL = PLAN.replace("rows: [20, all]\n", "").replace("    together: false\n", "")
"""One choice, of a model for all tasks."""


class Killed(Exception):
    """What a test throws in the middle of a run."""


def carry_out(folder: Path, plan: str = PLAN, report: Callable[[Progress], None] = lambda _: None) -> Ran:
    file = folder / "plan.yaml"
    file.write_text(plan)
    options = RunOptions(data=DataAccess(offline=True), threads=1)
    return run_plan(
        load_plan(file), plan_file=file, index=default_index(), out=folder / "run", options=options, report=report
    )


def sweep_of(folder: Path, name: str = "small") -> SweepRecord:
    return SweepRecord.read(folder / "run" / "sweeps" / f"{name}.json")


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float | None, float, int]]:
    """Learning rate, smoothing and seed of every training that is begun."""
    begun: list[tuple[float | None, float, int]] = []
    plain = workflow.adapt_to_tasks

    def noted(**given: object) -> object:
        settings = given["settings"]
        begun.append((settings.learning_rate, settings.label_smoothing, settings.seed))  # type: ignore[attr-defined]
        return plain(**given)  # type: ignore[arg-type]

    monkeypatch.setattr("lmtasks.run.variants.adapt_to_tasks", noted)
    return begun


def test_the_best_on_validation_rows_is_chosen_for_each_number_of_rows(
    tmp_path: Path, trained: list[tuple[float | None, float, int]]
) -> None:
    totals: set[tuple[int, int]] = set()

    def report(progress: Progress) -> None:
        if progress.stage == "sweep small":
            totals.add((progress.done, progress.total))

    ran = carry_out(tmp_path, report=report)
    assert (ran.failed, ran.done) == ((), 4)
    assert len(trained) == 2 * 4 * 2  # the chosen models are those of their points
    assert totals >= {(0, 8), (8, 8)}
    for rows in (20, "all"):
        record = sweep_of(tmp_path, f"small--{TASK}-r{rows}")
        assert (record.task, record.rows, record.seeds, record.out_of_budget) == (TASK, rows, (1, 2), False)
        assert [each.seed for each in record.points] == [1] * 4 + [2] * 4
        assert all(each.status == "done" and each.seconds > 0 and each.steps for each in record.points)
        means = {}
        for point in record.points[:4]:
            scores = [each.score for each in record.points if each.settings == point.settings]
            means[json.dumps(point.settings)] = sum(score or 0.0 for score in scores) / 2
        assert means[json.dumps(record.chosen)] == max(means.values())
        assert record.seeds_compared == 2
        for seed in (1, 2):
            made = read_provenance(tmp_path / "run" / "models" / f"small--{TASK}-r{rows}-s{seed}")
            used = {name: made["settings"][name] for name in record.chosen}  # type: ignore[index, call-overload]
            assert used == record.chosen
            cell = json.loads((tmp_path / "run" / "cells" / f"small--{TASK}--r{rows}-s{seed}.json").read_text())
            assert cell["model"]["name"] == f"small--{TASK}-r{rows}-s{seed}"
            assert f"--learning-rate {record.chosen['learning_rate']} " in cell["repeat"][0]
        assert not list((tmp_path / "run" / "sweeps" / f"small--{TASK}-r{rows}").glob("*/*"))
    again = carry_out(tmp_path)
    assert (again.done, again.found, len(trained)) == (0, 4, 16)


@pytest.mark.parametrize("stop", [1, 3])
def test_a_killed_sweep_goes_on_behind_its_points(
    tmp_path: Path, trained: list[tuple[float | None, float, int]], stop: int
) -> None:
    def kill(progress: Progress) -> None:
        if progress.stage == "sweep small" and progress.done == stop:
            raise Killed

    with pytest.raises(Killed):
        carry_out(tmp_path, SMALL, kill)
    assert len(trained) == stop
    before = sweep_of(tmp_path).points
    assert len(before) == stop
    assert carry_out(tmp_path, SMALL).failed == ()
    assert len(trained) == 8
    assert len(set(trained)) == 8
    assert sweep_of(tmp_path).points[:stop] == before


def test_a_point_that_fails_is_shown_and_not_chosen(
    tmp_path: Path, trained: list[tuple[float | None, float, int]]
) -> None:
    plan = SMALL.replace("[1.0e-6, 0.05]", "[1.0e+30, 0.05]").replace("label_smoothing: [0, 0.1], ", "")
    assert carry_out(tmp_path, plan).failed == ()
    record = sweep_of(tmp_path)
    failed = [each for each in record.points if each.status == "failed"]
    assert {each.settings["learning_rate"] for each in failed} == {1e30}
    assert all(each.reason and each.score is None for each in failed)
    assert record.chosen == {"learning_rate": 0.05}
    count = len(trained)
    assert carry_out(tmp_path, plan).found == 2
    assert len(trained) == count


def test_where_every_point_fails_the_cells_say_why_and_the_others_go_on(tmp_path: Path) -> None:
    plan = SMALL.replace("[1.0e-6, 0.05]", "[1.0e+30]").replace("label_smoothing: [0, 0.1], ", "")
    plan = plan.replace("bench: null", "  - {name: floor, baseline: majority}\nbench: null")
    ran = carry_out(tmp_path, plan)
    assert len(ran.failed) == 2
    assert "no point of the sweep of model 'small' was finished: " in ran.failed[0]
    assert ran.done == 2


def test_out_of_budget_the_best_so_far_is_used_and_a_larger_one_goes_on(
    tmp_path: Path,
    trained: list[tuple[float | None, float, int]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A clock that gains a minute with each training makes three trainings of a budget of two and a half."""
    clock = _Clock()
    monkeypatch.setattr("lmtasks.run.sweep.time.monotonic", clock)
    small = SMALL.replace("seeds: 2}", "seeds: 2, budget_minutes: 2.5}")

    def tick(progress: Progress) -> None:
        if progress.stage == "train" and progress.done == progress.total:
            clock.now += 60

    assert carry_out(tmp_path, small, tick).failed == ()
    record = sweep_of(tmp_path)
    assert [each.status for each in record.points] == ["done", "done", "unfinished"]
    assert record.out_of_budget
    assert record.seeds_compared == 1
    finished = {json.dumps(each.settings): each.score for each in record.points if each.score is not None}
    assert finished[json.dumps(record.chosen)] == max(finished.values())
    said = "is out of its budget of 2.5 minutes: 2 of 8 trainings are finished, and the best so far is used ("
    assert said in caplog.text
    count = len(trained)
    assert carry_out(tmp_path, small, tick).found == 2
    assert len(trained) == count
    more = small.replace("budget_minutes: 2.5", "budget_minutes: 500")
    assert carry_out(tmp_path, more, tick).failed == ()
    after = sweep_of(tmp_path)
    assert not after.out_of_budget
    assert [each.status for each in after.points] == ["done"] * 8
    assert after.points[:2] == record.points[:2]
    assert after.points[2].seconds > record.points[2].seconds


def test_a_value_more_keeps_the_points_and_another_training_does_not(
    tmp_path: Path, trained: list[tuple[float | None, float, int]]
) -> None:
    plan = SMALL.replace("label_smoothing: [0, 0.1], ", "")
    carry_out(tmp_path, plan)
    assert len(trained) == 4
    carry_out(tmp_path, plan.replace("[1.0e-6, 0.05]", "[1.0e-6, 0.05, 1.0e-5]"))
    assert [each[0] for each in trained[4:6]] == [1e-5, 1e-5]
    assert len(sweep_of(tmp_path).points) == 6
    before = len(trained)
    carry_out(tmp_path, plan.replace("epochs: 3", "epochs: 2"))
    assert len(trained) == before + 4
    assert (tmp_path / "run" / "before-2" / "sweeps" / "small.json").is_file()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "learning_rate: [",
            "lerning_rate: [",
            r"unknown key of models\.small\.sweep 'lerning_rate'; did you mean 'learning",
        ),
        ("learning_rate: [", "rows: [", r"unknown key of models\.small\.sweep 'rows'"),
        ("[1.0e-6, 0.05]", "0.05", r"models\.small\.sweep\.learning_rate must be a list, was 0\.05"),
        ("[1.0e-6, 0.05]", "[]", r"models\.small\.sweep\.learning_rate must not be empty"),
        ("[1.0e-6, 0.05]", "[0.1, -1]", r"models\.small\.sweep\.learning_rate\.1 must be a number above 0, was -1"),
        ("[1.0e-6, 0.05]", "[0.1, 0.1]", "learning_rate has 0.1 twice"),
        ("learning_rate: [1.0e-6, 0.05], label_smoothing: [0, 0.1], ", "", "sweep: names no setting to choose"),
        ("seeds: 2}", "seeds: 0}", r"models\.small\.sweep\.seeds must be a whole number of at least 1"),
        ("seeds: 2}", "budget_minutes: none}", r"sweep\.budget_minutes must be a number above 0"),
        ("learning_rate: [", "epochs: [", "has `epochs` in its `training` and in its `sweep`"),
        ("    training: {epochs: 3, evaluations: 2}", "    adaptation: prompt", "has a `sweep`, but is used as it is"),
        ('"average:width=8,buckets=50"', "svm", r"has a `sweep`, but is fitted at once \(svm\)"),
    ],
)
def test_a_wrong_sweep_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    file = tmp_path / "plan.yaml"
    assert old in PLAN
    file.write_text(PLAN.replace(old, new))
    with pytest.raises(UsageError, match=said):
        load_plan(file)


def test_validate_says_what_a_sweep_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(PLAN.replace("seeds: 2}", "seeds: 1, budget_minutes: 30}"))
    options = CheckOptions(data=DataAccess(offline=True))
    print_plan(str(file), index=default_index(), trust_code=False, options=options, report=lambda _: None)
    said = capsys.readouterr().out
    assert (
        "sweep of learning_rate (2 values), label_smoothing (2 values): 4 trainings a choice, at most 30 minutes"
        in said
    )
    assert "  10 trainings: small 10\n" in said  # two choices of four, and the second seed of what was chosen


class _Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_settings_of_a_sweep_are_those_of_a_training(tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    values: Mapping[str, str] = {"epochs": "[1, 2]", "tokens_per_batch": "[256, 512]", "precision": "[fp32]"}
    swept = ", ".join(f"{name}: {value}" for name, value in values.items())
    text = PLAN.replace("learning_rate: [1.0e-6, 0.05], label_smoothing: [0, 0.1]", swept)
    file.write_text(text.replace("training: {epochs: 3, evaluations: 2}", "training: {evaluations: 2}"))
    sweep = load_plan(file).models["small"].sweep
    assert sweep is not None
    assert sweep.values == {"epochs": (1.0, 2.0), "tokens_per_batch": (256, 512), "precision": ("fp32",)}
    assert len(list(sweep.points())) == 4
