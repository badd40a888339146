"""Finding tasks: by name, by glob, by tag or group, by file or folder. Names are found without checking the files."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

from lmtasks.errors import UsageError, missing, unknown
from lmtasks.installation import shipped
from lmtasks.task.expand import Names, wanted_task
from lmtasks.task.groups import Group, UnloadedTask, WantedGroup, is_group
from lmtasks.task.load import task_of
from lmtasks.task.scan import SUFFIXES, Scan, TaskEntry, scan_folders, unreadable
from lmtasks.task.task import Task
from lmtasks.task.yaml_file import read_task_yaml

__all__ = ["TaskEntry", "TaskIndex", "default_index"]

log = logging.getLogger(__name__)

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
        tasks = tuple(task_of(each.yaml, trust_code=trust_code) for each in wanted.values())
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
