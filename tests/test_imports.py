"""The import table of docs/architecture.md held against the code, and what a command loads before it does any work."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import lmtasks

PACKAGE = Path(lmtasks.__file__).parent

ARCHITECTURE = PACKAGE.parent / "docs" / "architecture.md"
NOTHING, ALL_ABOVE = "nothing more", "every folder above"
MODULES = frozenset(file.stem for file in PACKAGE.glob("*.py")) - {"__main__"}
"""What lies in the package itself: open to all, as `settings` and `results` are."""
OPEN_TO_ALL = MODULES | {"settings", "results"}


def may_import() -> Mapping[str, frozenset[str]]:
    """The table under "Who may import whom" of docs/architecture.md: folder -> the folders that it may import."""
    section = ARCHITECTURE.read_text(encoding="utf-8").split("\n## Who may import whom\n")[1].split("\n## ")[0]
    table: dict[str, frozenset[str]] = {}
    for folder, cell in re.findall(r"^\| `(\w+)` \| (.+) \|$", section, re.MULTILINE):
        named = frozenset(re.findall(r"`(\w+)`", cell))
        assert folder not in table, f"{folder} has two rows"
        assert named or cell in (NOTHING, ALL_ABOVE), f"{folder}: {cell!r}"
        assert named <= set(table), f"{folder} imports what stands below it: {cell}"
        table[folder] = frozenset(table) if cell == ALL_ABOVE else named
    return table


MAY_IMPORT = may_import()

HEAVY = ("torch", "transformers", "datasets", "numpy", "pydantic", "rich", "sklearn", "scipy", "onnx", "onnxruntime")


def _files() -> Iterator[tuple[str, Path]]:
    """(folder, file) of every module that lies in a folder."""
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE).parts
        if len(parts) > 1:
            yield parts[0], file


def _imported(file: Path) -> set[str]:
    """The folders of lmtasks that a file imports from, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: imports are written in full"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {parts[1] for name in names if (parts := name.split("."))[0] == "lmtasks" and len(parts) > 1}
    return found


def test_the_command_line_is_imported_by_nothing() -> None:
    wrong = [str(file) for folder, file in _files() if folder != "cli" and "cli" in _imported(file)]
    assert not wrong


@pytest.mark.parametrize("folder", sorted(MAY_IMPORT))
def test_a_folder_imports_only_what_the_table_allows(folder: str) -> None:
    allowed = MAY_IMPORT[folder] | OPEN_TO_ALL | {folder, "__version__"}
    wrong = [
        f"{file.relative_to(PACKAGE.parent)} imports lmtasks.{name}"
        for owner, file in _files()
        if owner == folder
        for name in sorted(_imported(file) - allowed)
    ]
    assert not wrong, "\n".join(wrong)


def test_torch_and_onnx_do_not_see_each_other() -> None:
    for one, other in (("torch", "onnx"), ("onnx", "torch")):
        for file in sorted((PACKAGE / "runtime" / one).glob("*.py")):
            assert f"lmtasks.runtime.{other}" not in file.read_text(encoding="utf-8"), file


def test_the_table_names_every_folder() -> None:
    assert {folder for folder, _ in _files()} - {"shipped"} <= set(MAY_IMPORT)


def test_modules_of_the_package_import_only_each_other_settings_and_results() -> None:
    doors = ("__init__", "__main__")
    wrong = {
        file.name: found
        for file in PACKAGE.glob("*.py")
        if file.stem not in doors and (found := _imported(file) - OPEN_TO_ALL - {"__version__"})
    }
    assert not wrong


def test_imports_name_modules_that_are_there() -> None:
    """mypy takes a module of ours that is gone for one of a library without types."""
    named = {file.relative_to(PACKAGE.parent).with_suffix("").parts for file in PACKAGE.rglob("*.py")}
    there = {".".join(parts).removesuffix(".__init__") for parts in named}
    wrong = [
        f"{file.relative_to(PACKAGE.parent)}:{node.lineno}: {node.module}"
        for file in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "lmtasks"
        if node.module not in there
    ]
    assert not wrong, "\n".join(wrong)


def test_only_the_command_line_prints() -> None:
    wrong = [
        f"{file.relative_to(PACKAGE.parent)}:{node.lineno}"
        for folder, file in _files()
        if folder != "cli"
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not wrong


def _loaded_by(*lines: str) -> list[list[str]]:
    """Every module that is loaded behind each of some command lines, carried out one after the other in one process."""
    code = (
        "import json, sys\nfrom lmtasks.cli.main import run\nfor line in sys.argv[1:]:\n"
        "    assert run(line.split()) == 0\n    sys.stderr.write(json.dumps(sorted(sys.modules)) + '\\n')"
    )
    done = subprocess.run([sys.executable, "-c", code, *lines], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_help_loads_nothing_heavy() -> None:
    commands = ("eval", "run", "adapt", "export", "bench", "compare", "report", "predict")
    of_all, *of_each = _loaded_by("--help", *(f"{command} --help" for command in commands))
    assert not [name for name in HEAVY if name in of_all]
    assert len(of_all) < 200  # of which the interpreter itself and typer are about 150
    for command, loaded in zip(commands, of_each, strict=True):
        heavy = [name for name in HEAVY if name in loaded and name != "pydantic"]  # typer's own, for numbers
        assert not heavy, f"lmtasks {command} --help"


def test_listing_tasks_loads_no_library_that_computes() -> None:
    (loaded,) = _loaded_by("list tasks")
    assert not [name for name in ("torch", "transformers", "datasets", "pyarrow", "sklearn") if name in loaded]
    assert len(loaded) < 700


def test_files_of_tests_are_told_apart_by_their_names() -> None:
    """Two of one name, in folders that are no packages, end a run of all tests before it has begun."""
    names: dict[str, list[str]] = {}
    for file in (PACKAGE.parent / "tests").rglob("*.py"):
        if file.name != "conftest.py" and not (file.parent / "__init__.py").exists():
            names.setdefault(file.name, []).append(file.parent.name)
    assert not {name: folders for name, folders in names.items() if len(folders) > 1}
