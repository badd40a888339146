"""Reading a task file: YAML, `!function` references left unresolved, `include` merged in.

`include` names one file or several, relative to the file that names them; later ones win over earlier ones, and the
file's own keys win over all (lm-evaluation-harness' rule).
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import yaml

from lmtasks.errors import UsageError
from lmtasks.task.bounded_yaml import Loader, read_yaml, yaml_text
from lmtasks.task.functions import FunctionRef


@dataclass(frozen=True, kw_only=True)
class TaskYaml:
    """A task file with its includes merged."""

    file: Path
    keys: Mapping[str, object]
    files: tuple[Path, ...]
    """The file itself, then everything that it includes."""

    def line(self, key: str) -> str:
        """`file:line` of a top-level key, in whichever file sets it."""
        for file in self.files:
            number = _key_lines(file).get(key)
            if number is not None:
                return f"{file}:{number}"
        return str(self.file)


def read_task_yaml(file: Path) -> TaskYaml:
    """Read a task file and what it includes.

    Raises:
        UsageError: a file is missing, is not YAML (with the line), is not a mapping, or includes itself.
    """
    files: list[Path] = []
    keys = _merged(file, chain=(), files=files)
    return TaskYaml(file=file, keys=keys, files=tuple(files))


def included_keys(keys: Mapping[str, object], *, file: Path) -> dict[str, object]:
    """The keys of the files that `keys`, written in `file`, includes; `include` is relative to that file's folder.

    Raises:
        UsageError: as `read_task_yaml`.
    """
    return _included(keys.get("include"), file=file, chain=(), files=[])


def _merged(file: Path, *, chain: tuple[Path, ...], files: list[Path]) -> dict[str, object]:
    place = file.expanduser().resolve()
    if place in chain:
        raise UsageError(f"{file} includes itself by way of {' -> '.join(path.name for path in (*chain, place))}.")
    if not place.is_file():
        named = f", which {chain[-1]} includes" if chain else ""
        raise UsageError(f"there is no task file {file}{named}.")
    own = dict(_parse(place, place.stat().st_mtime_ns))
    files.append(file)
    merged = _included(own.pop("include", None), file=file, chain=(*chain, place), files=files)
    return {**merged, **own}


def _included(names: object, *, file: Path, chain: tuple[Path, ...], files: list[Path]) -> dict[str, object]:
    merged: dict[str, object] = {}
    for name in names if isinstance(names, list) else [] if names is None else [names]:
        if not isinstance(name, str):
            raise UsageError(f"{file}: include must name files, was: {name!r}.")
        merged.update(_merged(file.parent / name, chain=chain, files=files))
    # It names the tasks of the file that it stands in.
    merged.pop("task_list", None)
    return merged


@lru_cache(maxsize=1024)
def _parse(file: Path, _changed_ns: int) -> Mapping[str, object]:
    """One file's own keys. Bases are shared by many tasks, so they are read once for each time that they change."""
    value = read_yaml(file, loader=_with_functions(file.parent))
    if not isinstance(value, dict):
        raise UsageError(f"{file}: a task file is a mapping of keys to values, was: {type(value).__name__}.")
    return {str(key): content for key, content in value.items()}


@lru_cache(maxsize=1024)
def _with_functions(folder: Path) -> type[yaml.SafeLoader]:
    """A safe loader that keeps `!function a.b` as a reference to code in `folder`."""

    def reference(loader: yaml.SafeLoader, node: yaml.Node) -> FunctionRef:
        if not isinstance(node, yaml.ScalarNode) or "." not in str(node.value):
            raise yaml.constructor.ConstructorError(
                None, None, "!function takes module.name, as in !function utils.doc_to_text", node.start_mark
            )
        return FunctionRef(qualified=str(node.value), folder=folder)

    loader_class: type[yaml.SafeLoader] = type("TaskLoader", (Loader,), {})
    loader_class.add_constructor("!function", reference)
    return loader_class


@lru_cache(maxsize=64)
def _key_lines(file: Path) -> Mapping[Hashable, int]:
    """Line (from 1) of each top-level key. Only read when there is something to complain about."""
    node = yaml.compose(yaml_text(file), Loader=yaml.SafeLoader)
    if not isinstance(node, yaml.MappingNode):
        return {}
    return {key.value: key.start_mark.line + 1 for key, _ in node.value}
