"""Groups and tags: what a name means, what groups set for their members, and what a group adds up.

The rules are lm-evaluation-harness 0.4.13's, read off `tasks/_factory.py` and `config/group.py`.
"""

from collections.abc import Mapping
from pathlib import Path

import pytest

from lmtasks.errors import UsageError
from lmtasks.task import Group, GroupMetric, TaskIndex, default_index, load_task

SMALL = "dataset_path: a/b\ntest_split: test\ndoc_to_text: q\ndoc_to_target: a\n"


def _folder(tmp_path: Path, files: Mapping[str, str]) -> TaskIndex:
    common = {
        "a.yaml": "task: a\ntag: [ab, abc]\n" + SMALL,
        "b.yaml": "task: b\ntag: [ab, abc]\nnum_fewshot: 1\n" + SMALL,
        "c.yaml": "task: c\ntag: abc\n" + SMALL,
        "_base": "output_type: generate_until\ndoc_to_text: base\ntarget_delimiter: '-'\n",
    }
    for name, text in {**common, **files}.items():
        (tmp_path / name).write_text(text)
    return TaskIndex([tmp_path])


INNER = "group: inner\ngroup_alias: In\ntask: [b, c]\nnum_fewshot: 2\ndescription: inner\n"
OUTER = "group: outer\ntask: [a, inner]\nnum_fewshot: 3\nmetadata: {version: 4}\n"


def test_settings_of_groups_reach_their_members(tmp_path: Path) -> None:
    index = _folder(tmp_path, {"inner.yaml": INNER, "outer.yaml": OUTER})
    inner = {task.name: (task.num_fewshot, task.description) for task in index.find("inner")}
    assert inner == {"b": (2, "inner"), "c": (2, "inner")}, "a group's setting wins over the file's own"
    outer = {task.name: (task.num_fewshot, task.description) for task in index.find("outer")}
    assert outer == {"a": (3, ""), "b": (3, "inner"), "c": (3, "inner")}, "an outer group's wins over an inner one's"
    assert index.find("b")[0].num_fewshot == 1, "alone it is as its file says"
    assert index.find("b")[0].hash != index.find("inner")[0].hash
    assert index.groups() == ("inner", "outer")


def test_groups_keep_their_shape(tmp_path: Path) -> None:
    index = _folder(tmp_path, {"inner.yaml": INNER, "outer.yaml": OUTER})
    inner = Group(name="inner", alias="In", members=("b", "c"))
    (outer,) = index.find_groups("outer, a")
    assert outer == Group(name="outer", alias="outer", members=("a", inner), version="4")
    assert outer.tasks == ("a", "b", "c")
    assert index.find_groups("a,ab,b*") == ()
    assert index.find_groups(f"{tmp_path}/outer.yaml") == (outer,)
    assert [task.name for task in index.find(f"{tmp_path}/outer.yaml")] == ["a", "b", "c"]


def test_what_is_inside_has_the_name_of_its_group(tmp_path: Path) -> None:
    text = (
        "group: g\nfewshot_delimiter: '|'\ntask:\n"
        "  - {task: b, num_fewshot: 5, task_alias: Bee, fewshot_delimiter: '+'}\n"
        "  - {task: new, include: _base, dataset_path: x/y, test_split: test, doc_to_target: t}\n"
        "  - {group: part, group_alias: Part, task: [a, c], description: D, aggregate_metric_list: {metric: acc}}\n"
    )
    index = _folder(tmp_path, {"g.yaml": text})
    tasks = {task.name: task for task in index.find("g")}
    assert list(tasks) == ["b", "g::new", "a", "c"]
    assert (tasks["b"].num_fewshot, tasks["b"].alias, tasks["b"].fewshot_delimiter) == (5, "Bee", "+")
    new = tasks["g::new"]
    assert (new.templates.asked.question, new.target_delimiter, new.fewshot_delimiter) == ("base", "-", "|")
    assert [tasks[name].description for name in ("b", "a", "c")] == ["", "D", "D"]
    assert [tasks[name].fewshot_delimiter for name in ("a", "c")] == ["|", "|"]
    (group,) = index.find_groups("g")
    part = Group(name="g::part", alias="Part", members=("a", "c"), aggregations=(GroupMetric(metric="acc"),))
    assert group.members == ("b", "g::new", part)


@pytest.mark.parametrize(
    ("listed", "made"),
    [
        ("[{metric: acc}]", (GroupMetric(metric="acc"),)),
        ("{metric: acc, filter_list: none}", (GroupMetric(metric="acc", filters=("none",)),)),
        (
            "[{metric: acc, filter_list: [a, b], aggregation: mean, weight_by_size: false}, {metric: f1}]",
            (GroupMetric(metric="acc", filters=("a", "b"), weight_by_size=False), GroupMetric(metric="f1")),
        ),
        ("[]", ()),
    ],
)
def test_what_a_group_adds_up(tmp_path: Path, listed: str, made: tuple[GroupMetric, ...]) -> None:
    index = _folder(tmp_path, {"g.yaml": f"group: g\ntask: [a]\naggregate_metric_list: {listed}\n"})
    assert index.find_groups("g")[0].aggregations == made


