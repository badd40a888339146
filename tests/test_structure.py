"""The shape of the house held against the code: names, circles, docstrings, and how many files there are."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import lmtasks

PACKAGE = Path(lmtasks.__file__).parent
KIND_FILES = 6
"""Files that may mention a kind of task by its name."""
FILES = 467
"""Raised from 355 for what a file each was added for: trials, sweeps and curves of plans, vectors and teachers, heads,
kinds and rescoring of speech; from 380 for kinds, heads and metrics of numbers, sets of labels and rankings; from 390
for changes of low rank, one's own data without a plan; from 400 for the decision of a page (its record, what computes
it, the statistics of a whole table, its forms for pull requests and hubs); from 404 for similarity, retrieval, their
head, a checkpoint's own vectors, the order of a corpus, and mixtures; from 410 for LaTeX, the records of others,
trackers, trainings and the Chinese of pages; from 418 for what is not loaded here: answers that exist, GGUF files, and
servers (client, protocol, probe, engine, solver, settings, opening), for largest rates and costs; from 440 for a model
behind HTTP (wire format, worker, texts, names of tokens, heads, addresses, server, settings); from 450 for shards,
their merging, and cells on many machines; from 462 for the runtime openvino (driver, opener), what openers of packages
have in common, and what a processor computes itself. A new use case is two files; a helper lies with its user."""
ONE_NEIGHBOUR = 92
"""Files that one other file alone imports: about forty are lines of a table, a file each (commands, kinds, heads,
metrics, graphs, drivers); curves and sweeps are sections of a report and of a run by themselves.
Raised from 75 for lines of tables: heads, kinds and metrics of numbers and sets of labels; from 81 for forms of a
report (LaTeX, records of others, groups, trainings, Chinese) and defaults in a file; from 86 for the addresses of
a server, and names of tokens. Both numbers fall."""

Definition = ast.FunctionDef | ast.ClassDef


@cache
def _trees() -> Mapping[str, ast.Module]:
    """Module to its syntax tree."""
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        found[name] = ast.parse(file.read_text(encoding="utf-8"))
    return found


@cache
def _imports() -> Mapping[str, frozenset[str]]:
    """Module to the modules that it imports anywhere, lazily or for its types alone."""
    trees = _trees()
    found = {}
    for name, tree in trees.items():
        modules = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                inner = {f"{node.module}.{alias.name}" for alias in node.names}
                modules |= {each if each in trees else node.module for each in inner}
            elif isinstance(node, ast.Import):
                modules |= {alias.name for alias in node.names}
        found[name] = frozenset(modules & set(trees)) - {name}
    return found


def _circles() -> list[list[str]]:
    """Modules that import each other, directly or by way of others (Tarjan's strongly connected components)."""
    graph, number, low = _imports(), dict[str, int](), dict[str, int]()
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        number[module] = low[module] = len(number)
        stack.append(module)
        for other in graph[module]:
            if other not in number:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], number[other])
        if low[module] == number[module]:
            place = stack.index(module)
            found.append(sorted(stack[place:]))
            del stack[place:]

    for module in graph:
        if module not in number:
            visit(module)
    return [circle for circle in found if len(circle) > 1]


def _documented() -> Iterator[tuple[str, str]]:
    """(name, docstring) of every module, and of every public class, function and method."""
    for module, tree in _trees().items():
        yield module, ast.get_docstring(tree) or ""
        for node in ast.walk(tree):
            if isinstance(node, Definition) and not node.name.startswith("_"):
                yield f"{module}.{node.name}", ast.get_docstring(node) or ""


def test_public_class_names_are_unique() -> None:
    places = defaultdict(list)
    for module, tree in _trees().items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(module)
    assert not {name: modules for name, modules in places.items() if len(modules) > 1}


def test_no_files_import_each_other() -> None:
    assert not _circles()


def test_docstrings_begin_with_a_verb_or_the_noun_that_they_are_about() -> None:
    assert not [name for name, text in _documented() if re.match(r"(What|Of)\b", text)]


def test_kinds_are_named_where_they_are_defined() -> None:
    named = [str(file.relative_to(PACKAGE)) for file in PACKAGE.rglob("*.py") if '"tagging"' in file.read_text("utf-8")]
    assert len(named) <= KIND_FILES, named


def test_helpers_of_one_file_lie_in_it() -> None:
    importers = defaultdict(set)
    for module, modules in _imports().items():
        for each in modules:
            importers[each].add(module)
    files = [name for name in _trees() if not (PACKAGE.parent / name.replace(".", "/")).is_dir()]
    alone = sorted(name for name in files if len(importers[name]) == 1)
    assert len(_trees()) <= FILES
    assert len(alone) <= ONE_NEIGHBOUR, alone
