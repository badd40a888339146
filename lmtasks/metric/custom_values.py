"""One value that a task's own code made, read as its aggregation takes it; and examples for which it made none."""

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import TypeVar

import numpy as np

from lmtasks.errors import WorkError
from lmtasks.metric.base import only
from lmtasks.records import Bools, CustomValues, Floats, Outcome

T = TypeVar("T")


class _Missing:
    """Stands where a task made no value for an example."""

    def __repr__(self) -> str:
        return "no value"


MISSING = _Missing()


def present(statistics: Floats) -> Bools:
    """(N, K) -> (N,): has the example a value?"""
    if statistics.dtype == object:
        return np.array([item is not MISSING for item in statistics[:, 0].tolist()], dtype=np.bool_)
    return np.logical_not(np.isnan(statistics).any(axis=1))


def items_of(name: str, outcomes: Sequence[Outcome]) -> list[object]:
    """The values of that name, MISSING where there is none."""
    return [outcome.values.get(name, MISSING) for outcome in only(CustomValues, outcomes)]


def table_of(
    name: str, outcomes: Sequence[Outcome], *, wanted: str, read: Callable[[object], Sequence[float]]
) -> Floats:
    """(N, K): what `read` makes of each value; not a number where there is none.

    Raises:
        WorkError: a value is not what is wanted.
    """
    items = items_of(name, outcomes)
    there = [place for place, item in enumerate(items) if item is not MISSING]
    rows = [checked(name, items[place], wanted=wanted, read=read) for place in there]
    table = np.full((len(items), len(rows[0]) if rows else 1), np.nan)
    if rows:
        table[there] = np.array(rows, dtype=np.float64)
    return table


def checked(name: str, item: object, *, wanted: str, read: Callable[[object], T]) -> T:
    """What `read` makes of a value.

    Raises:
        WorkError: the value is not what is wanted.
    """
    try:
        return read(item)
    except (TypeError, ValueError, IndexError) as error:
        raise WorkError(f"{name}: the task made the value {item!r:.200}; its aggregation takes {wanted}.") from error


def number(item: object) -> float:
    """A number, of NumPy or Python; True is 1."""
    if isinstance(item, bool | int | float | np.number | np.bool_):
        return float(item)
    if isinstance(item, np.ndarray) and item.size == 1:
        return float(item.item())
    raise TypeError("no number")


def is_number(item: object) -> bool:
    """Can `number` read it?"""
    try:
        number(item)
    except TypeError:
        return False
    return True


def pair(item: object) -> tuple[object, object]:
    """Two values."""
    first, second = several(item)
    return first, second


def several(item: object) -> list[object]:
    """The values of a list, a tuple or an array."""
    if isinstance(item, np.ndarray):
        return list(item)
    if isinstance(item, list | tuple):
        return list(item)
    raise TypeError("no list")


def label(item: object) -> float:
    """A number that stands for a label: a number is itself, any other value a large negative number made from it.

    >>> label(True), label(2), label("entailment") < -(2**50), label("a") == label("b")
    (1.0, 2.0, True, False)
    """
    try:
        return number(item)
    except TypeError:
        digest = blake2b(repr(item).encode("utf-8", "surrogatepass"), digest_size=6).digest()
        return -float((1 << 50) + int.from_bytes(digest, "big"))
