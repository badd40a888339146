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
"""

import re
from unicodedata import normalize

import regex

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
