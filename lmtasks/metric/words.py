"""Texts cut into words for metrics, with no model and no dictionary, in every script alike.

A word is a run of letters and digits with all that Unicode lets them carry: vowel signs, tone marks, points, viramas,
joiners. Scripts that put no blanks between words (Han, kana, Thai, Lao, Khmer, Burmese, ...) are cut into grapheme
clusters, what a reader takes for one character (https://www.unicode.org/reports/tr29). All is in lower case and in
Unicode's normal form C, so that a word is one word however its accents are stored.

>>> words("BERT在2018年发布。")
['bert', '在', '2018', '年', '发', '布']
>>> words("दिन, दान।"), words("น้ำเย็น"), words("cafe\\u0301") == words("caf\\u00e9")
(['दिन', 'दान'], ['น้ำ', 'เ', 'ย็', 'น'], True)
>>> pieces("no, no")
['no', ',', 'no']

A metric that takes what stands between blanks for a word cannot score such scripts: its remarks say so, with the
metric to use instead.

>>> unspaced_script("ฝนตก และ 3 km"), unspaced_script("it rained in 東京"), unspaced_script("東京で雨が降った")
('Thai', '', 'Japanese')
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from unicodedata import normalize

import regex

from lmtasks.metric.base import Remarks, only, references
from lmtasks.records import Outcome, Text
from lmtasks.scripts import SPACELESS

_UNSPACED = (
    r"[[\p{scx=Han}\p{scx=Hiragana}\p{scx=Katakana}\p{scx=Bopomofo}"
    r"\p{Line_Break=Complex_Context}"  # Unicode's own list of scripts that are cut by dictionaries: Thai, Khmer, ...
    r"\p{Script=Javanese}\p{Script=Balinese}\p{Script=Yi}\p{Script=Tangut}\p{Script=Nushu}]&&[\p{L}\p{Nl}]]"
)
_JOINERS = r"\u200c\u200d"
"""Persian and Indic spelling: they stand within words."""
_CARRIED = rf"\p{{M}}{_JOINERS}"
_WORD = (
    rf"(?={_UNSPACED})\X[{_CARRIED}]*"  # \X leaves out Burmese AA, U+102C
    rf"|[[\p{{L}}\p{{N}}]--{_UNSPACED}][[\p{{L}}\p{{N}}{_CARRIED}]--{_UNSPACED}]*"
)
_WORDS = regex.compile(f"(?V1){_WORD}")
_PIECES = regex.compile(rf"(?V1){_WORD}|(?=\S)\X")
_INVISIBLE = regex.compile(rf"(?V1)[\p{{Default_Ignorable_Code_Point}}--[{_JOINERS}\u200b\U000e0020-\U000e007f]]+")
"""Hints to whoever draws a text (soft hyphens, direction marks, variants of a glyph); no part of how a word is spelt.
U+200B is a blank that is not seen, and flags are spelt with the tags of plane 14."""

_ASCII_WORDS = re.compile(r"[a-z0-9]+")
_ASCII_PIECES = re.compile(r"[a-z0-9]+|\S")

CHINESE = "Chinese"
JAPANESE = "Japanese"
_MEMBERS: Mapping[str, str] = {
    **{name: "".join(rf"\p{{Script={script}}}" for script in scripts) for name, scripts in SPACELESS.items()},
    "this": r"\p{Line_Break=Complex_Context}",
}
"""Scripts that put no blanks between words; the last line stands for those without a line of their own."""
_SCRIPTS = {name: regex.compile(rf"(?V1)[[{members}]&&\p{{L}}]") for name, members in _MEMBERS.items()}
_SPACELESS = regex.compile(rf"(?V1)[[{''.join(_MEMBERS.values())}]&&\p{{L}}]")
_LETTER = regex.compile(r"\p{L}")
ENGLISH_SHARE = 3
"""An English reference has fewer than one word in so many with a letter beyond a-z."""


def words(text: str) -> list[str]:
    """The words, without punctuation."""
    if text.isascii():
        return _ASCII_WORDS.findall(text.lower())
    return list(map(str, _WORDS.findall(folded(text))))


def pieces(text: str) -> list[str]:
    """The words, and each mark of punctuation by itself."""
    if text.isascii():
        return _ASCII_PIECES.findall(text.lower())
    return list(map(str, _PIECES.findall(folded(text))))


def folded(text: str) -> str:
    """Lower case, normal form C, without what is not seen."""
    visible = str(_INVISIBLE.sub("", text)).replace("\u200b", " ")
    return normalize("NFC", visible.lower())


def unspaced_script(text: str) -> str:
    """The script without blanks between words that half of a text's letters or more are of; empty where there is none.
    Where kana are among the Han characters, it is Japanese."""
    if text.isascii():
        return ""
    unspaced = len(_SPACELESS.findall(text))
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
