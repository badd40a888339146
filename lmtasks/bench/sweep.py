"""`--sweep AXIS=VALUES`: the same work at several batch sizes, lengths, or numbers of threads.

>>> parse_sweeps(["batch=1,8,32", "threads=1,2"])
Sweep(batch=(1, 8, 32), length=(), threads=(1, 2))
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

from lmtasks.errors import UsageError, unknown
from lmtasks.settings.bounds import COUNT, MOST


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """The axes that are varied; an empty one is not."""

    batch: tuple[int, ...] = ()
    """Requests at once, instead of 1 and --batch-size."""
    length: tuple[int, ...] = ()
    """Tokens to read, in requests that all have as many, beside those of the task's own lengths."""
    threads: tuple[int, ...] = ()
    """Each makes a variant of its own."""


AXES = tuple(each.name for each in fields(Sweep))


def parse_sweeps(texts: Sequence[str]) -> Sweep:
    """The axes of all --sweep options.

    Raises:
        UsageError: an unknown axis, one that is given twice, or a value that is no whole number of at least 1.
    """
    found: dict[str, tuple[int, ...]] = {}
    for text in texts:
        axis, equals, values = (part.strip() for part in text.partition("="))
        if not equals:
            raise UsageError(f"--sweep must be AXIS=NUMBERS, as in batch=1,8,32, was {text!r}.")
        if axis not in AXES:
            raise unknown("axis of --sweep", axis, AXES)
        if axis in found:
            raise UsageError(f"--sweep {axis} is given twice; put all its values into one.")
        found[axis] = tuple(dict.fromkeys(_whole(value, text) for value in values.split(",")))
    return Sweep(**found)


def _whole(value: str, text: str) -> int:
    digits = value.strip()
    if not digits.isdecimal() or len(digits) > len(str(MOST)) or not COUNT.holds(int(digits)):
        raise UsageError(
            f"--sweep {text!r}: values are whole numbers of at least 1 with commas between, not {value.strip()!r}."
        )
    return int(value)
