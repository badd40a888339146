"""What the YAML files in some folders define: tasks, groups and tags. Nothing is checked beyond being YAML."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lmtasks.errors import UsageError
from lmtasks.task.formats import BUILDERS
from lmtasks.task.groups import is_group
from lmtasks.task.task import Kind, infer_kind
from lmtasks.task.yaml_file import TaskYaml, read_task_yaml

SUFFIXES = (".yaml", ".yml")


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


@dataclass(frozen=True, kw_only=True)
class Scan:
    """All that one or more folders define."""

    entries: tuple[TaskEntry, ...]
    """Sorted by name."""
    files: Mapping[str, tuple[Path, ...]]
    """Task to the files that define it."""
    groups: Mapping[str, tuple[Path, ...]]
    tags: Mapping[str, tuple[str, ...]]
    """Tag to its tasks, sorted."""
    unread: tuple[str, ...]
    """Why files were passed over: one broken file must not hide the others."""

    @property
    def names(self) -> frozenset[str]:
        """Everything that has a name."""
        return frozenset({*self.files, *self.groups, *self.tags})


def scan_folders(folders: Sequence[Path]) -> Scan:
    """Read every YAML file in the folders and below."""
    entries: dict[str, TaskEntry] = {}
    files: dict[str, list[Path]] = {}
    groups: dict[str, list[Path]] = {}
    tags: dict[str, set[str]] = {}
    unread: list[str] = []
    for file in yaml_files(folders):
        try:
            yaml = read_task_yaml(file)
        except UsageError as error:
            unread.append(str(error))
            continue
        task = yaml.keys.get("task")
        if is_group(yaml.keys):
            groups.setdefault(str(yaml.keys["group"]), []).append(file)
        elif isinstance(task, str):
            entry = entries.setdefault(task, _entry(yaml, name=task))
            files.setdefault(task, []).append(file)
            for tag in entry.tags:
                tags.setdefault(tag, set()).add(task)
    return Scan(
        entries=tuple(entries[name] for name in sorted(entries)),
        files={name: tuple(found) for name, found in files.items()},
        groups={name: tuple(found) for name, found in groups.items()},
        tags={name: tuple(sorted(found)) for name, found in tags.items()},
        unread=tuple(unread),
    )


def yaml_files(folders: Sequence[Path]) -> Iterator[Path]:
    """Every YAML file once, though folders may lie within each other.

    Raises:
        UsageError: a folder is the root of a file system, through which nobody would want to wait.
    """
    seen: set[Path] = set()
    for folder in folders:
        if (whole := folder.resolve()).parent == whole:
            raise UsageError(f"{folder} is the root of a file system; give the folder in which the task files lie.")
        for file in sorted(folder.rglob("*")):
            place = file.resolve()
            if file.suffix in SUFFIXES and place not in seen and file.is_file():
                seen.add(place)
                yield file


def _entry(yaml: TaskYaml, *, name: str) -> TaskEntry:
    keys = yaml.keys
    path, config = str(keys.get("dataset_path", "")), keys.get("dataset_name")
    source = "embedded" if path in BUILDERS else f"{path}/{config}" if config else path
    kind, output = keys.get("kind"), keys.get("output_type")
    return TaskEntry(
        name=name,
        kind=infer_kind(kind=None if kind is None else str(kind), output_type=None if output is None else str(output)),
        language=str(keys.get("language", "en")),
        source=source,
        file=yaml.file,
        about=str(keys.get("about", "")),
        tags=(*words(keys.get("tag")), *words(keys.get("group"))),
    )


def words(value: object) -> tuple[str, ...]:
    """A word, or a list of them."""
    if isinstance(value, list):
        return tuple(str(word) for word in value)
    return (value,) if isinstance(value, str) else ()
