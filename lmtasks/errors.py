"""One hierarchy of errors. Each message says what was given, what is allowed, what to do.

`cli/` turns them into one sentence and an exit code: `UsageError` 2, `WorkError` 1, `GateError` 3.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path


class LmtasksError(Exception):
    """Any failure that a user can understand and act upon."""


class UsageError(LmtasksError):
    """The command, a file or an option is wrong (exit code 2)."""


class WorkError(LmtasksError):
    """The command was right, but the work failed (exit code 1)."""


class NoNumberError(WorkError):
    """A model's scores are NaN or infinite."""


class GateError(LmtasksError):
    """A gate that the user set said no (exit code 3)."""


def unknown(what: str, given: str, allowed: Iterable[str], *, hint: str = "") -> UsageError:
    """The error for a name that is not in a table, with the nearest names that are.

    >>> print(unknown("metric", "bleau", ["bleu", "ter"]))
    unknown metric 'bleau'; did you mean 'bleu'? Known: bleu, ter.
    """
    names = sorted(allowed)
    near = get_close_matches(given, names, n=3, cutoff=0.5)
    guess = f"; did you mean {' or '.join(repr(name) for name in near)}?" if near else "."
    shown = names if len(names) <= 40 else [*names[:40], f"and {len(names) - 40} more"]
    tail = f" {hint}" if hint else ""
    return UsageError(f"unknown {what} {given!r}{guess} Known: {', '.join(shown)}.{tail}")


def code_failed(what: str, error: BaseException) -> LmtasksError:
    """The error for code of a task that raised something.

    Code that imports what is not installed has not failed: the installation lacks something, which can be mended.

    >>> print(code_failed("!function utils.score", ModuleNotFoundError("No module named 'soundex'", name="soundex")))
    !function utils.score needs the module soundex, which is not installed; install the package that holds it.
    >>> print(code_failed("!function utils.score", ValueError("no answer")))
    !function utils.score failed: ValueError: no answer.
    """
    if isinstance(error, LmtasksError):
        return error
    message = str(error).strip().rstrip(".")
    if isinstance(error, SystemExit):
        return WorkError(f"{what} ended the process ({message or 'sys.exit'}) instead of yielding something.")
    if not isinstance(error, ImportError):
        return WorkError(f"{what} failed: {type(error).__name__}: {message}.")
    top = (error.name or "").partition(".")[0]
    if not isinstance(error, ModuleNotFoundError) or not top or find_spec(top) is not None:
        return UsageError(f"{what} cannot be imported with what is installed here: {message}.")
    if top == "lm_eval":
        advice = "pip install lm_eval helps: the code is made of parts of lm-evaluation-harness"
    else:
        advice = "install the package that holds it"
    return UsageError(f"{what} needs the module {error.name}, which is not installed; {advice}.")


def missing(what: str, path: Path, *, hint: str) -> UsageError:
    """The error for a file or folder that is not there, with its neighbours of a similar name.

    Args:
        hint: what to do where no neighbour is near.
    """
    near = near_paths(path)
    tail = f"did you mean {' or '.join(repr(str(each)) for each in near)}?" if near else f"{hint}."
    return UsageError(f"there is no {what} {path}; {tail}")


def near_paths(path: Path) -> list[Path]:
    """Up to three files or folders beside it whose names are nearly its own."""
    try:
        names = [item.name for item in path.parent.iterdir()]
    except OSError:
        return []
    return [path.parent / name for name in get_close_matches(path.name, names, n=3, cutoff=0.6)]
