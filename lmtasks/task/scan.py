"""Names of tasks, groups and tags in many files, found without parsing them: lm-evaluation-harness has 14,000.

Of each file only the lines of a few top-level keys are looked at. What is then asked for is read in full.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lmtasks.errors import UsageError
from lmtasks.task.formats import BUILDERS
from lmtasks.task.kinds import infer_kind
from lmtasks.task.yaml_file import TaskYaml, load_yaml, read_task_yaml

SUFFIXES = (".yaml", ".yml")
KEYS = re.compile(rb"""^["']?(task|group|tag|include)["']?[ \t]*:(.*(?:\n[ \t]*-.*|\n[ \t]+\S.*)*)""", re.MULTILINE)
"""A key of the first level with the lines that belong to it. Members of a group are not looked at."""

Keys = Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class TaskEntry:
    """A task as its file names it, before that is checked."""

    name: str
    kind: str
    language: str
    source: str
    """The Hub id with its configuration, or `embedded`."""
    file: Path
    about: str
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Scan:
    """The names that one or more folders define."""

    files: Mapping[str, tuple[Path, ...]]
    """Task to the files that define it."""
    groups: Mapping[str, tuple[Path, ...]]
    tags: Mapping[str, tuple[str, ...]]
    """Tag to its tasks, sorted."""

    @property
    def names(self) -> frozenset[str]:
        """Everything that has a name."""
        return frozenset({*self.files, *self.groups, *self.tags})

    def entries(self) -> Iterator[TaskEntry]:
        """Every task, its file read; files that cannot be read are passed over, as they must not hide the others."""
        for name, files in self.files.items():
            try:
                yaml = read_task_yaml(files[0])
            except UsageError:
                continue
            yield _entry(yaml, name=name)


def scan_folders(folders: Sequence[Path]) -> Scan:
    """Find the names that the YAML files in the folders and below define."""
    files: dict[str, list[Path]] = {}
    groups: dict[str, list[Path]] = {}
    tags: dict[str, set[str]] = {}
    known: dict[Path, Keys] = {}
    for file in yaml_files(folders):
        keys = _merged(file, known)
        task, group = keys.get("task"), keys.get("group")
        if isinstance(group, str) and not isinstance(task, str):
            groups.setdefault(group, []).append(file)
        elif isinstance(task, str):
            files.setdefault(task, []).append(file)
            for tag in (*words(keys.get("tag")), *words(group)):
                tags.setdefault(tag, set()).add(task)
    return Scan(
        files={name: tuple(found) for name, found in files.items()},
        groups={name: tuple(found) for name, found in groups.items()},
        tags={name: tuple(sorted(found)) for name, found in tags.items()},
    )


def unreadable(folders: Sequence[Path]) -> tuple[str, ...]:
    """Read every YAML file in the folders and below: why some cannot be."""
    found = []
    for file in yaml_files(folders):
        try:
            read_task_yaml(file)
        except UsageError as error:
            found.append(str(error))
    return tuple(found)


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


def _merged(file: Path, known: dict[Path, Keys]) -> Keys:
    """The keys of a file over those that it includes; nothing of a file that is not there, or includes itself."""
    if file not in known:
        known[file] = {}
        own = _own_keys(file)
        merged: dict[str, object] = {}
        for name in words(own.get("include")):
            merged.update(_merged((file.parent / name).resolve(), known))
        known[file] = {**merged, **own}
    return known[file]


def _own_keys(file: Path) -> Keys:
    try:
        text = file.read_bytes()
    except OSError:
        return {}
    return {
        key: value
        for each in KEYS.finditer(text)
        if (value := _value(each[1], each[2])) is not None
        for key in (each[1].decode(),)
    }


def _value(key: bytes, text: bytes) -> object:
    """A word or a list of words; what is neither, as the members of a group, is a list without any."""
    plain = text.strip()
    if key == b"task" and (plain[:1] in (b"-", b"[", b"{", b"") or b"\n" in plain):
        return []
    if re.fullmatch(rb"[\w.+/-]*[A-Za-z_][\w.+/-]*", plain):
        return plain.decode()
    try:
        value = load_yaml(text.decode(errors="replace"), where="")
    except UsageError:
        return None
    return value if isinstance(value, str | list) else str(value) if isinstance(value, int) else None
