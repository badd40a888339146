"""`!function module.name` in a task file: a reference to Python code that lies beside the file.

Nothing is imported when a file is read; the code runs only when a trusted task uses it.
"""

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

from lmtasks.errors import LmtasksError, UsageError, code_failed


@dataclass(frozen=True, kw_only=True)
class FunctionRef:
    """One `!function` of a task file."""

    qualified: str
    """`utils.doc_to_text`: function `doc_to_text` of `utils.py`."""
    folder: Path
    """Folder of the file that names it."""

    @property
    def name(self) -> str:
        """The function's own name."""
        return self.qualified.rpartition(".")[2]

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
            UsageError: there is no such module, no such function in it, or the module imports what is not installed.
            WorkError: the module failed while it was imported.
        """
        return _load(self)

    def call(self, *values: object) -> object:
        """Load the function and hand it values: a row, or whatever the field that names it hands over.

        Raises:
            UsageError: the function imports what is not installed.
            WorkError: the function failed.
        """
        function = self.load()
        try:
            return function(*values)
        except (Exception, SystemExit) as error:
            raise self.failed(error) from error

    def failed(self, error: BaseException) -> LmtasksError:
        """The error for what the function raised."""
        return code_failed(f"!function {self.qualified} of {self.module}", error)


@cache
def _load(reference: FunctionRef) -> Callable[..., object]:
    module = _from_file(reference) if reference.module.is_file() else _installed(reference)
    found = getattr(module, reference.name, None)
    if not callable(found):
        raise UsageError(
            f"!function {reference.qualified}: {module.__file__ or module.__name__} has no function {reference.name!r}."
        )
    function: Callable[..., object] = found
    return function


def _from_file(reference: FunctionRef) -> ModuleType:
    """The module in the file beside the task file, imported once for all functions in it."""
    file = reference.module.resolve()
    name = f"lmtasks_trusted_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}_{file.stem}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise UsageError(f"!function {reference.qualified}: {file} is no Python file.")
    module = importlib.util.module_from_spec(spec)
    # Before it runs: dataclasses and pickling look a module up by its name.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise code_failed(f"!function {reference.qualified}: {file}", error) from error
    return module


def _installed(reference: FunctionRef) -> ModuleType:
    """lm-evaluation-harness' rule: what does not lie beside the file may be an installed module."""
    name = reference.qualified.rpartition(".")[0]
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and _is_part(error.name or "", of=name):
            raise UsageError(
                f"!function {reference.qualified}: there is no file {reference.module}, nor an installed module {name}."
            ) from error
        raise code_failed(f"!function {reference.qualified}: the module {name}", error) from error


def _is_part(missing: str, *, of: str) -> bool:
    """Is what is missing the module itself, and no other that it imports? Of lm_eval the advice is to install it."""
    return missing.partition(".")[0] != "lm_eval" and f"{of}.".startswith(f"{missing}.")
