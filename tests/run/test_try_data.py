"""One's own data to a decision: what is found, what the plan asks, who is exported, and what is refused in one
sentence."""

import csv
import json
import random
from pathlib import Path

import pyarrow.parquet
import pytest
from said import Say
from speed_records import LIMITS, MEMORY, times
from tiny import tiny_checkpoint

import lmtasks
from lmtasks.bench.pool import Memory, Round
from lmtasks.bench.spec import SpeedSpec
from lmtasks.errors import UsageError
from lmtasks.report.records import read_run
from lmtasks.results.speed import MachineLimits
from lmtasks.run.plan import load_plan
from lmtasks.run.try_data import TryRequest, try_data
from lmtasks.settings.data import DataAccess
from lmtasks.workflow.choose_tasks import TaskRequest
from lmtasks.workflow.new_files import PlannedModel

WORDS = {"5": "fine bright warm clever", "1": "dull flat cold weak", "3": "plain usual common mixed"}
ACCESS = DataAccess(offline=True)


class AtOnce:
    """Measures nothing: a machine on which every variant is as fast as any other."""

    def times(self, spec: SpeedSpec) -> Round:
        return times(spec.name)

    def memory(self, spec: SpeedSpec) -> Memory:
        return MEMORY

    def limits(self, *, threads: int, device: str) -> MachineLimits:
        return LIMITS


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("models") / "small", "llama")


