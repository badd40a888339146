"""Which metrics cannot cut which scripts into words: that is said, with the metric to use instead.

>>> unspaced_script("ฝนตก และ 3 km"), unspaced_script("it rained in 東京"), unspaced_script("東京で雨が降った")
('Thai', '', 'Japanese')
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import regex

from lmtasks.metric.base import Remarks, only, references
from lmtasks.metric.words import words
from lmtasks.records import Outcome, Text
from lmtasks.scripts import SPACELESS

CHINESE = "Chinese"
JAPANESE = "Japanese"
_MEMBERS: Mapping[str, str] = {
    **{name: "".join(rf"\p{{Script={script}}}" for script in scripts) for name, scripts in SPACELESS.items()},
    "this": r"\p{Line_Break=Complex_Context}",
}
"""Scripts that put no blanks between words; the last line stands for those without a line of their own."""
_SCRIPTS = {name: regex.compile(rf"(?V1)[[{members}]&&\p{{L}}]") for name, members in _MEMBERS.items()}
_UNSPACED = regex.compile(rf"(?V1)[[{''.join(_MEMBERS.values())}]&&\p{{L}}]")
_LETTER = regex.compile(r"\p{L}")

ENGLISH_SHARE = 3
"""An English reference has fewer than one word in so many with a letter beyond a-z."""


def unspaced_script(text: str) -> str:
    """The script without blanks between words that half of a text's letters or more are of; empty where there is none.
    Where kana are among the Han characters, it is Japanese."""
    if text.isascii():
        return ""
    unspaced = len(_UNSPACED.findall(text))
    if not unspaced or unspaced * 2 < len(_LETTER.findall(text)):
        return ""
    counts = {name: len(script.findall(text)) for name, script in _SCRIPTS.items()}
    if counts[JAPANESE]:
        counts[JAPANESE] += counts.pop(CHINESE)
    return max(counts, key=lambda name: counts[name])


def needs_blanks(what: str, *, use: str, of_chinese: str | None = None) -> Remarks:
    """Remarks of a metric that takes what stands between blanks for a word.

    Args:
        what: the metric, and how it cuts.
        use: what is to be used in its place.
        of_chinese: the same for Chinese; None: it cuts Chinese itself.
    """

    def sentence(text: Text) -> str:
        script = unspaced_script(" ".join(references(text)))
        instead = of_chinese if script == CHINESE else use
        if not script or instead is None:
            return ""
        return f"{what} finds no words in {script} script, which puts no blanks between them; use {instead}"

    return _of_each(sentence)


def reads_ascii_only(what: str, *, use: str) -> Remarks:
    """Remarks of a metric of English that drops every letter outside a-z, or cuts words there."""

    def sentence(text: Text) -> str:
        gold = " ".join(references(text))
        found = [] if gold.isascii() else words(gold)
        beyond = sum(not word.isascii() for word in found)
        if not beyond or beyond * ENGLISH_SHARE < len(found):
            return ""
        return f"{what} drops every letter outside a-z; {use}"

    return _of_each(sentence)


def _of_each(sentence: Callable[[Text], str]) -> Remarks:
    def remarks(outcomes: Sequence[Outcome]) -> Mapping[str, int]:
        return Counter(filter(None, map(sentence, only(Text, outcomes))))

    return remarks
