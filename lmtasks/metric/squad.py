"""`squad_em` and `squad_f1`: answers to questions about a text, by the official rules of the data set's language.

English, the script of SQuAD 2.0 (Rajpurkar et al. 2018, https://rajpurkar.github.io/SQuAD-explorer, evaluate-v2.0.py):
both sides in lower case, without ASCII punctuation, without the words a/an/the, spaces collapsed.
EM: equal. F1: over the bag of words.
Against "the Norman Conquest", "Norman conquest." has EM 1; "Norman" has precision 1, recall 1/2, F1 2/3.

Chinese: the script of CMRC 2018, in `cmrc`.

Of several references the best counts. A question without an answer is answered rightly by the empty text alone.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lmtasks.errors import unknown
from lmtasks.metric import cmrc
from lmtasks.metric.base import Formula, Settings, mean, only
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


def squad_em(settings: Settings) -> Formula:
    """`squad_em`: the normalized prediction equals a normalized reference."""
    rules = _rules(settings.language)
    return _best(lambda gold, given: float(rules.normalize(gold) == rules.normalize(given)), rules)


def squad_f1(settings: Settings) -> Formula:
    """`squad_f1`: overlap of the prediction with the nearest reference."""
    rules = _rules(settings.language)
    return _best(rules.f1, rules)


def _best(compare: Compare, rules: Rules) -> Formula:
    def value(text: Text) -> float:
        # As in the official script: references that normalize to nothing are none.
        golds = [gold for gold in text.references if rules.normalize(gold)] or [""]
        return max(compare(gold, text.prediction) for gold in golds)

    def values(outcomes: Sequence[Outcome]) -> Floats:
        return np.array([value(text) for text in only(Text, outcomes)])

    return mean(values, signature=rules.signature)


def _normalized(text: str) -> str:
    lowered = text.lower().translate(_WITHOUT_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", lowered).split())


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
    "en": Rules(normalize=_normalized, f1=_f1, signature="script:squad-2.0|refs:best"),
    "zh": Rules(normalize=cmrc.without_punctuation, f1=cmrc.f1, signature="script:cmrc-2018-v5|tok:nltk|refs:best"),
}


def _rules(language: str) -> Rules:
    if language not in RULES:
        raise unknown("language of squad_em and squad_f1", language, RULES, hint="Use exact_match, rouge1 or chrf.")
    return RULES[language]
