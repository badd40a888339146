"""A plan that asks by rows: equal rows for everybody, nested by seed; killed and finished; what has too few is told."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from lmtasks.cli.validate_output import print_plan
from lmtasks.errors import UsageError
from lmtasks.records import Progress
from lmtasks.run.plan import Plan, VariantPlan, load_plan
from lmtasks.run.run_plan import Ran, RunOptions, run_plan
from lmtasks.run.trials import Trial, trials_of
from lmtasks.settings.data import DataAccess
from lmtasks.task.index import default_index
from lmtasks.workflow.split_check import CheckOptions

SENTIMENT, TOPIC = "starter_sentiment_en", "starter_topic_en"
PLAN = f"""
plan: few
question: How many rows are enough?
tasks: [{SENTIMENT}, {TOPIC}]
limit: 40
seeds: [1, 2]
rows: [all, 8, 90, 5000]
models:
  small: {{backbone: "average:width=8,buckets=50", together: false, training: {{epochs: 0.3, evaluations: 1}}}}
  joint: {{backbone: "average:width=8,buckets=50", tasks: {TOPIC}, training: {{epochs: 0.3, evaluations: 1}}}}
variants:
  - {{name: tfidf, baseline: tfidf}}
  - {{name: random, baseline: random}}
  - {{name: small, model: small}}
  - {{name: joint, model: joint, tasks: {TOPIC}, seeds: [1]}}
bench: null
"""


class Killed(Exception):
    """What a test throws in the middle of a run."""


def carry_out(folder: Path, plan: str = PLAN, report: Callable[[Progress], None] = lambda _: None) -> Ran:
    file = folder / "plan.yaml"
    file.write_text(plan)
    options = RunOptions(data=DataAccess(offline=True), threads=1, command="lmtasks run few")
    return run_plan(
        load_plan(file), plan_file=file, index=default_index(), out=folder / "run", options=options, report=report
    )


def cells(folder: Path) -> Mapping[str, dict[str, object]]:
    return {file.stem: json.loads(file.read_text()) for file in sorted((folder / "run" / "cells").glob("*.json"))}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed in the middle, and then finished."""
    folder = tmp_path_factory.mktemp("rows")
    seen: list[Progress] = []

    def kill(progress: Progress) -> None:
        if progress.stage == "cells":
            seen.append(progress)
            if progress.done == 28:
                raise Killed

    with pytest.raises(Killed):
        carry_out(folder, report=kill)
    assert {each.total for each in seen} == {2 * 2 * 4 + 2 * 2 + 2 * 2 * 4 + 4}
    made = {str(file): file.stat().st_mtime_ns for file in (folder / "run").glob("models/*/model.json")}
    stored = {str(file): file.stat().st_mtime_ns for file in (folder / "run").glob("cells/*.json")}
    seen.clear()
    ran = carry_out(folder, report=lambda progress: seen.append(progress) if progress.stage == "cells" else None)
    assert ran.failed == ()
    assert seen[0].seconds_left is None  # no cell of the last variant was carried out yet
    known = [each.seconds_left for each in seen if each.seconds_left is not None]
    assert known[0] > 0
    assert known[-1] == 0
    assert all(Path(file).stat().st_mtime_ns == time for file, time in made.items())
    done = {name for name, cell in cells(folder).items() if cell["status"] == "done"}
    assert all(Path(file).stat().st_mtime_ns == time for file, time in stored.items() if Path(file).stem in done)
    assert ran.found == sum(Path(file).stem in done for file in stored)
    return folder


