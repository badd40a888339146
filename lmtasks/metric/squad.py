"""`squad_em` and `squad_f1`: answers to questions about a text, by the official rules of the data set's language.

English, the script of SQuAD 2.0 (Rajpurkar et al. 2018, https://rajpurkar.github.io/SQuAD-explorer, evaluate-v2.0.py):
both sides in lower case, without ASCII punctuation, without the words a/an/the, spaces collapsed.
EM: equal. F1: over the bag of words. Beyond the script, accents that are stored as letters of their own are put on
theirs first (normal form C): "the" is an article, "the" with an acute behind it is tea in French.
Against "the Norman Conquest", "Norman conquest." has EM 1; "Norman" has precision 1, recall 1/2, F1 2/3.

Chinese: the script of CMRC 2018, below.

Of several references the best counts. A question without an answer is answered rightly by the empty text alone.

CMRC 2018's official script, version 5 (Cui et al. 2019, https://github.com/ymcui/cmrc2018).

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
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Protocol
from unicodedata import category, normalize

import numpy as np

from lmtasks.errors import unknown
from lmtasks.metric.base import Formula, MetricSettings, Remarks, mean_over_texts, only
from lmtasks.metric.words import needs_blanks
from lmtasks.records import Floats, Outcome, Text

MARKS = frozenset("-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")

_CHINESE = re.compile("[\u4e00-\u9fa5]")

Compare = Callable[[str, str], float]
"""Reference and prediction -> 0-1."""
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def without_marks(text: str) -> str:
    """Lower case, stripped, without MARKS: the form that EM compares."""
    return "".join(character for character in text.lower().strip() if character not in MARKS)


def cmrc_f1(gold: str, given: str) -> float:
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
    for character in without_marks(text):
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


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Rules of a language's official script."""

    normalize: Callable[[str], str]
    f1: Compare
    signature: str
    remarks: Remarks | None = None
    """Of F1."""


def squad_em(settings: MetricSettings) -> Formula:
    """`squad_em`: the normalized prediction equals a normalized reference."""
    rules = _rules(settings.language)
    return _best(lambda gold, given: float(rules.normalize(gold) == rules.normalize(given)), rules)


def squad_f1(settings: MetricSettings) -> Formula:
    """`squad_f1`: overlap of the prediction with the nearest reference."""
    rules = _rules(settings.language)
    return replace(_best(rules.f1, rules), remarks=rules.remarks)


def part_of(build: Callable[[MetricSettings], Formula], *, answered: bool) -> Callable[[MetricSettings], Formula]:
    """The same over the questions that have an answer, or over those that have none: HasAns and NoAns of the script,
    which asks whether a row names any answer, and not what is left of it."""

    def made(settings: MetricSettings) -> Formula:
        whole = build(settings)

        def statistics(outcomes: Sequence[Outcome]) -> Floats:
            counted = np.array([bool(text.references) == answered for text in only(Text, outcomes)], dtype=np.float64)
            return whole.statistics(outcomes) * counted[:, None]

        part = f"part:{'HasAns' if answered else 'NoAns'}"
        return replace(whole, kind="ratio", statistics=statistics, original="", signature=f"{whole.signature}|{part}")

    return made


def _best(compare: Compare, rules: Rules) -> Formula:
    def value(text: Text) -> float:
        # As in the official script: references that normalize to nothing are none.
        golds = [gold for gold in text.references if rules.normalize(gold)] or [""]
        return max(compare(gold, text.prediction) for gold in golds)

    return mean_over_texts(value, signature=rules.signature)


def _normalized(text: str) -> str:
    lowered = normalize("NFC", text.lower()).translate(_WITHOUT_PUNCTUATION)
    return " ".join(_ARTICLES.sub(_unless_marked, lowered).split())


def _unless_marked(article: re.Match[str]) -> str:
    """A blank in the place of an article; a letter whose mark follows (in NFC some still do) is part of a word."""
    after = article.string[article.end() : article.end() + 1]
    return article[0] if after and category(after).startswith("M") else " "


def _f1(gold: str, given: str) -> float:
    wanted, found = _normalized(gold).split(), _normalized(given).split()
    if not wanted or not found:
        return float(wanted == found)
    common = sum((Counter(wanted) & Counter(found)).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(found), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


RULES: Mapping[str, Rules] = {
    "en": Rules(
        normalize=_normalized,
        f1=_f1,
        signature="script:squad-2.0|refs:best",
        remarks=needs_blanks("squad_f1 (en)", use="squad_em or chrf", of_chinese="the task's language, zh"),
    ),
    "zh": Rules(normalize=without_marks, f1=cmrc_f1, signature="script:cmrc-2018-v5|tok:nltk|refs:best"),
}


def _rules(language: str) -> Rules:
    if language not in RULES:
        raise unknown("language of squad_em and squad_f1", language, RULES, hint="Use exact_match, rouge1 or chrf.")
    return RULES[language]
