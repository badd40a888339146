"""Tables in plain sight: lines by name, in the order in which they are written down.

A line is a value that names itself. Code outside the package adds a line of its own by handing over the value, for the
time of a block; nothing is registered by being imported:

    with KINDS.extended(MY_KIND), HEADS.extended(MY_HEAD):
        adapt(...)
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol, TypeVar

from lmtasks.errors import UsageError, unknown


class Named(Protocol):
    """A line of a table."""

    @property
    def name(self) -> str:
        """Its key in the table."""
        ...


Line = TypeVar("Line", bound=Named)


class NamedTable(Mapping[str, Line]):
    """A mapping from names to lines that only `extended` can add to.

    Args:
        word: what a line is called in messages.
        lines: in their order; each name once.
    """

    def __init__(self, word: str, *lines: Line) -> None:
        self.word = word
        self._lines = {line.name: line for line in lines}

    def __getitem__(self, name: str) -> Line:
        return self._lines[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._lines)

    def __len__(self) -> int:
        return len(self._lines)

    def line(self, name: str) -> Line:
        """The line of that name.

        Raises:
            UsageError: there is none; the names that there are stand in the message.
        """
        if name not in self._lines:
            raise unknown(self.word, name, self._lines)
        return self._lines[name]

    @contextmanager
    def extended(self, *lines: Line) -> Iterator[None]:
        """The table with more lines inside a `with` block, in every thread of this process.

        Raises:
            UsageError: a name is taken; a line of the package is never replaced.
        """
        before = self._lines
        taken = [line.name for line in lines if line.name in before]
        if taken:
            raise UsageError(f"there is a {self.word} {taken[0]!r} already; give yours another name.")
        self._lines = {**before, **{line.name: line for line in lines}}
        try:
            yield
        finally:
            self._lines = before