def test_every_number_of_rows_is_a_cell_of_everybody_who_learns(folder: Path) -> None:
    found = cells(folder)
    done = {name for name, cell in found.items() if cell["status"] == "done"}
    for task in (SENTIMENT, TOPIC):
        for seed in (1, 2):
            assert {f"tfidf--{task}--r{rows}-s{seed}" for rows in (8, 90, "all")} <= done
            assert {f"small--{task}--r{rows}-s{seed}" for rows in (8, 90, "all")} <= done
            assert f"random--{task}--s{seed}" in done
    assert {f"joint--{TOPIC}--r{rows}-s1" for rows in (8, 90, "all")} <= done
    assert "rows" not in found[f"random--{TOPIC}--s1"]
    assert found[f"small--{TOPIC}--r8-s1"]["rows"] == {"asked": 8, "learned": 8}
    assert found[f"small--{TOPIC}--rall-s1"]["rows"]["learned"] > 90  # type: ignore[index]


def test_rivals_and_models_learn_from_the_same_rows_and_are_scored_on_the_same(folder: Path) -> None:
    found = cells(folder)
    for rows in (8, 90):
        model = json.loads(
            (folder / "run" / "models" / f"small--starter_topic_en-r{rows}-s1" / "model.json").read_text()
        )
        assert model["provenance"]["tasks"][TOPIC]["rows"] == rows
        joint = json.loads((folder / "run" / "models" / f"joint-r{rows}-s1" / "model.json").read_text())
        assert joint["provenance"]["tasks"][TOPIC]["rows"] == rows
        rival = found[f"tfidf--{TOPIC}--r{rows}-s1"]["conditions"]["train_fingerprint"]  # type: ignore[index]
        assert rival.endswith(f"/{rows}/1/by label")
    conditions = [cell["conditions"] for cell in found.values() if cell["task"]["name"] == TOPIC]  # type: ignore[index]
    scored = {each["data_fingerprint"] for each in conditions if each}  # type: ignore[index]
    assert len(scored) == 1
    weights = {found[f"small--{TOPIC}--r{rows}-s1"]["model"]["weights_hash"] for rows in (8, 90, "all")}  # type: ignore[index]
    assert len(weights) == 3


def test_a_task_with_fewer_rows_than_asked_says_so_and_is_not_trained_twice(folder: Path, tmp_path: Path) -> None:
    cell = cells(folder)[f"small--{TOPIC}--r5000-s1"]
    assert cell["status"] == "not-applicable"
    assert "training rows, not 5,000: its curve ends with all of them." in str(cell["reason"])
    assert not list((folder / "run" / "models").glob("*-r5000-*"))
    plan = PLAN.replace("rows: [all, 8, 90, 5000]", "rows: [8, 5000]").replace("seeds: [1, 2]", "seeds: [1]")
    assert carry_out(tmp_path, plan).failed == ()
    reason = str(cells(tmp_path)[f"tfidf--{TOPIC}--r5000-s1"]["reason"])
    assert reason.endswith("not 5,000: its curve ends at 8; `all` among the rows has them all.")


def test_comparisons_are_made_at_equal_rows_over_all_seeds_each_number_a_family(folder: Path) -> None:
    comparisons = json.loads((folder / "run" / "paired.json").read_text())["comparisons"]
    assert {each["rows"] for each in comparisons} == {"all", 8, 90}
    rival = [each for each in comparisons if each["relation"] == "rival" and each["variant"] == "small"]
    assert {(each["task"], each["rows"], each["base"]) for each in rival} == {
        (task, rows, base) for task in (SENTIMENT, TOPIC) for rows in (8, 90, "all") for base in ("tfidf", "random")
    }
    assert {each["seeds"] for each in rival} == {2}
    assert {each["test"] for each in rival} == {"Student's t over examples and seeds"}
    joint = [each for each in comparisons if each["variant"] == "joint" and each["relation"] == "first"]
    assert {each.get("seeds", 1) for each in joint} == {1}
    found = cells(folder)
    for each in rival:
        mean = [
            sum(found[f"{name}--{each['task']}--{part}s{seed}"]["result"]["metrics"]["acc"]["value"] for seed in (1, 2))
            / 2  # type: ignore[index]
            for name, part in (
                ("small", f"r{each['rows']}-"),
                (each["base"], "" if each["base"] == "random" else f"r{each['rows']}-"),
            )
        ]
        assert each["difference"] == pytest.approx(100 * (mean[0] - mean[1]))
        low, high = each["ci95"]
        assert low < each["difference"] < high
        assert each["p_holm"] >= each["p_value"]


