"""Names of tasks, groups and tags in many files, found without parsing them: lm-evaluation-harness has 14,000.

Of each file only the lines of a few top-level keys are looked at. Whatever is then asked for is read in full.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from lmtasks.errors import UsageError
from lmtasks.task.bounded_yaml import load_yaml
from lmtasks.task.scan import Scan, words, yaml_files

KEYS = re.compile(rb"""^["']?(task|group|tag|include)["']?[ \t]*:(.*(?:\n[ \t]*-.*|\n[ \t]+\S.*)*)""", re.MULTILINE)
"""A key of the first level with the lines that belong to it. Members of a group are not looked at."""

Peeked = Mapping[str, object]


def peek_folders(folders: Sequence[Path]) -> Scan:
    """The names that the YAML files in the folders and below define; without entries, since files are not read."""
    files: dict[str, list[Path]] = {}
    groups: dict[str, list[Path]] = {}
    tags: dict[str, set[str]] = {}
    known: dict[Path, Peeked] = {}
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
        entries=(),
        files={name: tuple(found) for name, found in files.items()},
        groups={name: tuple(found) for name, found in groups.items()},
        tags={name: tuple(sorted(found)) for name, found in tags.items()},
        unread=(),
    )


def _merged(file: Path, known: dict[Path, Peeked]) -> Peeked:
    """The keys of a file over those that it includes; nothing of a file that is not there, or includes itself."""
    if file not in known:
        known[file] = {}
        own = _peek(file)
        merged: dict[str, object] = {}
        for name in words(own.get("include")):
            merged.update(_merged((file.parent / name).resolve(), known))
        known[file] = {**merged, **own}
    return known[file]


def _peek(file: Path) -> Peeked:
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
