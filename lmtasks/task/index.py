"""Finding tasks: by name, by glob, by tag or group, by file or folder. Names are found without checking the files.

Groups and tags become their members, and settings of groups reach them.
"""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

from lmtasks.errors import UsageError, missing, unknown
from lmtasks.installation import shipped
from lmtasks.task.groups import (
    JOIN,
    Group,
    UnloadedTask,
    WantedGroup,
    aggregations_of,
    is_group,
    members_of,
    settings_of,
)
from lmtasks.task.load import task_of
from lmtasks.task.scan import SUFFIXES, Scan, TaskEntry, scan_folders, unreadable
from lmtasks.task.task import Task
from lmtasks.task.yaml_file import TaskYaml, included_keys, read_task_yaml

Settings = Mapping[str, object]
SAYS_ROWS = frozenset({"dataset_path", "custom_dataset", "sources"})
"""Keys without which a member is no task of its own, but a name that nobody knows."""


@dataclass(frozen=True, kw_only=True)
class InheritedSettings:
    """Settings that groups hand down to a member."""

    settings: Settings = field(default_factory=dict)
    within: tuple[str, ...] = ()
    """The names of the groups, the outermost first."""
    files: tuple[Path, ...] = ()
    """Theirs, for messages."""

    def with_more(self, settings: Settings) -> "InheritedSettings":
        """Further settings, which win."""
        return replace(self, settings={**self.settings, **settings})


NOTHING = InheritedSettings()


@dataclass(frozen=True, kw_only=True)
class Names:
    """The meaning of names: the first scan that has a name says it."""

    scans: Sequence[Scan]

    def find(self, name: str, *, handed: InheritedSettings = NOTHING) -> list[UnloadedTask | WantedGroup]:
        """The task, the group or a tag's tasks of that name; nothing where there is none.

        Raises:
            UsageError: several files define it, or a group is a member of itself, or has a member that is not there.
        """
        for scan in self.scans:
            if name in scan.files:
                yaml = read_task_yaml(_only(scan.files[name], what="task", name=name))
                settings = {key: value for key, value in handed.settings.items() if key not in ("task", "group")}
                return [wanted_task(yaml, name=name, handed=replace(handed, settings=settings))]
            if name in scan.groups:
                yaml = read_task_yaml(_only(scan.groups[name], what="group", name=name))
                return [self.group(yaml, handed=handed)]
            if name in scan.tags:
                return [found for task in scan.tags[name] for found in self.find(task, handed=handed)]
        return []

    def group(self, yaml: TaskYaml, *, handed: InheritedSettings = NOTHING) -> WantedGroup:
        """The group that a file defines.

        Raises:
            UsageError: as `find`.
        """
        return self._group(yaml, name=str(yaml.keys["group"]), handed=handed)

    def names(self) -> frozenset[str]:
        """Everything that has a name."""
        return frozenset().union(*(scan.names for scan in self.scans))

    def _group(self, yaml: TaskYaml, *, name: str, handed: InheritedSettings) -> WantedGroup:
        if name in handed.within:
            raise UsageError(
                f"the group {name} is a member of itself, by way of {' -> '.join((*handed.within, name))}."
            )
        where = f"the group {name} ({yaml.file})"
        down = InheritedSettings(
            settings={**settings_of(yaml.keys), **handed.settings},
            within=(*handed.within, name),
            files=(*handed.files, yaml.file),
        )
        metadata = yaml.keys.get("metadata")
        return WantedGroup(
            name=name,
            alias=str(yaml.keys.get("group_alias") or name),
            members=tuple(
                found
                for member in members_of(yaml.keys, where=where)
                for found in self._member(member, yaml=yaml, handed=down)
            ),
            aggregations=aggregations_of(yaml.keys, where=where),
            version=str(metadata.get("version", "1")) if isinstance(metadata, Mapping) else "1",
        )

    def _member(
        self, member: str | Settings, *, yaml: TaskYaml, handed: InheritedSettings
    ) -> list[UnloadedTask | WantedGroup]:
        """What one line of a group's list means: a name, a name with settings, or something defined right there."""
        group = handed.within[-1]
        if isinstance(member, str):
            found = self.find(member, handed=handed)
            if not found:
                raise unknown(f"member of the group {group} ({yaml.file})", member, self.names())
            return found
        if "group" in member:
            name = str(member["group"])
            known = self.find(name, handed=handed.with_more(settings_of(member)))
            inner = replace(yaml, keys=member)
            return known or [self._group(inner, name=f"{group}{JOIN}{name}", handed=handed)]
        name = str(member["task"])
        own = {key: value for key, value in member.items() if key not in ("task", "include")}
        known = self.find(name, handed=handed.with_more(own))
        if known:
            return known
        keys = {**included_keys(member, file=yaml.file), **handed.settings, **own}
        if not SAYS_ROWS & set(keys):
            raise unknown(f"member of the group {group} ({yaml.file})", name, self.names())
        inline = f"{group}{JOIN}{name}"
        return [wanted_task(replace(yaml, keys={**keys, "task": inline}), name=inline)]