def test_a_number_of_rows_more_keeps_what_is_there(tmp_path: Path) -> None:
    plan = PLAN.replace("[all, 8, 90, 5000]", "[8]").replace("seeds: [1, 2]", "seeds: [1]")
    first = carry_out(tmp_path, plan)
    again = carry_out(tmp_path, plan.replace("rows: [8]", "rows: [8, 20]"))
    assert again.found == first.done
    assert again.done == 2 + 2 + 1  # tfidf and small on two tasks, joint on one


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[all, 8, 90, 5000]", "[8, 64, 8]", r"plan\.yaml:7: rows: 8 is given twice"),
        ("[all, 8, 90, 5000]", "[8, many]", r"rows\.1 must be all or a whole number of at least 1, was 'many'"),
        ("[all, 8, 90, 5000]", "[0]", r"rows\.0 must be all or a whole number of at least 1, was 0"),
        ("[all, 8, 90, 5000]", "[2.5]", r"must be all or a whole number of at least 1, was 2\.5"),
        ("[all, 8, 90, 5000]", "[true]", r"must be all or a whole number of at least 1, was True"),
        (
            "together: false, training: {epochs: 0.3,",
            "together: false, training: {rows: 9,",
            "model 'small' has `rows` in its `training`",
        ),
        ("baseline: tfidf}", "baseline: tfidf, rows: 5}", "variant 'tfidf' has `rows`, but the plan's own"),
        ("bench: null", "bench: {rows: 8}", "is timed as one model; give `bench: null`"),
        ("together: false", "together: none", r"models\.small\.together must be true or false"),
    ],
)
def test_wrong_rows_are_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    file = tmp_path / "plan.yaml"
    assert old in PLAN
    file.write_text(PLAN.replace(old, new))
    with pytest.raises(UsageError, match=said):
        load_plan(file)


def test_few_rows_are_asked_first_and_one_number_needs_no_brackets(tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(PLAN)
    plan = load_plan(file)
    assert [trial.rows for trial in trials_of(plan, plan.variants[3])] == [8, 90, 5000, "all"]
    assert trials_of(plan, plan.variants[1]) == (Trial(seed=1), Trial(seed=2))
    file.write_text(PLAN.replace("[all, 8, 90, 5000]", "64"))
    assert load_plan(file).rows == (64,)
    used = VariantPlan(name="prompted", model="lmtasks-mini")
    assert trials_of(Plan(plan="p", tasks=("a",), variants=(used,), rows=(64,)), used) == (Trial(seed=1234),)


def test_labels_without_an_example_are_told_before_anything_is_trained(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plan = PLAN.replace("[all, 8, 90, 5000]", "[2]").replace("seeds: [1, 2]", "seeds: [1]")
    carry_out(tmp_path, plan)
    assert f"task {TOPIC}: 2 training rows have 2 of its" in caplog.text
    cell = cells(tmp_path)[f"tfidf--{TOPIC}--r2-s1"]
    assert cell["rows"]["labels_missing"] > 0  # type: ignore[index]


def test_validate_counts_the_trainings_and_says_where_curves_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(PLAN)
    options = CheckOptions(data=DataAccess(offline=True))
    error = print_plan(str(file), index=default_index(), trust_code=False, options=options, report=lambda _: None)
    assert error is None
    said = capsys.readouterr().out
    assert "  15 trainings: small 12, joint 3\n" in said  # 8, 90 and all rows, two seeds, two tasks; one seed and task
    assert "full, on starter_sentiment_en, starter_topic_en, a model for each" in said
    assert f"{TOPIC}: has 135 training rows, not 5,000: its curve ends with all of them" in said
    assert "40 cells, each learned from all, 8, 90, 5,000 rows, seeds 1, 2" in said
