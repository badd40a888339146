"""Scripts: those that put no blanks between words, and the width of a text in cells of a terminal."""

from collections.abc import Mapping
from unicodedata import combining, east_asian_width

SPACELESS: Mapping[str, tuple[str, ...]] = {
    "Chinese": ("Han",),
    "Japanese": ("Hiragana", "Katakana"),
    "Thai": ("Thai",),
    "Lao": ("Lao",),
    "Khmer": ("Khmer",),
    "Burmese": ("Myanmar",),
    "Tibetan": ("Tibetan",),
    "Javanese": ("Javanese",),
    "Balinese": ("Balinese",),
    "Yi": ("Yi",),
}
"""Name for people to the Unicode scripts that only it is written in; Japanese texts hold Han as well."""


def text_width(text: str) -> int:
    """Cells that a text takes on a terminal or in a table of plain text: two for a Chinese character, none for a mark.

    >>> text_width("很好 ok")
    7
    """
    return sum(0 if combining(mark) else 2 if east_asian_width(mark) in "WF" else 1 for mark in text)
