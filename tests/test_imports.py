"""The layers of DESIGN.md held against the code, and what a command may load before it does any work."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import lmtasks

PACKAGE = Path(lmtasks.__file__).parent

OPEN_TO_ALL = frozenset(
    {
        "records",
        "errors",
        "files",
        "foreign",
        "bounds",
        "checksums",
        "cores",
        "interruption",
        "installation",
        "timed_regex",
        "folder_lock",
        "__init__",
    }
)
MAY_IMPORT: Mapping[str, frozenset[str]] = {
    "metric": frozenset(),
    "task": frozenset(),
    "data": frozenset({"task"}),
    "backbone": frozenset(),
    "head": frozenset(),
    "model": frozenset({"backbone", "head"}),
    "training": frozenset({"data", "model"}),
    "export": frozenset({"model"}),
    "runtime": frozenset({"model", "export"}),
    "engine": frozenset({"data", "runtime"}),
    "evaluation": frozenset({"metric", "task", "data", "engine"}),
    "prove": frozenset({"export", "runtime", "engine", "evaluation", "metric"}),
    "bench": frozenset({"engine", "runtime", "data"}),
    "report": frozenset({"metric"}),
}
"""DESIGN.md's table: who may import what."""

MAY_IMPORT_ALL = ("workflow", "run", "cli")
"""Use cases know every stage; a run and the command line know the use cases too."""

BESIDE_THE_TABLE: Mapping[str, frozenset[str]] = {"evaluation": frozenset({"backbone"})}
"""What the code needs beyond the table, folder by folder; each with its reason in docs/decisions.md."""

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
    allowed = MAY_IMPORT[folder] | BESIDE_THE_TABLE.get(folder, frozenset()) | OPEN_TO_ALL | {folder, "__version__"}
    wrong = [
        f"{file.relative_to(PACKAGE.parent)} imports lmtasks.{name}"
        for owner, file in _files()
        if owner == folder
        for name in sorted(_imported(file) - allowed)
    ]
    assert not wrong, "\n".join(wrong)


def test_the_table_names_every_folder() -> None:
    assert {folder for folder, _ in _files()} - {"shipped"} <= {*MAY_IMPORT, *MAY_IMPORT_ALL}


def test_only_the_command_line_prints() -> None:
    wrong = [
        f"{file.relative_to(PACKAGE.parent)}:{node.lineno}"
        for folder, file in _files()
        if folder != "cli"
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not wrong


def _loaded_by(*arguments: str) -> list[str]:
    """Every module that is loaded after a command line was carried out in a fresh process."""
    code = (
        "import json, sys\nfrom lmtasks.cli.main import run\n"
        "code = run(sys.argv[1:])\nsys.stderr.write(json.dumps(sorted(sys.modules)))\nsys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stderr.splitlines()[-1]))


def test_help_loads_nothing_heavy() -> None:
    loaded = _loaded_by("--help")
    assert not [name for name in HEAVY if name in loaded]
    assert len(loaded) < 200  # of which the interpreter itself and typer are about 150


@pytest.mark.parametrize("command", ["eval", "run", "adapt", "export", "bench", "compare", "report", "predict"])
def test_help_of_a_command_loads_nothing_heavy(command: str) -> None:
    loaded = _loaded_by(command, "--help")
    assert not [name for name in HEAVY if name in loaded and name != "pydantic"]  # typer's own, for numbers


def test_listing_tasks_loads_no_library_that_computes() -> None:
    loaded = _loaded_by("list", "tasks")
    assert not [name for name in ("torch", "transformers", "datasets", "pyarrow", "sklearn") if name in loaded]
    assert len(loaded) < 700
