"""Files to begin with: they are read by the package as they stand, and say what the data is like."""

import json
from pathlib import Path

import pytest

from lmtasks.errors import UsageError
from lmtasks.run.plan import load_plan
from lmtasks.settings.data import DataAccess
from lmtasks.task.index import default_index
from lmtasks.workflow.choose_tasks import TaskRequest, chosen_tasks
from lmtasks.workflow.new_files import new_plan, new_task
from tests.said import Say

ACCESS = DataAccess(offline=True)


def reviews(folder: Path, *, rare: int = 40) -> Path:
    file = folder / "my reviews.csv"
    lines = [f'"good, item {number}: ""yes""",yes,{number}' for number in range(60)]
    lines += [f"bad {number},no,{number}" for number in range(rare)]
    file.write_text("the text,stars,id\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return file


def request(data: Path, *, text: str = "the text", label: str | None = "stars") -> TaskRequest:
    return TaskRequest(data=data, text=text, label=label, name="own")


def test_a_task_file_is_read_as_it_stands(tmp_path: Path) -> None:
    made = new_task("stars", request(reviews(tmp_path)), out=tmp_path / "stars", data=ACCESS)
    (task,) = default_index().find(str(made.file))
    (before,) = chosen_tasks(request(reviews(tmp_path)), use="both")
    assert (task.name, task.kind, task.language, task.labels) == ("stars", "classification", "en", before.labels)
    assert dict(made.rows) == {"train": 80, "test": 20}
    assert dict(made.labels) == {"yes": 48, "no": 32}
    rows = [json.loads(line) for line in (made.file.parent / "train.jsonl").read_text().splitlines()]
    assert set(rows[0]) == {"the text", "stars"}


def test_its_test_rows_are_those_that_adapt_sets_aside(tmp_path: Path) -> None:
    from lmtasks.data.splits import read_split

    data = reviews(tmp_path)
    made = new_task("stars", request(data), out=tmp_path / "stars", data=ACCESS)
    (before,) = chosen_tasks(request(data), use="both")
    aside = {row["the text"] for row in read_split(before, "test", options=ACCESS)}
    written = {json.loads(line)["the text"] for line in (made.file.parent / "test.jsonl").read_text().splitlines()}
    assert written == aside


def test_a_folder_keeps_its_own_splits(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for split, count in (("train", 30), ("test", 6)):
        lines = [f"text {split} {number},{'ab'[number % 2]}" for number in range(count)]
        (folder / f"{split}.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    made = new_task("mine", request(folder, text="text", label="label"), out=tmp_path / "out", data=ACCESS)
    assert dict(made.rows) == {"train": 30, "test": 6}


def test_what_one_should_mind_is_told_and_written(tmp_path: Path) -> None:
    made = new_task("stars", request(reviews(tmp_path, rare=5)), out=tmp_path / "stars", data=ACCESS)
    assert any("the label 'no' has 4 of 52 training rows" in note for note in made.notes)
    assert "# Mind: the label 'no'" in made.file.read_text()


def test_a_plan_over_it_is_read_as_it_stands(tmp_path: Path) -> None:
    made = new_task("stars", request(reviews(tmp_path)), out=tmp_path / "stars", data=ACCESS)
    file = new_plan("compare", str(made.file), models=["runs/a b", "lmtasks-mini"], out=tmp_path / "plan.yaml")
    plan = load_plan(file)
    assert plan.tasks == (str(made.file),)
    assert [variant.name for variant in plan.variants] == [
        "trivial", "classical", "runs-a-b", "lmtasks-mini", "mini torch", "mini onnx", "mini int8",
    ]  # fmt: skip


def test_a_task_without_training_rows_is_not_learned(tmp_path: Path) -> None:
    plan = load_plan(new_plan("p", "starter_paragraphs_en", models=["lmtasks-mini"], out=tmp_path / "p.yaml"))
    assert ("mini" in plan.models) == ("train" in default_index().find("starter_paragraphs_en")[0].sources)


def test_names_and_places_that_cannot_be_are_refused(tmp_path: Path) -> None:
    data = reviews(tmp_path)
    with pytest.raises(UsageError, match="letters, digits"):
        new_task("my task", request(data), out=tmp_path / "x", data=ACCESS)
    with pytest.raises(UsageError, match="exists already"):
        new_task("x", request(data), out=tmp_path, data=ACCESS)
    with pytest.raises(UsageError, match="looks at data"):
        new_task("x", TaskRequest(), out=tmp_path / "x", data=ACCESS)
    with pytest.raises(UsageError, match="unknown task"):
        new_plan("x", "no_such_task", models=(), out=tmp_path / "x.yaml")
    assert not (tmp_path / "x.yaml").exists()


def test_the_command_says_what_comes_next(say: Say, tmp_path: Path) -> None:
    told = say(
        "new",
        "task",
        "stars",
        "--data",
        reviews(tmp_path),
        "--text",
        "the text",
        "--label",
        "stars",
        "--out",
        tmp_path / "s",
    )
    assert told.code == 0
    assert "80 train rows, 20 test rows" in told.out
    file = tmp_path / "s" / "stars.yaml"
    assert f"Next: lmtasks new plan stars-plan --tasks {file}" in told.out
    plan = say("new", "plan", "p", "--tasks", file, "--out", tmp_path / "p.yaml")
    assert f"then lmtasks run {tmp_path / 'p.yaml'}" in plan.out
    assert say("validate", tmp_path / "p.yaml").code == 0
    assert say("new", "thing", "p").code == 2
