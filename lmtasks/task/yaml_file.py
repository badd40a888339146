"""Reading a task file: YAML, `!function` references left unresolved, `include` merged in.

`include` names one file or several, relative to the file that names them; later ones win over earlier ones, and the
file's own keys win over all (lm-evaluation-harness' rule).

A stranger's YAML is read no deeper than anything reads, and no larger than it looks: a name that stands for a list of
names that stand for lists (`*a`) is small on the disk and endless in memory; brackets within brackets break the parser
itself.

>>> load_yaml("a: &a [1, 2]\\nb: [*a, *a]", where="x.yaml")
{'a': [1, 2], 'b': [[1, 2], [1, 2]]}
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import yaml
from yaml.nodes import CollectionNode, MappingNode, Node

from lmtasks.errors import UsageError
from lmtasks.task.functions import FunctionRef

Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
MOST_DEEP = 100
MOST_VALUES = 1_000_000
"""Once every alias is written out."""


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


def read_yaml(file: Path, *, loader: type[yaml.SafeLoader] = Loader) -> object:
    """The one document of a file.

    Raises:
        UsageError: it cannot be read, or as `load_yaml`.
    """
    return load_yaml(yaml_text(file), where=str(file), loader=loader)


def yaml_text(file: Path) -> str:
    """The text of a file.

    Raises:
        UsageError: it is no UTF-8 text, or cannot be read.
    """
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not UTF-8 text (byte {error.start}).") from error
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}.") from error


def load_yaml(text: str, *, where: str, loader: type[yaml.SafeLoader] = Loader) -> object:
    """The one document of a text.

    Args:
        where: the file, for messages.

    Raises:
        UsageError: it is no YAML (with the line), or is too deep or too large.
    """
    try:
        if _may_be_deep(text):
            _check_depth(text, where=where)
        reader = loader(text)
        try:
            node = reader.get_single_node()
            if node is None:
                return None
            if "*" in text and _values(node, {}) > MOST_VALUES:
                raise UsageError(
                    f"{where}: its aliases (*name) stand for more than {MOST_VALUES:,} values; write it without them."
                )
            return reader.construct_document(node)
        finally:
            reader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{where}:{mark.line + 1}" if mark is not None else where
        raise UsageError(f"{place}: this is not YAML: {error.problem or error.context}.") from error
    except yaml.YAMLError as error:
        raise UsageError(f"{where}: this is not YAML: {error}.") from error
    except (
        ValueError,
        OverflowError,
        AttributeError,
        TypeError,
    ) as error:  # a month 13, 5,000 digits
        raise UsageError(f"{where} holds a value that cannot be read: {error}; write it in quotes.") from error


def _may_be_deep(text: str) -> bool:
    """Cheap, and right wherever something is: depth takes brackets, dashes, question marks or blanks."""
    return (
        text.count("[") + text.count("{") >= MOST_DEEP
        or "- - - - " in text
        or "? ? ? ? " in text
        or " " * MOST_DEEP in text
    )


def _check_depth(text: str, *, where: str) -> None:
    """Through the parser's events, which take no depth to tell."""
    depth = 0
    for event in yaml.parse(text, Loader=Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MOST_DEEP:
            line = event.start_mark.line + 1 if event.start_mark else 0
            raise UsageError(f"{where}:{line}: lists and mappings stand within each other more than {MOST_DEEP} deep.")


def _values(node: Node, known: dict[int, int]) -> int:
    """Values below a node, with what is named several times counted several times; one that holds itself is endless."""
    if not isinstance(node, CollectionNode):
        return 1
    if id(node) not in known:
        known[id(node)] = MOST_VALUES + 1
        pairs = isinstance(node, MappingNode)
        parts = [part for pair in node.value for part in pair] if pairs else node.value
        known[id(node)] = 1 + sum(_values(part, known) for part in parts)
    return known[id(node)]