def wanted_task(yaml: TaskYaml, *, name: str, handed: InheritedSettings = NOTHING) -> UnloadedTask:
    """The task of a file, with settings of groups in place of its own."""
    keys = {**yaml.keys, **handed.settings}
    return UnloadedTask(name=name, yaml=replace(yaml, keys=keys, files=(*yaml.files, *handed.files)))


def _only(files: Sequence[Path], *, what: str, name: str) -> Path:
    if len(files) > 1:
        raise UsageError(f"several files define the {what} {name}: {', '.join(str(file) for file in files)}.")
    return files[0]


__all__ = ["TaskEntry", "TaskIndex", "default_index"]

log = logging.getLogger(__name__)

AT, EVERY = "@", "*"
"""Between a task and a change of its rows; every change that suits its language."""
NAMED = 3
"""Tasks to name of those that one note is about."""


class TaskIndex:
    """The tasks in some folders.

    >>> default_index().find("starter_sentiment_*")[0].kind
    'classification'
    """

    def __init__(self, folders: Sequence[Path], *, include: Sequence[Path] = ()) -> None:
        """
        Args:
            folders: one name may stand in one of them alone.
            include: a name there wins over the same name in `folders`, a folder over those behind it.
        """
        self.folders = tuple(folders)
        self.include = tuple(include)

    def entries(self) -> tuple[TaskEntry, ...]:
        """Every task, sorted by name. All files are read."""
        found: dict[str, TaskEntry] = {}
        for scan in self._scans:
            for entry in scan.entries():
                found.setdefault(entry.name, entry)
        return tuple(found[name] for name in sorted(found))

    def names(self) -> tuple[str, ...]:
        """Every task's name, sorted."""
        return tuple(sorted({name for scan in self._scans for name in scan.files}))

    def groups(self) -> tuple[str, ...]:
        """Every group's name, sorted."""
        return tuple(sorted({name for scan in self._scans for name in scan.groups}))

    def find(self, pattern: str, *, trust_code: bool = False) -> tuple[Task, ...]:
        """The tasks that a comma-separated list of names, globs, tags, groups, files and folders means.

        Each comes once, in the order of the list; what one glob matches is sorted by name. What a group sets for its
        members is set.

        Raises:
            UsageError: a word matches nothing (with near names), a file is wrong, or one name has two meanings.
        """
        wanted: dict[str, UnloadedTask] = {}
        for found in self._wanted(pattern):
            for each in (found,) if isinstance(found, UnloadedTask) else found.tasks:
                other = wanted.setdefault(each.name, each)
                if other.yaml.file.resolve() != each.yaml.file.resolve():
                    raise UsageError(
                        f"two task files have the name {each.name}: {other.yaml.file} and {each.yaml.file}; rename "
                        "one, or name one."
                    )
                if dict(other.yaml.keys) != dict(each.yaml.keys):
                    raise UsageError(
                        f"the task {each.name} is asked for twice, and groups set other things for it; name one."
                    )
        loaded = [(each, task_of(each.yaml, trust_code=trust_code)) for each in wanted.values()]
        tasks = tuple(task for each, base in loaded for task in _with_change(each, base))
        if not tasks:
            raise UsageError(f"no task of {pattern} can be changed so; their rows are what is scored.")
        _tell_notes(tasks)
        return tasks

    def find_groups(self, pattern: str) -> tuple[Group, ...]:
        """The groups among what the same list means, each with the groups inside of it; tasks are given by name.

        Raises:
            UsageError: as `find`, but task files are not checked.
        """
        found = [each.named() for each in self._wanted(pattern) if isinstance(each, WantedGroup)]
        return tuple({group.name: group for group in found}.values())

    def _wanted(self, pattern: str) -> list[UnloadedTask | WantedGroup]:
        words = [word.strip() for word in pattern.split(",") if word.strip()]
        if not words:
            raise UsageError("no task was named; give names, globs or files, as in --tasks 'sst2,starter_*'.")
        return [found for word in words for found in self._meant(word)]

    def _meant(self, word: str) -> list[UnloadedTask | WantedGroup]:
        """What one word means."""
        names = Names(scans=self._scans)
        found = names.find(word)
        if found:
            return found
        if AT in word:
            task, _, change = word.rpartition(AT)
            meant = [
                each for one in self._meant(task) for each in ((one,) if isinstance(one, UnloadedTask) else one.tasks)
            ]
            return [
                replace(each, name=f"{each.name}{AT}{change}", change=change, must_fit=len(meant) == 1)
                for each in meant
            ]
        if _is_path(word):
            return self._at(Path(word))
        matched = [name for name in self.names() if fnmatchcase(name, word)]
        if not matched:
            unread = unreadable(self.folders)
            hint = f"({len(unread)} files could not be read; the first: {unread[0]})" if unread else ""
            raise unknown("task", word, names.names(), hint=hint)
        return [each for name in matched for each in names.find(name)]

    def _at(self, path: Path) -> list[UnloadedTask | WantedGroup]:
        """A folder is all of its tasks; a file is one task, or a group of tasks beside it or of this index."""
        if path.is_dir():
            files = scan_folders([path]).files
            if not files:
                raise UsageError(f"the folder {path} holds no task files (*.yaml with the key task).")
            return [wanted_task(read_task_yaml(files[name][0]), name=name) for name in sorted(files)]
        if not path.is_file():
            hint = "names without a slash or .yaml are those of `lmtasks list tasks`"
            raise missing("task file", path, hint=hint)
        yaml = read_task_yaml(path)
        if is_group(yaml.keys):
            return [Names(scans=(scan_folders([path.parent]), *self._scans)).group(yaml)]
        return [wanted_task(yaml, name=str(yaml.keys.get("task")))]

    @cached_property
    def _scans(self) -> tuple[Scan, ...]:
        """Of every folder, in the order in which names are looked up."""
        return (*(scan_folders([folder]) for folder in self.include), scan_folders(self.folders))