@pytest.fixture
def _tiny(monkeypatch: pytest.MonkeyPatch, small: Path, tmp_path: Path) -> None:
    """A tiny backbone in the shipped one's place, and no waiting for a clock."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lmtasks.run.try_data.SHIPPED", PlannedModel(name="mini", ref=str(small)))
    monkeypatch.setattr("lmtasks.bench.isolate.Isolated", AtOnce)


def stars(folder: Path, *, rows: int = 72, name: str = "reviews.csv", labels: str = "513") -> Path:
    lines = [
        f"item {number} is {WORDS[label].split()[number % 4]},{label},{number % 7}"
        for number in range(rows)
        for label in (labels[number % len(labels)],)
    ]
    file = folder / name
    file.write_text("comment,stars,shop\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return file


def request(data: Path, **other: object) -> TaskRequest:
    return TaskRequest(**{"data": data, "text": "comment", "label": "stars", **other})  # type: ignore[arg-type]


@pytest.mark.usefixtures("_tiny")
def test_one_command_says_what_it_found_and_who_is_best_and_goes_on_where_it_was(say: Say, tmp_path: Path) -> None:
    words = ("try", "--data", stars(tmp_path), "--text", "comment", "--label", "stars", "--offline")
    told = say(*words)
    assert told.code == 0, told.err
    assert "reviews.csv: 72 rows; column 'comment' holds text in the language en" in told.out
    assert "Column 'stars' holds 3 labels, with training rows: " in told.out
    assert "57 to learn from, 15 to be scored (a fifth of each label" in told.out
    assert "    plan: try-reviews" in told.out
    folder = Path("runs/try-reviews")
    plan = load_plan(folder / "plan.yaml")
    assert [variant.name for variant in plan.variants] == [
        "trivial",
        "classical",
        "mini torch",
        "mini onnx",
        "mini int8",
    ]
    assert plan.variants[-1].max_drop == 1
    assert {cell.status for cell in read_run(folder).cells} == {"done"}
    assert set(read_run(folder).speeds) == {"mini torch", "mini onnx", "mini int8"}
    again = say(*words)
    assert "0 cells scored, 5 found from before" in again.out
    assert "plan.yaml (from before)" in again.out
    by_hand = say("run", folder / "plan.yaml", "--out", folder, "--offline")
    assert "5 found from before" in by_hand.out


@pytest.mark.usefixtures("_tiny")
def test_an_edited_plan_is_run_by_hand_and_other_data_gets_another_folder(tmp_path: Path) -> None:
    data = stars(tmp_path)
    made = []

    def stop(plan: object) -> None:
        made.append(plan)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        try_data(TryRequest(tasks=request(data), data=ACCESS), report=lambda _: None, on_plan=stop)
    plan = tmp_path / "runs" / "try-reviews" / "plan.yaml"
    plan.write_text(plan.read_text().replace("seconds: 1", "seconds: 2"))
    with pytest.raises(UsageError, match="was edited since it was written: `lmtasks run"):
        try_data(TryRequest(tasks=request(data), data=ACCESS), report=lambda _: None)
    stars(tmp_path, rows=90)
    with pytest.raises(UsageError, match=r"made of other data or options \(data\)"):
        try_data(TryRequest(tasks=request(data), data=ACCESS), report=lambda _: None)
    plan.write_text("plan: [")
    assert len(made) == 1


@pytest.mark.usefixtures("_tiny")
def test_of_several_models_the_best_on_validation_rows_is_exported(tmp_path: Path) -> None:
    encoder = tiny_checkpoint(tmp_path / "encoder", "bert")
    tried = try_data(
        TryRequest(tasks=request(stars(tmp_path)), models=[str(encoder), "svm"], data=ACCESS), report=lambda _: None
    )
    assert not tried.ran.failed
    record = json.loads((tried.folder / "try.json").read_text())
    best = max(record["chosen"], key=record["chosen"].get)
    assert set(record["chosen"]) == {"mini", "encoder"}
    plan = load_plan(tried.plan)
    exported = {variant.model for variant in plan.variants if variant.runtime == "onnx"}
    assert exported == {best}
    assert f"{best} is the best on validation rows" in tried.plan.read_text()
    assert next(each for each in plan.variants if each.name == "svm").baseline == ("svm",)


@pytest.mark.usefixtures("_tiny")
def test_a_model_whose_own_head_answers_is_used_as_it_is(tmp_path: Path) -> None:
    classifier = tiny_checkpoint(tmp_path / "classifier", "bert-classifier")
    lines = [f"text {n} is {'fine' if n % 2 else 'poor'},{'positive' if n % 2 else 'negative'}" for n in range(60)]
    data = tmp_path / "moods.csv"
    data.write_text("text,mood\n" + "\n".join(lines) + "\n")
    seen = []

    def stop(plan: object) -> None:
        seen.append(plan)
        raise KeyboardInterrupt

    asked = TryRequest(
        tasks=TaskRequest(data=data, label="mood"), models=[str(classifier), "average:width=8,buckets=50"], data=ACCESS
    )
    with pytest.raises(KeyboardInterrupt):
        try_data(asked, report=lambda _: None, on_plan=stop)
    plan = load_plan(Path("runs/try-moods/plan.yaml"))
    (own,) = [variant for variant in plan.variants if variant.model == str(classifier)]
    assert (own.name, own.runtime) == ("classifier", "torch")
    assert set(plan.models) == {"mini", "average-width-8-buckets-50"}
    assert plan.models["mini"].training.minutes == 1.5  # both trainings together have a share of the ten


@pytest.mark.usefixtures("_tiny")
@pytest.mark.parametrize(
    ("kind", "cells", "metric"),
    [
        ("regression", [str(n % 5) for n in range(60)], "pearson"),
        ("multi_label", ['"[""a""]"', '"[""b""]"', '"[""a"", ""b""]"'] * 20, "micro_f1"),
    ],
)
def test_other_kinds_and_pairs_are_tried_alike(tmp_path: Path, kind: str, cells: list[str], metric: str) -> None:
    data = tmp_path / "pairs.csv"
    lines = [f"text number {n} says {cell[3:4]},and so does {n % 9},{cell}" for n, cell in enumerate(cells)]
    data.write_text("one,two,answer\n" + "\n".join(lines) + "\n")
    own = TaskRequest(data=data, text="one", pair="two", label="answer", kind=kind)  # type: ignore[arg-type]
    tried = try_data(TryRequest(tasks=own, data=ACCESS), report=lambda _: None)
    assert not tried.ran.failed
    cells_done = [cell for cell in read_run(tried.folder).cells if cell.status == "done"]
    assert {cell.variant.name for cell in cells_done} >= {
        "trivial",
        "classical",
        "mini torch",
        "mini onnx",
        "mini int8",
    }
    assert all(next(iter(cell.metrics)) == metric for cell in cells_done)


def bad_data(folder: Path, text: str) -> Path:
    file = folder / "bad.csv"
    file.write_text(text)
    return file


@pytest.mark.usefixtures("_tiny")
@pytest.mark.parametrize(
    ("rows", "label", "sentence"),
    [
        (["good {n},a,{n}"] * 60, "starz", "unknown column of .*'starz'; did you mean 'stars'"),
        (["good {n},a,{n}"] * 60, None, r"say by --label .* Its columns: comment, stars, shop"),
        (["good {n},a,{n}"] * 60, "stars", "holds 1 value; a label column has at least two"),
        (["good {n},a,1", "bad {n},b,1"] * 6, "stars", "12 rows, of which 2 would be scored: on fewer than 6"),
        (["good,a,1", "good,b,1"] * 60, "stars", "all 120 texts .* are equal"),
        (["{n},a,1", "{n}.5,b,1"] * 60, "stars", r"holds numbers \(0(.0)?, ...\) and no texts"),
        ([",a,1", ",b,1"] * 60, "stars", "holds no text; name the column"),
        (["good {n},x{n},1"] * 300, "stars", "300 different values"),
    ],
    ids=["no-such-column", "no-label", "one-class", "twelve-rows", "equal-texts", "numbers", "empty", "all-different"],
)
def test_what_cannot_be_tried_is_said_in_a_sentence_and_leaves_nothing(
    tmp_path: Path, rows: list[str], label: str | None, sentence: str
) -> None:
    lines = [row.format(n=n) for n, row in enumerate(rows)]
    data = bad_data(tmp_path, "comment,stars,shop\n" + "\n".join(lines) + "\n")
    with pytest.raises(UsageError, match=sentence):
        try_data(TryRequest(tasks=request(data, label=label), data=ACCESS), report=lambda _: None)
    assert not (tmp_path / "runs" / "try-bad").exists()


@pytest.mark.usefixtures("_tiny")
def test_a_plan_that_was_edited_wrongly_is_told_with_its_line(say: Say, tmp_path: Path) -> None:
    data = stars(tmp_path)

    def stop(plan: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        try_data(TryRequest(tasks=request(data), data=ACCESS), report=lambda _: None, on_plan=stop)
    plan = Path("runs/try-reviews/plan.yaml")
    whole = plan.read_text()
    for change, sentence in (
        (("runtime: onnx", "runtme: onnx"), "did you mean 'runtime'"),
        (("seconds: 1", "seconds: soon"), "bench.seconds must be a number above 0, was 'soon'"),
        (("seeds: [1234]", "seeds: [1234"), "plan.yaml"),
    ):
        plan.write_text(whole.replace(*change))
        told = say("run", plan, "--offline")
        assert told.code == 2
        assert sentence in told.sentence


@pytest.mark.usefixtures("_tiny")
def test_python_tries_as_the_command_does(tmp_path: Path) -> None:
    rows = [
        {"comment": f"item {n} is {WORDS[label].split()[n % 4]}", "stars": label}
        for n in range(60)
        for label in ("51"[n % 2],)
    ]
    tried = lmtasks.try_(rows=rows, text="comment", label="stars", name="mine", progress=False)
    assert tried.folder == Path("runs/try-mine")
    assert tried.answer
    assert tried.plan.is_file()
    assert "comment" in tried.found[0]


@pytest.mark.real_data
@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize(("name", "column"), [("seamew/ChnSentiCorp", "text"), ("stanfordnlp/sst2", "sentence")])
def test_the_right_winner_on_two_thousand_rows(
    tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch, name: str, column: str
) -> None:
    """A minute adapts the backbone as far as the machine is fast, so that the scores say who is right."""
    rows = pyarrow.parquet.read_table(data_root / name / "train.parquet", columns=[column, "label"]).to_pylist()
    drawn = random.Random(5).sample(rows, 2000)
    monkeypatch.setattr("lmtasks.bench.isolate.Isolated", AtOnce)
    tried = lmtasks.try_(
        rows=drawn, text=column, label="label", name="mine", minutes=1, out=tmp_path / "run", progress=False
    )
    assert not tried.failed
    with (tried.folder / "results.csv").open(newline="", encoding="utf-8") as file:
        scores = {line["variant"]: float(line["value"]) for line in csv.DictReader(file) if line["metric"] == "acc"}
    learned = {name: score for name, score in scores.items() if name != "trivial"}
    assert len(learned) >= 3
    assert min(learned.values()) > scores["trivial"] + 0.1
    assert scores[tried.report.decision.variant] >= max(scores.values()) - 0.01  # the margin of a plan
