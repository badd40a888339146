"""Regular expressions of strangers, with an end to their time: nested repetition can take longer than anyone waits.

`regex` reads Python's own patterns (its version 0 behaviour) and stops; `re` cannot be stopped.

>>> timed(r"(\\d+)").findall("1 and 22")
['1', '22']
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import regex

from lmtasks.errors import UsageError

MOST_SECONDS = 5.0
"""For one pattern on one text."""
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class TimedPattern:
    """A pattern that gives up."""

    pattern: str

    def findall(self, text: str) -> list[str | tuple[str, ...]]:
        """As `re.findall`.

        Raises:
            UsageError: it took too long.
        """
        found: list[str | tuple[str, ...]] = self._within(
            lambda: _regex(self.pattern).findall(text, timeout=MOST_SECONDS), text
        )
        return found

    def sub(self, replacement: str, text: str, *, count: int = 0) -> str:
        """As `re.sub`.

        Raises:
            UsageError: it took too long, or the replacement names a group that the pattern lacks.
        """
        made: str = self._within(
            lambda: _regex(self.pattern).sub(replacement, text, count=count, timeout=MOST_SECONDS), text
        )
        return made

    def _within(self, run: Callable[[], T], text: str) -> T:
        try:
            return run()
        except TimeoutError:
            raise UsageError(
                f"the regular expression {self.pattern!r} took longer than {MOST_SECONDS:g} seconds on a text of "
                f"{len(text):,} characters (repetition inside repetition, as in (a+)+, does that); write it otherwise."
            ) from None


def timed(pattern: str) -> TimedPattern:
    """The pattern, if Python can read it.

    Raises:
        re.error: it is no regular expression.
    """
    re.compile(pattern)
    try:
        _regex(pattern)
    except regex.error as error:
        raise re.error(str(error), pattern) from error
    return TimedPattern(pattern=pattern)


@lru_cache(maxsize=1024)
def _regex(pattern: str) -> regex.Pattern[str]:
    return regex.compile(pattern, regex.V0)
