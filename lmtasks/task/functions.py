"""`!function module.name` in a task file: a reference to Python code that lies beside the file.

Nothing is imported when a file is read; the code runs only when a trusted task uses it.
"""

import hashlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lmtasks.errors import UsageError, WorkError


@dataclass(frozen=True, kw_only=True)
class FunctionRef:
    """One `!function` of a task file."""

    qualified: str
    """`utils.doc_to_text`: function `doc_to_text` of `utils.py`."""
    folder: Path
    """Folder of the file that names it."""

    @property
    def module(self) -> Path:
        """The Python file that holds the function."""
        return self.folder / (self.qualified.rpartition(".")[0].replace(".", "/") + ".py")

    def describe(self) -> dict[str, object]:
        """Name and content, without the place: what a task's hash is made of."""
        digest = hashlib.sha256(self.module.read_bytes()).hexdigest()[:16] if self.module.is_file() else None
        return {"function": self.qualified, "sha256": digest}

    def load(self) -> Callable[..., object]:
        """Import the module, once a process, and take the function out of it. Runs foreign code.

        Raises:
            UsageError: there is no such module, or no such function in it.
            WorkError: the module failed while it was imported.
        """
        return _load(self)

    def call(self, row: object) -> object:
        """Load the function and hand it a row.

        Raises:
            WorkError: the function failed.
        """
        function = self.load()
        try:
            return function(row)
        except Exception as error:
            raise WorkError(f"!function {self.qualified} of {self.module} failed on a row: {_said(error)}.") from error


@cache
def _load(reference: FunctionRef) -> Callable[..., object]:
    name, module_file = reference.qualified.rpartition(".")[2], reference.module
    spec = importlib.util.spec_from_file_location(f"lmtasks_trusted_{module_file.stem}", module_file)
    if not module_file.is_file() or spec is None or spec.loader is None:
        raise UsageError(f"!function {reference.qualified}: there is no file {module_file}.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise WorkError(f"!function {reference.qualified}: {module_file} failed: {_said(error)}.") from error
    found = getattr(module, name, None)
    if not callable(found):
        raise UsageError(f"!function {reference.qualified}: {module_file} has no function {name!r}.")
    function: Callable[..., object] = found
    return function


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
