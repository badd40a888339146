"""Standard input, output and error as a command finds them: open, of one encoding, and safe on a terminal."""

import io
import os
import sys
from typing import TextIO

from lmtasks.visible import visible


def prepare_streams() -> int:
    """Make the streams fit to be used by everything behind; an exit code other than 0 where that cannot be.

    A closed one is opened on nothing, so that no file that is opened later gets its number and what libraries say.
    What an encoding lacks is written as its escape (`\\u4e2d`).
    """
    closed = [number for number in (0, 1, 2) if not _is_open(number)]
    for _ in closed:
        os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    if 2 in closed or sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # for as long as the process lives
    if 1 in closed or sys.stdout is None:
        print(
            "lmtasks: standard output is closed, so that no result can be shown; leave it open, or give > /dev/null.",
            file=sys.stderr,
        )
        return 2
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
        if stream.isatty():
            setattr(sys, name, VisibleStream(stream))
    return 0


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


class VisibleStream(io.TextIOBase):
    """A terminal to which only visible text gets; what draws on it takes `terminal` itself."""

    def __init__(self, terminal: TextIO) -> None:
        self.terminal = terminal

    @property
    def encoding(self) -> str:  # type: ignore[override]  # the base has a field without a value
        """The terminal's."""
        return self.terminal.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        """The terminal's."""
        return self.terminal.errors

    def write(self, text: str) -> int:
        """Number of characters that were given, as any stream has it."""
        self.terminal.write(visible(text))
        return len(text)

    def flush(self) -> None:
        """Of the terminal."""
        self.terminal.flush()

    def fileno(self) -> int:
        """Of the terminal."""
        return self.terminal.fileno()

    def isatty(self) -> bool:
        """It is one."""
        return self.terminal.isatty()

    def writable(self) -> bool:
        """It is."""
        return True
