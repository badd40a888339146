"""Lines of standard input, answered as they come: as many together as wait there, and never one later for another."""

import io
import os
import select
import sys
from collections.abc import Callable, Iterator
from itertools import islice

from lmtasks.errors import UsageError

CHUNK_BYTES = 1 << 16


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