def test_a_tag_is_its_tasks_by_name_and_no_group(tmp_path: Path) -> None:
    index = _folder(tmp_path, {"g.yaml": "group: g\ntask: [c, ab]\nnum_fewshot: 7\n"})
    assert [task.name for task in index.find("abc")] == ["a", "b", "c"]
    assert [(task.name, task.num_fewshot) for task in index.find("g")] == [("c", 7), ("a", 7), ("b", 7)]
    assert index.find_groups("g")[0].members == ("c", "a", "b")


def test_names_beside_a_group_file_go_before_those_of_the_index(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    _folder(tmp_path / "mine", {"g.yaml": "group: g\ntask: [a, d]\n"})
    (tmp_path / "others").mkdir()
    index = _folder(tmp_path / "others", {"d.yaml": "task: d\n" + SMALL})
    files = {task.name: task.file for task in index.find(f"{tmp_path}/mine/g.yaml")}
    assert files == {"a": tmp_path / "mine" / "a.yaml", "d": tmp_path / "others" / "d.yaml"}


@pytest.mark.parametrize(
    ("files", "pattern", "message"),
    [
        ({"g.yaml": "group: g\ntask: [aa]\n"}, "g", r"unknown member of the group g \(.*g\.yaml\) 'aa'; did you mean"),
        ({"g.yaml": "group: g\ntask: [{task: aa, num_fewshot: 1}]\n"}, "g", r"unknown member of the group g .*'aa'"),
        ({"g.yaml": "group: g\ntask: []\n"}, "g", r"the group g .* has no members; list them under the key task"),
        ({"g.yaml": "group: g\n"}, "g", r"the group g .* has no members"),
        ({"g.yaml": "group: g\ntask: [{tsk: a}]\n"}, "g", r"a mapping with task: or group:, was: .*tsk"),
        (
            {"g.yaml": "group: g\ntask: [h]\n", "h.yaml": "group: h\ntask: [g]\n"},
            "g",
            r"the group g is a member of itself, by way of g -> h -> g",
        ),
        (
            {"g.yaml": "group: g\ntask: [a]\n", "h.yaml": "group: g\ntask: [b]\n"},
            "g",
            r"several files define the group",
        ),
        (
            {"g.yaml": "group: g\ntask: [{task: b, num_fewshot: 5}]\n"},
            "b,g",
            r"the task b is asked for twice, and groups set other things for it; name one",
        ),
        (
            {"g.yaml": "group: g\ntask: [a]\nshots: 3\n"},
            "g",
            r"g\.yaml:3: unknown key of a task file 'shots'",
        ),
        (
            {"g.yaml": "group: g\ntask: [a]\naggregate_metric_list: [{metric: acc, aggregation: median}]\n"},
            "g",
            r"aggregated by mean, was: 'median'",
        ),
        (
            {"g.yaml": "group: g\ntask: [a]\naggregate_metric_list: [{metric: acc, weighted: no}]\n"},
            "g",
            r"unknown key of aggregate_metric_list in the group g .*'weighted'; did you mean 'weight_by_size'",
        ),
        (
            {"g.yaml": "group: g\ntask: [a]\naggregate_metric_list: [{metric: acc, weight_by_size: sure}]\n"},
            "g",
            r"weight_by_size must be true or false, was: 'sure'",
        ),
        ({"g.yaml": "group: g\ntask: [a]\naggregate_metric_list: [{filter_list: x}]\n"}, "g", r"names a metric, was"),
        ({}, "abd", r"unknown task 'abd'; did you mean 'ab' or 'abc'"),
    ],
)
def test_groups_that_do_not_work(tmp_path: Path, files: Mapping[str, str], pattern: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        _folder(tmp_path, files).find(pattern)


def test_code_in_a_group_needs_trust_too(tmp_path: Path) -> None:
    (tmp_path / "utils.py").write_text("def ask(row):\n    return 'Q: ' + row['q']\n")
    index = _folder(tmp_path, {"g.yaml": "group: g\ntask: [a]\ndoc_to_text: !function utils.ask\n"})
    with pytest.raises(UsageError, match=r"doc_to_text is Python code \(!function utils\.ask\).*--trust-code"):
        index.find("g")
    assert index.find("g", trust_code=True)[0].name == "a"


def test_a_group_is_no_task(tmp_path: Path) -> None:
    _folder(tmp_path, {"g.yaml": "group: g\ntask: [a]\n"})
    with pytest.raises(UsageError, match=r"is a group of tasks, not a task; .*: a\."):
        load_task(tmp_path / "g.yaml")


@pytest.mark.parametrize("name", ["glue", "nlu", "zh", "seeds"])
def test_our_groups_have_a_mean_of_what_each_task_is_judged_by(name: str) -> None:
    (group,) = default_index().find_groups(name)
    assert group.aggregations == (GroupMetric(metric="main", weight_by_size=False),)
    assert [task.name for task in default_index().find(name)] == list(group.tasks)
    if name == "seeds":
        inner = [member for member in group.members if isinstance(member, Group)]
        assert len(inner) == len(group.members) >= 10
        assert all(member.aggregations == group.aggregations for member in inner)
