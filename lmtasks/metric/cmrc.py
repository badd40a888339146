"""The rules of CMRC 2018's official script, version 5 (Cui et al. 2019, https://github.com/ymcui/cmrc2018).

EM compares both sides in lower case, stripped, without the characters of MARKS.
F1 cuts both sides, without MARKS, into segments: each character of U+4E00-U+9FA5 by itself, what lies between as
English words by NLTK. Then it takes their longest common run of segments (the script says "lcs", and computes the
longest common *substring*, not subsequence), of length L: precision L / segments given, recall L / segments wanted.

Against 1918年 ([1918, 年]) the prediction 在1918年 ([在, 1918, 年]) has L = 2, precision 2/3, recall 1, F1 0.8.

Two notes. The script's MARKS hold an ellipsis of two characters, which no single character equals: it is kept.
NLTK's word_tokenize first cuts English into sentences with a downloaded model; here it does not, which tells only where
one stretch of English between two Chinese characters holds a full stop before its end.
"""

import re
from functools import cache
from typing import Protocol

MARKS = frozenset("-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")

_CHINESE = re.compile("[\u4e00-\u9fa5]")


def without_punctuation(text: str) -> str:
    """What EM compares."""
    return "".join(character for character in text.lower().strip() if character not in MARKS)


def f1(gold: str, given: str) -> float:
    """F1 of the longest common run of segments. An empty gold (CMRC 2018 has none) wants an empty answer."""
    wanted, found = segments(gold), segments(given)
    if not gold:
        return float(not found)
    common = longest_common_run(wanted, found)
    if common == 0:
        return 0.0
    precision, recall = common / len(found), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


def segments(text: str) -> list[str]:
    """Chinese characters one by one, English words whole, without MARKS."""
    found: list[str] = []
    stretch = ""
    for character in without_punctuation(text):
        if _CHINESE.match(character):
            found += _english(stretch)
            found.append(character)
            stretch = ""
        else:
            stretch += character
    return found + _english(stretch)


def longest_common_run(left: list[str], right: list[str]) -> int:
    """Length of the longest list of segments that stands in both without a gap.

    >>> longest_common_run(list("abcde"), list("xbcye"))
    2
    """
    best = 0
    previous = [0] * (len(right) + 1)
    for a in left:
        current = [0] * (len(right) + 1)
        for index, b in enumerate(right):
            if a == b:
                current[index + 1] = previous[index] + 1
        best = max(best, *current)
        previous = current
    return best


class _Tokenizer(Protocol):
    def tokenize(self, text: str) -> list[str]: ...


def _english(stretch: str) -> list[str]:
    return _tokenizer().tokenize(stretch) if stretch else []


@cache
def _tokenizer() -> _Tokenizer:
    from nltk.tokenize import NLTKWordTokenizer

    tokenizer: _Tokenizer = NLTKWordTokenizer()
    return tokenizer
