"""Finding tasks: by name, by glob, by tag or group, by file or folder. Names are found without checking the files."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

from lmtasks.errors import UsageError, unknown
from lmtasks.installation import shipped
from lmtasks.task.load import load_task
from lmtasks.task.task import LOCAL_FORMATS, Kind, Task, infer_kind
from lmtasks.task.yaml_file import TaskYaml, read_task_yaml

SUFFIXES = (".yaml", ".yml")
GROUP_KEYS = ("group", "group_alias", "task", "aggregate_metric_list", "metadata", "tag")
"""Keys of a group's file that say which tasks it has, and how a table shows them."""


@dataclass(frozen=True, kw_only=True)
class TaskEntry:
    """What is known of a task before its file is checked."""

    name: str
    kind: Kind
    language: str
    source: str
    """The Hub id with its configuration, or `embedded`."""
    file: Path
    about: str
    tags: tuple[str, ...] = ()


class TaskIndex:
    """The tasks in some folders.

    >>> default_index().find("starter_sentiment_*")[0].kind
    'classification'
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = tuple(folders)

    def entries(self) -> tuple[TaskEntry, ...]:
        """Every task, sorted by name."""
        return self._scan.entries

    def names(self) -> tuple[str, ...]:
        """Every task's name, sorted."""
        return tuple(entry.name for entry in self.entries())

    def find(self, pattern: str, *, trust_code: bool = False) -> tuple[Task, ...]:
        """The tasks that a comma-separated list of names, globs, tags, groups, files and folders means.

        Each comes once, in the order of the list; what one word matches is sorted by name.

        Raises:
            UsageError: a word matches nothing (with near names), or a file is wrong.
        """
        words = [word.strip() for word in pattern.split(",") if word.strip()]
        if not words:
            raise UsageError("no task was named; give names, globs or files, as in --tasks 'sst2,starter_*'.")
        files = {file.resolve(): file for word in words for file in self._files(word)}
        tasks = tuple(load_task(file, trust_code=trust_code) for file in files.values())
        names = [task.name for task in tasks]
        for task in tasks:
            if names.count(task.name) > 1:
                where = " and ".join(str(other.file) for other in tasks if other.name == task.name)
                raise UsageError(f"two task files have the name {task.name}: {where}; rename one, or name one.")
        return tasks

    def _files(self, word: str, *, within: tuple[str, ...] = ()) -> list[Path]:
        """The files that a word means; `within` are the groups whose member it is."""
        scan = self._scan
        if word in scan.files:
            found = scan.files[word]
            if len(found) > 1:
                raise UsageError(f"several files define the task {word}: {', '.join(str(file) for file in found)}.")
            return list(found)
        if word in scan.groups and word not in within:
            group = scan.groups[word]
            if group.changes:
                raise UsageError(
                    f"the group {word} ({group.file}) changes settings of its tasks ({', '.join(group.changes)}), "
                    "which lmtasks does not carry out yet; name its tasks instead."
                )
            return [file for member in group.members for file in self._files(member, within=(*within, word))]
        tagged = [entry.file for entry in scan.entries if word in entry.tags]
        if tagged:
            return tagged
        if _is_path(word):
            return _files_at(Path(word), index=self)
        matched = [entry.file for entry in scan.entries if fnmatchcase(entry.name, word)]
        if not matched:
            unread = f"({len(scan.unread)} files could not be read; the first: {scan.unread[0]})" if scan.unread else ""
            raise unknown("task", word, {*scan.files, *scan.groups}, hint=unread)
        return matched

    @cached_property
    def _scan(self) -> "_Scan":
        return _scan_folders(self.folders)


def default_index() -> TaskIndex:
    """The tasks that come with lmtasks."""
    return TaskIndex([shipped("tasks")])


@dataclass(frozen=True, kw_only=True)
class _Group:
    file: Path
    members: tuple[str, ...]
    changes: tuple[str, ...]
    """Settings that the group would give to its members."""


