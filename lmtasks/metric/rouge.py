"""`rouge1`, `rouge2`, `rougeL`, `rougeLsum`: F by rouge-score, 0-100, the mean over examples of the best reference.

English: rouge-score's own tokenizer with its Porter stemmer. Any other language: `words` (words with their marks,
scripts without blanks by characters) without a stemmer, as rouge-score's tokenizer would drop every letter outside a-z.

`rougeLsum` needs sentences. They are lines; a text of one line is cut after its full stops, question and exclamation
marks, those of its own script among them. (rouge-score alone would take such a text as a single sentence.)
"""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from importlib.metadata import version
from typing import Protocol

import regex

from lmtasks.metric.base import Formula, MetricSettings, mean_over_texts, references
from lmtasks.metric.words import reads_ascii_only, words
from lmtasks.records import Text

# English marks end a sentence before a space; Chinese ones do at once.
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？；])\s*")
# As do those that only ever end sentences: danda, Urdu's full stop, Burmese section, Ethiopic full stop, ...
_ANY_SENTENCE_END = regex.compile(rf"(?V1){_SENTENCE_END.pattern}|(?<=[\p{{STerm}}--[.!?]])\s*")
_STEMS_KEPT = 1 << 16
_ENGLISH_ONLY = reads_ascii_only("ROUGE of English", use="set the task's language (language: hi)")


class _Tokenizer(Protocol):
    """What rouge-score asks of a tokenizer."""

    def tokenize(self, text: str) -> list[str]: ...


def rouge(settings: MetricSettings, *, name: str) -> Formula:
    """One of rouge-score's types, by its name there."""
    from rouge_score.rouge_scorer import RougeScorer

    english = settings.language == "en"
    tokenizer: _Tokenizer = _English() if english else _AnyLanguage()
    scorer = RougeScorer([name], tokenizer=tokenizer)
    by_sentence = name == "rougeLsum"
    prepare: Callable[[str], str] = partial(sentences_on_lines, english=english) if by_sentence else str

    def value(text: Text) -> float:
        prediction = prepare(text.prediction)
        best = max(scorer.score(prepare(gold), prediction)[name].fmeasure for gold in references(text))
        return 100.0 * float(best)

    parts = [
        f"tok:{'rouge-score+porter' if english else 'words-or-han-or-clusters'}",
        *(["sentences:lines-or-marks"] if by_sentence else []),
        "refs:best",
        f"rouge-score:{version('rouge-score')}",
    ]
    formula = mean_over_texts(value, signature="|".join(parts))
    return replace(formula, remarks=_ENGLISH_ONLY) if english else formula


rouge1 = partial(rouge, name="rouge1")
rouge2 = partial(rouge, name="rouge2")
rouge_l = partial(rouge, name="rougeL")
rouge_l_sum = partial(rouge, name="rougeLsum")


def sentences_on_lines(text: str, *, english: bool = True) -> str:
    """A text with one sentence a line.

    >>> sentences_on_lines("It rains. It pours!")
    'It rains.\\nIt pours!'
    >>> sentences_on_lines("यह दिन है। वह रात है।", english=False).splitlines()
    ['यह दिन है।', 'वह रात है।']
    """
    if "\n" in text.strip():
        return text
    return "\n".join(_SENTENCE_END.split(text) if english else map(str, _ANY_SENTENCE_END.split(text)))


class _English:
    """rouge-score's default tokenizer; each word is stemmed once."""

    def __init__(self) -> None:
        from nltk.stem.porter import PorterStemmer

        self.stem: Callable[[str], str] = lru_cache(maxsize=_STEMS_KEPT)(PorterStemmer().stem)

    def tokenize(self, text: str) -> list[str]:
        from rouge_score.tokenize import tokenize

        tokens: list[str] = tokenize(text, self)
        return tokens


class _AnyLanguage:
    def tokenize(self, text: str) -> list[str]:
        return words(text)
