"""`squad_em` and `squad_f1`: answers to questions about a text, by the official rules of the data set's language.

English, the script of SQuAD 2.0 (Rajpurkar et al. 2018, https://rajpurkar.github.io/SQuAD-explorer, evaluate-v2.0.py):
both sides in lower case, without ASCII punctuation, without the words a/an/the, spaces collapsed.
EM: equal. F1: over the bag of words. Beyond the script, accents that are stored as letters of their own are put on
theirs first (normal form C): "the" is an article, "the" with an acute behind it is tea in French.
Against "the Norman Conquest", "Norman conquest." has EM 1; "Norman" has precision 1, recall 1/2, F1 2/3.

Chinese: the script of CMRC 2018, in `cmrc`.

Of several references the best counts. A question without an answer is answered rightly by the empty text alone.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from unicodedata import category, normalize

import numpy as np

from lmtasks.errors import unknown
from lmtasks.metric import cmrc
from lmtasks.metric.base import Formula, Remarks, Settings, mean, only
from lmtasks.metric.scripts import needs_blanks
from lmtasks.records import Floats, Outcome, Text

Compare = Callable[[str, str], float]
"""Reference and prediction -> 0-1."""

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What a language's official script does."""

    normalize: Callable[[str], str]
    f1: Compare
    signature: str
    remarks: Remarks | None = None
    """Of F1."""


def squad_em(settings: Settings) -> Formula:
    """`squad_em`: the normalized prediction equals a normalized reference."""
    rules = _rules(settings.language)
    return _best(lambda gold, given: float(rules.normalize(gold) == rules.normalize(given)), rules)


def squad_f1(settings: Settings) -> Formula:
    """`squad_f1`: overlap of the prediction with the nearest reference."""
    rules = _rules(settings.language)
    return replace(_best(rules.f1, rules), remarks=rules.remarks)


def _best(compare: Compare, rules: Rules) -> Formula:
    def value(text: Text) -> float:
        # As in the official script: references that normalize to nothing are none.
        golds = [gold for gold in text.references if rules.normalize(gold)] or [""]
        return max(compare(gold, text.prediction) for gold in golds)

    def values(outcomes: Sequence[Outcome]) -> Floats:
        return np.array([value(text) for text in only(Text, outcomes)])

    return mean(values, signature=rules.signature)


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
    "zh": Rules(normalize=cmrc.without_punctuation, f1=cmrc.f1, signature="script:cmrc-2018-v5|tok:nltk|refs:best"),
}


def _rules(language: str) -> Rules:
    if language not in RULES:
        raise unknown("language of squad_em and squad_f1", language, RULES, hint="Use exact_match, rouge1 or chrf.")
    return RULES[language]
