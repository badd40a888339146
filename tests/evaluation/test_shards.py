"""Shards answered apart and merged: the bytes of one process, and what is no shard of the evaluation is refused."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from small_tasks import TASKS, model, small_task
from test_unlisted import CODE

from lmtasks.errors import LmtasksError, UsageError
from lmtasks.evaluation.baselines import BaselineSolver
from lmtasks.evaluation.evaluate import answer_shard, changes_of, evaluate
from lmtasks.evaluation.prepare import EvalOptions
from lmtasks.evaluation.protocols import Solver
from lmtasks.evaluation.samples import sample_files
from lmtasks.evaluation.shards import (
    SHARD,
    Shard,
    ShardScored,
    StoredShard,
    check_shards,
    merge_shards,
    parse_shard,
    read_shard,
    write_shard,
)
from lmtasks.evaluation.write import samples_file, write_results
from lmtasks.settings.data import DataAccess
from lmtasks.task.index import default_index
from lmtasks.task.load import load_task
from lmtasks.task.task import Task

OPTIONS = EvalOptions(data=DataAccess(offline=True), resamples=20)


def whole(solver: Solver, tasks: Sequence[Task], out: Path, options: EvalOptions = OPTIONS) -> None:
    """The folder of one process."""
    results = evaluate(solver=solver, tasks=tasks, options=options)
    write_results(out, results=results, model=solver.model, runtime=solver.card, machine={}, versions={})


def answer(shard: Shard, solver: Solver, tasks: Sequence[Task], out: Path, options: EvalOptions = OPTIONS) -> Path:
    """The folder of one shard."""
    place, failed = out / shard.folder, dict[str, LmtasksError]()
    with sample_files(place, name=samples_file) as samples:
        answered = answer_shard(
            shard.part, solver=solver, tasks=tasks, options=options, samples=samples,
            on_progress=lambda progress: None, on_failure=failed.__setitem__,
        )  # fmt: skip
        scored = ShardScored(
            shard=shard, answered=answered, changes=changes_of(tasks), groups=(), model=solver.model,
            runtime=solver.card, machine={}, versions={}, seed=options.seed, resamples=options.resamples,
            draws=options.draws, asked={}, place=0, failed={name: str(error) for name, error in failed.items()},
        )  # fmt: skip
        write_shard(place, scored, samples=samples)
    return place


def merged(folders: Sequence[Path], out: Path, tasks: Sequence[Task] = ()) -> None:
    """The folder of all shards together."""
    shards = check_shards([read_shard(folder) for folder in folders])
    with sample_files(out, name=samples_file) as samples:
        found = merge_shards(shards, tasks=tasks, samples=samples)
        record = shards[0].record
        write_results(
            out, results=found.results, model=record.model, runtime=record.runtime, machine={}, versions={},
            samples=samples,
        )  # fmt: skip


def assert_same_bytes(one: Path, other: Path) -> None:
    names = {file.name for file in one.iterdir()}
    assert names == {file.name for file in other.iterdir()}
    for name in sorted(names - {"results.json"}):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    here, there = (json.loads((each / "results.json").read_text())["results"] for each in (one, other))
    assert list(here) == list(there)
    for task, record in here.items():
        for each in (record, there[task]):
            del each["seconds"], each["seconds_total"]
        assert record == there[task], task


def every_task(folder: Path) -> list[Task]:
    """A task of each kind, one of changed rows, and one whose rows cannot be divided."""
    tasks = [small_task(folder, name) for name in TASKS]
    changed = default_index(include=[folder]).find("classification@typos")
    joined = small_task(folder, "language_modelling", more="windows: {stride: 3, concatenate: true}")
    assert changed[0].clean is not None
    return [*tasks, replace(joined, name="joined"), *changed]


@pytest.mark.parametrize("count", [1, 3, 9])
def test_merged_shards_are_the_bytes_of_one_process(count: int, tmp_path: Path) -> None:
    tasks = every_task(tmp_path)  # of some there are fewer rows than shards
    whole(model(rows=1), tasks, tmp_path / "one")
    folders = [answer(Shard(index=each, count=count), model(rows=1), tasks, tmp_path) for each in range(1, count + 1)]
    merged(folders[::-1], tmp_path / "merged")
    assert_same_bytes(tmp_path / "one", tmp_path / "merged")
    results = json.loads((tmp_path / "merged" / "results.json").read_text())["results"]
    assert results["classification@typos"]["changed"]["clean"] == "classification"


def test_baselines_learn_from_all_rows_and_answer_their_part(tmp_path: Path) -> None:
    tasks, solver = [small_task(tmp_path, "classification")], BaselineSolver("tfidf")
    whole(solver, tasks, tmp_path / "one")
    merged([answer(Shard(index=each, count=3), solver, tasks, tmp_path) for each in (1, 2, 3)], tmp_path / "merged")
    assert_same_bytes(tmp_path / "one", tmp_path / "merged")
    known = json.loads((tmp_path / "merged" / "results.json").read_text())["results"]["classification"]["overlap"]
    assert known["learned"] is not None, "rows that were learned are counted over all shards"


def test_a_task_of_code_is_merged_by_its_file(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(CODE)
    small_task(tmp_path, "generation")
    file = tmp_path / "generation.yaml"
    lines = [line for line in file.read_text().splitlines() if not line.startswith("metrics:")]
    file.write_text("\n".join([*lines, "process_results: !function own.values", "metric_list: [{metric: listed}]"]))
    tasks = [load_task(file, trust_code=True)]
    whole(model(rows=1), tasks, tmp_path / "one")
    folders = [answer(Shard(index=each, count=2), model(rows=1), tasks, tmp_path) for each in (1, 2)]
    merged(folders, tmp_path / "merged", tasks)
    one, other = (json.loads((tmp_path / name / "results.json").read_text())["results"] for name in ("one", "merged"))
    assert one["generation"]["metrics"] == other["generation"]["metrics"]


@pytest.fixture
def three(tmp_path: Path) -> list[Path]:
    """Three shards of one task."""
    tasks = [small_task(tmp_path, "classification")]
    return [answer(Shard(index=each, count=3), model(rows=1), tasks, tmp_path) for each in (1, 2, 3)]


def checked(folders: Sequence[Path]) -> tuple[StoredShard, ...]:
    return check_shards([read_shard(folder) for folder in folders])


def test_missing_and_double_shards_are_named(three: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"shards 2 of 3 are missing; evaluate each with --shard i/3"):
        checked([three[0], three[2]])
    again = shutil.copytree(three[1], tmp_path / "again")
    with pytest.raises(UsageError, match=r"shard 2 is there twice: .*shard-2-of-3 and .*again"):
        checked([*three, again])


def test_an_unfinished_shard_is_none(three: list[Path]) -> None:
    (three[1] / SHARD).unlink()
    with pytest.raises(UsageError, match=r"holds no shard\.json: it is no shard, or one that was not finished"):
        checked(three)


def edited(folder: Path, change: Callable[[dict[str, object]], object]) -> None:
    """A record with another content, and without its checksum."""
    record = json.loads((folder / SHARD).read_text())
    change(record)
    record.pop("checksum")
    (folder / SHARD).write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("versions", {"lmtasks": "0.1"}, "are of different versions (lmtasks: None and 0.1)"),
        ("asked", {"--limit": 5}, "are of different options (--limit: None and 5)"),
        ("seed", 5, "are of different options (1234 and 5)"),
        ("count", 4, "is one of 3 shards and"),
    ],
)
def test_shards_of_another_evaluation_are_refused(key: str, value: object, told: str, three: list[Path]) -> None:
    edited(three[2], lambda record: record.update({key: value}))
    with pytest.raises(UsageError) as refused:
        checked(three)
    assert told in str(refused.value)


def test_shards_of_another_model_task_or_other_rows_are_refused(three: list[Path]) -> None:
    text = (three[2] / SHARD).read_text()
    edited(three[2], lambda record: record["model"].update(weights_hash="another"))  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="are of different model"):
        checked(three)
    (three[2] / SHARD).write_text(text)
    edited(three[2], lambda record: record["tasks"]["classification"].update(hash="another"))  # type: ignore[index]
    with pytest.raises(UsageError, match="hold classification of another version of the task"):
        checked(three)
    (three[2] / SHARD).write_text(text)
    edited(three[2], lambda record: record["tasks"]["classification"].update(rows=21))  # type: ignore[index]
    with pytest.raises(UsageError, match="hold classification of other rows"):
        checked(three)


def test_uneven_and_changed_shards_are_told(three: list[Path], tmp_path: Path) -> None:
    file = three[1] / samples_file("classification")
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:-1]))
    with pytest.raises(UsageError, match="was changed since it was written"):
        merged(three, tmp_path / "merged")
    edited(three[1], lambda record: record["tasks"]["classification"].update(n=6))  # type: ignore[index]
    with pytest.raises(UsageError, match=r"shard-2-of-3 holds 6 rows of classification, and not 7 of 20"):
        checked(three)


def test_a_failed_shard_fails_its_task(tmp_path: Path) -> None:
    tasks = [small_task(tmp_path, "classification"), small_task(tmp_path, "multiple_choice")]
    folders = [answer(Shard(index=each, count=2), model(rows=1), tasks, tmp_path) for each in (1, 2)]

    def fail(record: dict[str, object]) -> None:
        record["tasks"].pop("multiple_choice")  # type: ignore[attr-defined]
        record["failed"] = {"multiple_choice": "row 3 overflows."}

    edited(folders[1], fail)
    found = merge_shards(checked(folders), tasks=(), samples=None)
    assert [result.task for result in found.results] == ["classification"]
    assert found.failed == {"multiple_choice": "shard 2: row 3 overflows."}


@pytest.mark.parametrize("text", ["", "2", "0/4", "5/4", "a/b", "1/4/2", "-1/4", "１/4"])
def test_a_shard_is_i_of_n(text: str) -> None:
    with pytest.raises(UsageError):
        parse_shard(text)


def test_slurm_names_the_shard() -> None:
    variables = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_TASK_COUNT": "4"}
    assert parse_shard("slurm", variables=variables) == Shard(index=4, count=4)
    with pytest.raises(UsageError, match="SLURM_ARRAY_TASK_COUNT, which is '' here; start it as an array job"):
        parse_shard("slurm", variables={"SLURM_ARRAY_TASK_ID": "3"})