def default_index(*, include: Sequence[Path] = ()) -> TaskIndex:
    """The tasks that come with lmtasks, and those in folders of one's own.

    Raises:
        UsageError: one of them is no folder.
    """
    for folder in include:
        if not folder.is_dir():
            raise UsageError(f"--include-path {folder} is no folder; give one with task files (*.yaml) in it.")
    return TaskIndex([shipped("tasks")], include=include)


def _with_change(wanted: UnloadedTask, base: Task) -> tuple[Task, ...]:
    """The task as it was asked for: as it is, or with changed rows; nothing where it cannot be changed and need not."""
    from lmtasks.task.changes import changed, changed_columns, fitting

    if not wanted.change:
        return (base,)
    try:
        changed_columns(base)
    except UsageError:
        if wanted.must_fit:
            raise
        return ()
    return tuple(changed(base, each) for each in (fitting(base) if wanted.change == EVERY else (wanted.change,)))


def _tell_notes(tasks: Sequence[Task]) -> None:
    """One line for each note, however many tasks it is about."""
    about: dict[str, list[str]] = defaultdict(list)
    for task in tasks:
        for note in task.notes:
            about[note].append(task.name)
    for note, names in about.items():
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        log.warning("%s%s: %s", ", ".join(names[:NAMED]), more, note)


def _is_path(word: str) -> bool:
    return "/" in word or "\\" in word or word.endswith(SUFFIXES) or Path(word).is_dir()
