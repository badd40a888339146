"""Groups: files with `group:` and a list of `task:`, as lm-evaluation-harness 0.4.13 reads them.

A member is the name of a task, a group or a tag; or a mapping: `{task: name, ...}` with settings for it, an inline
task where the name is not known, `{group: name, ...}` an inline group. Settings of a group's file that are not the
group's own go to all its members; a member's own settings win over its group's, and an outer group's over an inner's.
Source: `tasks/_factory.py`.

group: mine
task: [arc_easy, {task: arc_challenge, num_fewshot: 5}, {group: rest, task: [sciq]}]
aggregate_metric_list: [{metric: acc, weight_by_size: true}]
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from lmtasks.errors import UsageError, unknown
from lmtasks.task.functions import FunctionRef
from lmtasks.task.yaml_file import TaskYaml

GROUP_KEYS = ("group", "group_alias", "task", "aggregate_metric_list", "metadata", "tag", "include", "task_list")
"""Keys of a group that are its own; all others are settings of its members."""
METRIC_KEYS = ("metric", "filter_list", "aggregation", "weight_by_size")
JOIN = "::"
"""Between the name of a group and that of what is defined inside of it."""


@dataclass(frozen=True, kw_only=True)
class GroupMetric:
    """One value of a group, made of a metric of its tasks."""

    metric: str
    filters: tuple[str, ...] | None = None
    """Of which filter pipelines; None: of each that a task has."""
    aggregation: Literal["mean"] = "mean"
    weight_by_size: bool = True
    """Does a task count by its number of examples? Else all count alike."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Tasks under one name, and what is made of their scores."""

    name: str
    alias: str
    """The name to show."""
    members: tuple["str | Group", ...]
    """Names of tasks, and groups."""
    aggregations: tuple[GroupMetric, ...] = ()
    version: str = "1"

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of all tasks in it, those of inner groups too, each once."""
        return tuple(dict.fromkeys(self._tasks()))

    def _tasks(self) -> Iterator[str]:
        for member in self.members:
            yield from (member,) if isinstance(member, str) else member._tasks()


@dataclass(frozen=True, kw_only=True)
class UnloadedTask:
    """A task that is not loaded yet: its keys, with all settings of groups in them."""

    name: str
    yaml: TaskYaml
    change: str = ""
    """How its scored rows are changed; `*`: in every way that suits them."""
    must_fit: bool = True
    """Was it named by itself? A task of several that cannot be changed so is left out."""


@dataclass(frozen=True, kw_only=True)
class WantedGroup:
    """A group whose tasks are not loaded yet."""

    name: str
    alias: str
    members: tuple["UnloadedTask | WantedGroup", ...]
    aggregations: tuple[GroupMetric, ...]
    version: str

    @property
    def tasks(self) -> tuple[UnloadedTask, ...]:
        """All tasks in it, those of inner groups too."""
        return tuple(self._tasks())

    def _tasks(self) -> Iterator[UnloadedTask]:
        for member in self.members:
            yield from (member,) if isinstance(member, UnloadedTask) else member._tasks()

    def named(self) -> Group:
        """The group, its tasks by their names."""
        return Group(
            name=self.name,
            alias=self.alias,
            members=tuple(
                member.name if isinstance(member, UnloadedTask) else member.named() for member in self.members
            ),
            aggregations=self.aggregations,
            version=self.version,
        )


def is_group(keys: Mapping[str, object]) -> bool:
    """Do these keys make a group? `group: name` beside `task: name` is an older way to write a tag."""
    return isinstance(keys.get("group"), str) and not isinstance(keys.get("task"), str)


def settings_of(keys: Mapping[str, object]) -> dict[str, object]:
    """The settings that a group gives to its members."""
    return {key: value for key, value in keys.items() if key not in GROUP_KEYS}


def members_of(keys: Mapping[str, object], *, where: str) -> tuple[str | Mapping[str, object], ...]:
    """The members as the file lists them: names, and mappings with a name under `task` or `group`.

    Raises:
        UsageError: it has none, or one is neither.
    """
    listed = keys.get("task")
    if not isinstance(listed, list) or not listed:
        raise UsageError(f"{where} has no members; list them under the key task.")
    members: list[str | Mapping[str, object]] = []
    for member in listed:
        if isinstance(member, str):
            members.append(member)
        elif isinstance(member, Mapping) and isinstance(member.get("group", member.get("task")), str):
            members.append({str(key): value for key, value in member.items()})
        else:
            raise UsageError(
                f"{where}: a member is the name of a task or a group, or a mapping with task: or group:, was: "
                f"{str(member)[:80]!r}."
            )
    return tuple(members)


def aggregations_of(keys: Mapping[str, object], *, where: str) -> tuple[GroupMetric, ...]:
    """`aggregate_metric_list`.

    Raises:
        UsageError: a key is unknown, or an aggregation is not the mean.
    """
    listed = keys.get("aggregate_metric_list")
    lines = [listed] if isinstance(listed, Mapping) else listed
    if lines is None:
        return ()
    if not isinstance(lines, list) or not all(isinstance(line, Mapping) for line in lines):
        raise UsageError(f"{where}: aggregate_metric_list must be a list of mappings, was: {str(listed)[:80]!r}.")
    return tuple(_aggregation(line, where=where) for line in lines)


def _aggregation(line: Mapping[str, object], *, where: str) -> GroupMetric:
    for key in line:
        if key not in METRIC_KEYS:
            raise unknown(f"key of aggregate_metric_list in {where}", str(key), METRIC_KEYS)
    metric, aggregation = line.get("metric"), line.get("aggregation", "mean")
    if isinstance(metric, FunctionRef):
        metric = metric.name
    if not isinstance(metric, str):
        raise UsageError(f"{where}: each line of aggregate_metric_list names a metric, was: {dict(line)!r}.")
    if aggregation != "mean":
        given = f"!function {aggregation.qualified}" if isinstance(aggregation, FunctionRef) else repr(aggregation)
        raise UsageError(
            f"{where}: a group's scores are aggregated by mean, was: {given}; lm-evaluation-harness takes no other "
            "name, and takes the mean where code is named."
        )
    filters, weighted = line.get("filter_list"), line.get("weight_by_size", True)
    if not isinstance(weighted, bool):
        raise UsageError(f"{where}: weight_by_size must be true or false, was: {weighted!r}.")
    names = [filters] if isinstance(filters, str) else filters
    if names is not None and not isinstance(names, list):
        raise UsageError(f"{where}: filter_list of aggregate_metric_list must be a list of names, was: {filters!r}.")
    return GroupMetric(
        metric=metric, filters=None if names is None else tuple(map(str, names)), weight_by_size=weighted
    )