@dataclass(frozen=True, kw_only=True)
class _Scan:
    entries: tuple[TaskEntry, ...]
    files: Mapping[str, tuple[Path, ...]]
    groups: Mapping[str, _Group]
    unread: tuple[str, ...]
    """Why files were passed over: one broken file must not hide the others."""


def _scan_folders(folders: Sequence[Path]) -> _Scan:
    entries: dict[str, TaskEntry] = {}
    files: dict[str, list[Path]] = {}
    groups: dict[str, _Group] = {}
    unread: list[str] = []
    for file in _yaml_files(folders):
        try:
            yaml = read_task_yaml(file)
        except UsageError as error:
            unread.append(str(error))
            continue
        task = yaml.keys.get("task")
        if isinstance(task, str):
            entries.setdefault(task, _entry(yaml, name=task))
            files.setdefault(task, []).append(file)
        elif isinstance(task, list) and isinstance(yaml.keys.get("group"), str):
            groups[str(yaml.keys["group"])] = _group(yaml, task)
    ordered = tuple(entries[name] for name in sorted(entries))
    return _Scan(
        entries=ordered,
        files={name: tuple(found) for name, found in files.items()},
        groups=groups,
        unread=tuple(unread),
    )


def _yaml_files(folders: Sequence[Path]) -> Iterator[Path]:
    """Every YAML file once, though folders may lie within each other."""
    seen: set[Path] = set()
    for folder in folders:
        for file in sorted(folder.rglob("*")):
            place = file.resolve()
            if file.suffix in SUFFIXES and place not in seen and file.is_file():
                seen.add(place)
                yield file


def _entry(yaml: TaskYaml, *, name: str) -> TaskEntry:
    keys = yaml.keys
    path, config = str(keys.get("dataset_path", "")), keys.get("dataset_name")
    source = "embedded" if path in LOCAL_FORMATS else f"{path}/{config}" if config else path
    kind, output = keys.get("kind"), keys.get("output_type")
    return TaskEntry(
        name=name,
        kind=infer_kind(kind=None if kind is None else str(kind), output_type=None if output is None else str(output)),
        language=str(keys.get("language", "en")),
        source=source,
        file=yaml.file,
        about=str(keys.get("about", "")),
        tags=(*_words(keys.get("tag")), *_words(keys.get("group"))),
    )


def _words(value: object) -> tuple[str, ...]:
    if isinstance(value, list):
        return tuple(str(word) for word in value)
    return (value,) if isinstance(value, str) else ()


def _group(yaml: TaskYaml, listed: Sequence[object]) -> _Group:
    members: list[str] = []
    changes = [key for key in yaml.keys if key not in GROUP_KEYS]
    for member in listed:
        if not isinstance(member, Mapping):
            members.append(str(member))
            continue
        inner = member.get("task", member.get("group"))
        members.extend(str(name) for name in (inner if isinstance(inner, list) else [inner]))
        changes.extend(str(key) for key in member if key not in GROUP_KEYS)
    return _Group(file=yaml.file, members=tuple(members), changes=tuple(dict.fromkeys(changes)))


def _is_path(word: str) -> bool:
    return "/" in word or "\\" in word or word.endswith(SUFFIXES) or Path(word).is_dir()


def _files_at(path: Path, *, index: TaskIndex) -> list[Path]:
    """A file is one task, or the group that it defines over its own folder's tasks; a folder is all of its tasks."""
    if path.is_dir():
        found = [entry.file for entry in TaskIndex([path]).entries()]
        if not found:
            raise UsageError(f"the folder {path} holds no task files (*.yaml with the key task).")
        return found
    if not path.is_file():
        raise UsageError(
            f"there is no task file {path}; names without a slash or .yaml are those of `lmtasks list tasks`."
        )
    keys = read_task_yaml(path).keys
    group = keys.get("group")
    if isinstance(keys.get("task"), list) and isinstance(group, str):
        return TaskIndex([path.parent, *index.folders])._files(group)
    return [path]
