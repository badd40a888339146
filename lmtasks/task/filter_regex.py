"""The filters that look for a pattern. Semantics: lm-evaluation-harness 0.4.13, `filters/extraction.py`."""

import re
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache

from lmtasks.errors import UsageError
from lmtasks.records import Row
from lmtasks.timed_regex import TimedPattern, timed

PATTERN = r"#### (\-?[0-9\.\,]+)"
"""GSM8K's, the default."""
FALLBACK = "[invalid]"
TAGGED = re.compile(r"\('([^']*)', '([^']*)'\)")


def regex(answers: Sequence[object], _row: Row, options: Mapping[str, object]) -> list[object]:
    """Match number `group_select` of each answer, without white space around it; of several groups in it the first
    that is not empty. Where nothing matches, `fallback`."""
    pattern, select, fallback = _settings(options)
    made: list[object] = []
    for answer in answers:
        found = _match(pattern, answer, select=select)
        made.append(fallback if found is None else found)
    return made


def multi_choice_regex(answers: Sequence[object], row: Row, options: Mapping[str, object]) -> list[object]:
    """A letter in parentheses for each answer: what the pattern finds; else the letter of the choice whose text
    stands in the answer, the longest first; else the letter after a colon; else `fallback`.

    Raises:
        UsageError: the row has no column `choices`.
    """
    choices = row.get("choices")
    if not isinstance(choices, Sequence) or isinstance(choices, str):
        raise UsageError("it needs a column choices with a list of texts; process_docs can make one.")
    pattern, select, fallback = _settings(options)
    letters = [chr(ord("A") + number) for number in range(len(choices))]
    texts = [_ignoring(str(choice).strip(), options) for choice in choices]
    of_text = {text: f"({letter})" for text, letter in zip(texts, letters, strict=True)}
    by_text = timed("|".join(sorted(map(re.escape, texts), key=len, reverse=True)))
    by_letter = timed(rf":[\s]*({'|'.join(letters)})")
    made: list[object] = []
    for answer in answers:
        written = answer if isinstance(answer, str) else ""
        found = _match(pattern, written, select=select)
        if not found:
            inside = _match(by_text, _ignoring(written, options), select=select)
            found = of_text.get(inside, inside) if inside else None
        if not found:
            letter = _match(by_letter, written, select=select)
            found = f"({letter})" if letter else None
        made.append(found or fallback)
    return made


def part_of_speech(answers: Sequence[object], _row: Row, options: Mapping[str, object]) -> list[object]:
    """The list of tags of each answer, which is a list of pairs or writes one down. Its pattern is not looked at, as
    in the original."""
    fallback = options.get("fallback") or ["invalid"]
    made: list[object] = []
    for answer in answers:
        pairs = TAGGED.findall(answer) if isinstance(answer, str) else answer
        tags = [pair[1] for pair in pairs] if isinstance(pairs, list | tuple) else []
        made.append(tags or fallback)
    return made


def _settings(options: Mapping[str, object]) -> tuple[TimedPattern, int, str]:
    return (
        timed(str(options.get("regex_pattern", PATTERN))),
        int(str(options.get("group_select", 0))),
        str(options.get("fallback", FALLBACK)),
    )


def _match(pattern: TimedPattern, answer: object, *, select: int) -> str | None:
    """One of the matches in a text; None where it has not so many, where the original would stop the whole run."""
    found = pattern.findall(answer) if isinstance(answer, str) else []
    if not -len(found) <= select < len(found):
        return None
    match = found[select]
    if isinstance(match, tuple):
        filled = [group for group in match if group]
        if not filled:
            return None
        match = filled[0]
    return match.strip()


def _ignoring(text: str, options: Mapping[str, object]) -> str:
    """The text without what is not to be looked at."""
    ignored = options.get("regexes_to_ignore")
    for pattern in ignored if isinstance(ignored, list) else []:
        text = timed(str(pattern)).sub("", text)
    if options.get("ignore_case"):
        text = text.lower()
    return text.translate(_punctuation()) if options.get("ignore_punctuation") else text


@cache
def _punctuation() -> Mapping[int, None]:
    """All punctuation of Unicode."""
    marks = (mark for mark in range(sys.maxunicode) if unicodedata.category(chr(mark)).startswith("P"))
    return dict.fromkeys(marks)
