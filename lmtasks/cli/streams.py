"""Standard input, output and error as a command finds them: open, of one encoding, and safe on a terminal.

Lines of input are answered as they come, as many together as wait there, and never one later for another. Bars and
warnings of libraries are left out; what lmtasks logs is shown.
"""

import io
import logging
import os
import select
import sys
import warnings
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TextIO

from lmtasks.errors import UsageError
from lmtasks.visible import shown_line, visible

SILENT = {
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "DATASETS_VERBOSITY": "error",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
"""Variables that these libraries read while they are imported; none changes a result. What the person set stays."""
CHUNK_BYTES = 1 << 16


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
        """Passed on to the terminal."""
        self.terminal.flush()

    def fileno(self) -> int:
        """Passed on to the terminal."""
        return self.terminal.fileno()

    def isatty(self) -> bool:
        """It is one."""
        return self.terminal.isatty()

    def writable(self) -> bool:
        """It is."""
        return True


def quiet_libraries(*, debug: bool, quiet: bool = False) -> None:
    """Silence libraries before the first is imported, and show our own log: of it warnings alone with `quiet`. With
    `debug` they may say everything."""
    notes = _OnStandardError()
    notes.setFormatter(logging.Formatter("lmtasks: %(message)s"))
    ours = logging.getLogger("lmtasks")
    ours.handlers = [notes]
    ours.propagate = False
    ours.setLevel(logging.WARNING if quiet else logging.INFO)
    if debug:
        return
    if not sys.stderr.isatty():  # on a terminal a download of gigabytes shows its bar
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    for name, value in SILENT.items():
        os.environ.setdefault(name, value)
    warnings.simplefilter("ignore")


def waiting_lines(most: int) -> Iterator[list[str]]:
    """Up to `most` lines that are there, without their ends; waits only where there is none.

    Raises:
        UsageError: standard input is closed, or a line cannot be decoded; those before it were yielded.
    """
    if sys.stdin is None:
        raise UsageError("standard input is closed; give a text as an argument, or lines on standard input.")
    try:
        number = sys.stdin.fileno()
    except io.UnsupportedOperation:  # somebody put a stream of their own there
        lines = iter(sys.stdin)
        while part := [line.rstrip("\r\n") for line in islice(lines, most)]:
            yield part
        return
    part, failure = [], None
    for line in _lines(lambda: os.read(number, CHUNK_BYTES), is_waiting=lambda: _is_readable(number)):
        if line is not None:
            try:
                part.append(_decoded(line))
            except UsageError as error:
                failure = error
        if part and (line is None or failure or len(part) == most):
            yield part
            part = []
        if failure:
            raise failure
    if part:
        yield part


def _lines(read: Callable[[], bytes], *, is_waiting: Callable[[], bool]) -> Iterator[tuple[int, bytes] | None]:
    """Numbered lines, and None where the next one is not there yet."""
    number, pieces = 0, [b""]
    while chunk := read():
        *whole, rest = chunk.split(b"\n")
        for end in whole:
            number += 1
            yield number, b"".join([*pieces, end])
            pieces = []
        pieces.append(rest)
        if not is_waiting():
            yield None
    if any(pieces):
        yield number + 1, b"".join(pieces)


def _decoded(line: tuple[int, bytes]) -> str:
    number, content = line
    encoding = sys.stdin.encoding or "utf-8"
    try:
        return content.removeprefix(b"\xef\xbb\xbf" if number == 1 else b"").decode(encoding).rstrip("\r")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"line {number} of standard input is not {encoding.upper()} (byte {error.start + 1} is "
            f"0x{content[error.start]:02x}); convert it first, say with iconv -f ENCODING -t {encoding.upper()}."
        ) from error


def _is_readable(number: int) -> bool:
    """Is more there, or the end? Of a file always."""
    return bool(select.select([number], [], [], 0)[0])


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


class _OnStandardError(logging.StreamHandler[TextIO]):
    """To standard error as it is when something is said: while bars are drawn, lines stand above them. The same
    sentence is said once, however often a file is read."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        sentence = record.getMessage()
        if sentence in self._said:
            return
        self._said.add(sentence)
        self.stream = sys.stderr  # `setStream` would flush the one before, which may be closed
        super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        return shown_line(super().format(record))
