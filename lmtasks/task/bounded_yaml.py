"""YAML of strangers: no deeper than anything reads, no larger than it looks.

A name that stands for a list of names that stand for lists (`*a`) is small on the disk and endless in memory; brackets
within brackets break the parser itself.

>>> load_yaml("a: &a [1, 2]\\nb: [*a, *a]", where="x.yaml")
{'a': [1, 2], 'b': [[1, 2], [1, 2]]}
"""

from pathlib import Path

import yaml
from yaml.nodes import CollectionNode, MappingNode, Node

from lmtasks.errors import UsageError

Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
MOST_DEEP = 100
MOST_VALUES = 1_000_000
"""Once every alias is written out."""


def read_yaml(file: Path, *, loader: type[yaml.SafeLoader] = Loader) -> object:
    """The one document of a file.

    Raises:
        UsageError: it cannot be read, or as `load_yaml`.
    """
    return load_yaml(yaml_text(file), where=str(file), loader=loader)


def yaml_text(file: Path) -> str:
    """What a file holds.

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
