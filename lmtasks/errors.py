"""One hierarchy of errors. Each message says what was given, what is allowed, what to do.

`cli/` turns them into one sentence and an exit code: `UsageError` 2, `WorkError` 1, `GateError` 3.
"""

from collections.abc import Iterable
from difflib import get_close_matches


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
