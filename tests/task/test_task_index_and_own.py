"""Finding tasks, naming one's own data, and what a task's hash depends on."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import lmtasks.task.index
import lmtasks.task.scan
import lmtasks.task.yaml_file
from lmtasks.errors import UsageError
from lmtasks.task import (
    TaskIndex,
    build_prompt,
    default_index,
    head_input,
    load_task,
    own_task,
    pick_shots,
    scored_text,
)

SMALL = "dataset_path: a/b\ntest_split: test\ndoc_to_text: q\ndoc_to_target: a\n"


def _folder(tmp_path: Path) -> Path:
    (tmp_path / "a.yaml").write_text("task: mine_a\ntag: both\nabout: first\n" + SMALL)
    (tmp_path / "b.yml").write_text("task: mine_b\ntag: [both, other]\nlanguage: zh\n" + SMALL)
    (tmp_path / "group.yaml").write_text("group: all_mine\ntask: [mine_a, {task: mine_b}]\n")
    (tmp_path / "_base.yaml").write_text(SMALL)
    (tmp_path / "broken.yaml").write_text("task: [a\n")
    return tmp_path


def test_names_globs_tags_groups_and_files(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    index = TaskIndex([folder])
    assert index.names() == ("mine_a", "mine_b")
    assert [(entry.language, entry.source, entry.about) for entry in index.entries()] == [
        ("en", "a/b", "first"),
        ("zh", "a/b", ""),
    ]
    for pattern in ("mine_a, mine_b", "mine_*", "both", "all_mine", f"{folder}/a.yaml,{folder}/b.yml", str(folder)):
        assert [task.name for task in index.find(pattern)] == ["mine_a", "mine_b"], pattern
    assert [task.name for task in index.find(f"mine_b,both,{folder}/group.yaml")] == ["mine_b", "mine_a"]
    assert [task.name for task in TaskIndex([]).find(f"{folder}/group.yaml")] == ["mine_a", "mine_b"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("mine_c", r"unknown task 'mine_c'; did you mean 'mine_[ab]'.*1 files could not be read; the first: .*broken"),
        ("nothing_*", r"unknown task 'nothing_\*'"),
        (" , ", r"no task was named"),
        ("some/where.yaml", r"there is no task file some/where\.yaml"),
    ],
)
def test_what_matches_nothing(tmp_path: Path, pattern: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TaskIndex([_folder(tmp_path)]).find(pattern)


def test_one_name_in_two_files(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    (folder / "c.yaml").write_text("task: mine_a\n" + SMALL)
    with pytest.raises(UsageError, match=r"several files define the task mine_a: .*a\.yaml, .*c\.yaml"):
        TaskIndex([folder]).find("mine_a")


def test_names_are_found_without_heavy_imports() -> None:
    code = (
        "import sys; from lmtasks.task import default_index; assert len(default_index().entries()) > 30; "
        "heavy = {'pydantic', 'jinja2', 'torch', 'transformers', 'datasets', 'sklearn', 'pandas', 'pyarrow'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_the_hash_depends_on_meaning_alone(tmp_path: Path) -> None:
    file, other = tmp_path / "task.yaml", tmp_path / "elsewhere" / "other.yaml"
    other.parent.mkdir()
    file.write_text("task: t\n" + SMALL)
    task = load_task(file)
    turned = "\n".join(reversed(SMALL.splitlines()))
    (other.parent / "base").write_text(turned + "\ntarget_delimiter: ' '\nnum_fewshot: 0\n")
    other.write_text("about: shown only\ntask_alias: T\ntag: x\noutput_type: generate_until\ninclude: base\ntask: t\n")
    assert load_task(other).hash == task.hash
    for change in ("num_fewshot: 1", "target_delimiter: ''", "metrics: [bleu]", "revision: v2", "language: zh"):
        file.write_text(f"task: t\n{SMALL}{change}\n")
        assert load_task(file).hash != task.hash, change


def test_embedded_tasks_keep_their_hash_where_they_lie(tmp_path: Path) -> None:
    (task,) = default_index().find("starter_qa_en")
    assert task.file is not None
    shutil.copytree(task.file.parents[2], tmp_path / "tasks")
    (moved,) = TaskIndex([tmp_path / "tasks"]).find("starter_qa_en")
    assert moved.hash == task.hash
    assert moved.sources["test"].base != task.sources["test"].base


def test_own_data_without_a_task_file(tmp_path: Path) -> None:
    data = tmp_path / "reviews.csv"
    data.write_text("my text,stars\ngood,5\n")
    task = own_task(data=data, text="my text", label="stars", labels=["1", "5"])
    assert (task.name, task.kind, task.labels) == ("reviews", "classification", ("1", "5"))
    source = task.sources["test"]
    assert (source.path, source.data_files, source.base) == ("csv", {"test": "reviews.csv"}, tmp_path.resolve())
    row = {"my text": "good", "stars": 5}
    assert head_input(task, row, row_number=0).label == 1
    assert build_prompt(task, row).context == "good\nCategory:"
    assert head_input(task, {"my text": "good"}, row_number=0, labelled=False).label is None
    chinese = own_task(data=data, text="my text", label="stars", labels=["1", "5"], language="zh", use="train")
    assert build_prompt(chinese, row).context == "good\n类别："
    assert set(chinese.sources) == {"train"}


def test_own_text_and_own_folder(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / f"{split}.txt").write_text("a line\n")
    task = own_task(data=tmp_path, text="text", label=None, name="lines")
    assert (task.kind, set(task.sources)) == ("language_modelling", {"train", "test"})
    assert scored_text(task, {"text": "a line"}) == "a line"


@pytest.mark.parametrize(
    ("file", "labels", "message"),
    [
        ("none.csv", ["a", "b"], r"there is no data file .*none\.csv"),
        ("data.docx", ["a", "b"], r"data\.docx is of no known format; known by suffix: .*\.csv, \.tsv, \.xlsx"),
        ("data.csv", ["a"], r"kind classification needs at least two labels, has 1"),
        ("empty", ["a", "b"], r"empty holds no train, validation or test file"),
    ],
)
def test_own_data_that_does_not_work(tmp_path: Path, file: str, labels: list[str], message: str) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("data.docx", "data.csv"):
        (tmp_path / name).write_text("x")
    with pytest.raises(UsageError, match=message):
        own_task(data=tmp_path / file, text="a", label="b", labels=labels)


POOL = [{"q": str(number), "a": "x"} for number in range(50)]


def test_shots_depend_on_seed_and_row_alone(tmp_path: Path) -> None:
    (task,) = TaskIndex([_folder(tmp_path)]).find("mine_a")
    first = [pick_shots(task, pool=POOL, row=POOL[n], row_number=n, count=5, seed=1) for n in range(20)]
    again = [pick_shots(task, pool=POOL, row=POOL[n], row_number=n, count=5, seed=1) for n in reversed(range(20))]
    assert first == again[::-1]
    assert len({str(shots) for shots in first}) == 20
    assert first != [pick_shots(task, pool=POOL, row=POOL[n], row_number=n, count=5, seed=2) for n in range(20)]
    for number, shots in enumerate(first):
        assert len(shots) == len({str(shot) for shot in shots}) == 5
        assert POOL[number] not in shots


def test_shots_of_small_pools(tmp_path: Path) -> None:
    (task,) = TaskIndex([_folder(tmp_path)]).find("mine_a")
    twins = [{"q": "same", "a": "x"}] * 30 + [{"q": "other", "a": "y"}] * 2
    assert pick_shots(task, pool=twins, row=twins[0], row_number=0, count=2, seed=1) == tuple(twins[30:])
    assert pick_shots(task, pool=[], row=twins[0], row_number=0, count=0, seed=1) == ()
    with pytest.raises(UsageError, match=r"5 worked examples were asked for, but only 2 rows other than"):
        pick_shots(task, pool=twins, row=twins[0], row_number=0, count=5, seed=1)


def test_first_n_and_rows_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text("task: t\nfewshot_config: {sampler: first_n}\n" + SMALL)
    task = load_task(file)
    assert pick_shots(task, pool=POOL, row=POOL[1], row_number=1, count=2, seed=1) == (POOL[0], POOL[2])
    file.write_text("task: t\nfewshot_config: {samples: [{q: one, a: two}]}\n" + SMALL)
    assert pick_shots(load_task(file), pool=POOL, row=POOL[1], row_number=1, count=1, seed=1) == (
        {"q": "one", "a": "two"},
    )


def _tree(tmp_path: Path) -> Path:
    folder = _folder(tmp_path)
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "_shared").write_text("tag:\n  - shared\n  - other\n" + SMALL)
    (folder / "deep" / "er" / "c.yaml").write_text('include: ../_shared\n"task": "mine_c" # its name\n')
    (folder / "deep" / "er" / "d.yaml").write_text(
        "include: ../_shared\ntag: own\ngroup: old_tag\ntask: starter_topic_en\n"
    )
    (folder / "deep" / "all.yaml").write_text(
        "group: deep_ones\ntask:\n  - mine_c\n  - group: inner\n    task: [mine_a]\n"
    )
    return folder


def test_a_folder_that_is_included_means_what_a_folder_that_is_read_means(tmp_path: Path) -> None:
    folder = _tree(tmp_path)
    read, included = TaskIndex([folder]), TaskIndex([], include=[folder])
    assert included.names() == read.names() == ("mine_a", "mine_b", "mine_c", "starter_topic_en")
    assert included.groups() == read.groups() == ("all_mine", "deep_ones")
    assert included.entries() == read.entries()
    for pattern in ("mine_c", "mine*", "both", "other", "shared", "own", "old_tag", "all_mine", "deep_ones"):
        assert [task.hash for task in included.find(pattern)] == [task.hash for task in read.find(pattern)], pattern
        assert included.find_groups(pattern) == read.find_groups(pattern)


def test_an_included_folder_comes_before_what_is_shipped(tmp_path: Path) -> None:
    index = default_index(include=[_tree(tmp_path)])
    (task,) = index.find("starter_topic_en")
    assert task.file == tmp_path / "deep" / "er" / "d.yaml"
    assert index.find("starter_topic_zh") == default_index().find("starter_topic_zh")
    with pytest.raises(UsageError, match=r"unknown task 'mine_d'; did you mean 'mine_[abc]'"):
        index.find("mine_d")
    with pytest.raises(UsageError, match=r"--include-path .*nothing is no folder"):
        default_index(include=[tmp_path / "nothing"])


def test_files_that_nobody_asks_for_are_not_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _tree(tmp_path)
    read: list[str] = []
    real = lmtasks.task.yaml_file.read_task_yaml
    for module in (lmtasks.task.scan, lmtasks.task.index, lmtasks.task.index):
        monkeypatch.setattr(module, "read_task_yaml", lambda file: (read.append(file.name), real(file))[1])
    assert TaskIndex([], include=[folder]).find("mine_c")[0].name == "mine_c"
    assert read == ["c.yaml"]


@pytest.mark.parametrize("pattern", ["/", "///"])
def test_nobody_waits_for_a_walk_through_a_whole_file_system(pattern: str) -> None:
    with pytest.raises(UsageError, match="is the root of a file system"):
        default_index().find(pattern)
