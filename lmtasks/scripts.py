"""Scripts that put no blanks between words, for whoever cuts texts or says that a text cannot be cut."""

from collections.abc import Mapping

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
