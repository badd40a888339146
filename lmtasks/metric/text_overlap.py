"""Overlap with references, by sacrebleu and rouge-score.

`bleu`, `bleu_zh`, `chrf`, `chrf++`, `ter`: sacrebleu's corpus scores, 0-100 (TER may exceed 100).

The statistics of a segment and the score of their sum are both sacrebleu's own, so a value equals `sacrebleu.corpus_*`.
All references are given to it, and they may be of different number. A score of sums takes 10-20 microseconds, so that a
thousand resamples cost less than reading the texts once; formulas of our own in NumPy would save nothing.

The value of one example is sacrebleu's sentence score (BLEU with effective order, as its authors recommend).

`rouge1`, `rouge2`, `rougeL`, `rougeLsum`: F by rouge-score, 0-100, the mean over examples of the best reference.

English: rouge-score's own tokenizer with its Porter stemmer. Any other language: `words` (words with their marks,
scripts without blanks by characters) without a stemmer, as rouge-score's tokenizer would drop every letter outside a-z.

`rougeLsum` needs sentences. They are lines; a text of one line is cut after its full stops, question and exclamation
marks, those of its own script among them. (rouge-score alone would take such a text as a single sentence.)
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
import regex

from lmtasks.metric.base import Formula, MetricSettings, mean_over_texts, only, references
from lmtasks.metric.words import needs_blanks, reads_ascii_only, words
from lmtasks.records import Floats, Outcome, Text

if TYPE_CHECKING:
    from sacrebleu.metrics.base import Metric as Scorer


# English marks end a sentence before a space; Chinese ones do at once.
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？；])\s*")
# As do those that only ever end sentences: danda, Urdu's full stop, Burmese section, Ethiopic full stop, ...
_ANY_SENTENCE_END = regex.compile(rf"(?V1){_SENTENCE_END.pattern}|(?<=[\p{{STerm}}--[.!?]])\s*")
_STEMS_KEPT = 1 << 16
_ENGLISH_ONLY = reads_ascii_only("ROUGE of English", use="set the task's language (language: hi)")


def bleu(settings: MetricSettings) -> Formula:
    """`bleu`: corpus BLEU, tokenizer 13a, whatever the language (lm-evaluation-harness' meaning)."""
    return replace(_bleu("13a", original="bleu"), remarks=needs_blanks("bleu (13a)", use="chrf", of_chinese="bleu_zh"))


def bleu_zh(settings: MetricSettings) -> Formula:
    """`bleu_zh`: corpus BLEU over Chinese characters."""
    return replace(_bleu("zh"), remarks=needs_blanks("bleu_zh", use="chrf"))


def chrf(settings: MetricSettings) -> Formula:
    """`chrf`: character 6-grams, beta 2."""
    from sacrebleu.metrics.chrf import CHRF

    return _formula(CHRF(), original="chrf")


def chrf_plus_plus(settings: MetricSettings) -> Formula:
    """`chrf++`: chrF with word 2-grams."""
    from sacrebleu.metrics.chrf import CHRF

    formula = _formula(CHRF(word_order=2), original="chrf++")
    return replace(formula, remarks=needs_blanks("chrf++", use="chrf", of_chinese="chrf"))


def ter(settings: MetricSettings) -> Formula:
    """`ter`: translation edit rate; lower is better."""
    from sacrebleu.metrics.ter import TER

    return replace(_formula(TER(), original="ter"), remarks=needs_blanks("ter", use="chrf", of_chinese="bleu_zh"))


def _bleu(tokenizer: str, *, original: str = "") -> Formula:
    from sacrebleu.metrics.bleu import BLEU

    sentence = BLEU(tokenize=tokenizer, effective_order=True)
    return _formula(BLEU(tokenize=tokenizer), sentence=sentence, original=original)


def _formula(corpus: "Scorer", *, sentence: "Scorer | None" = None, original: str = "") -> Formula:
    def statistics(outcomes: Sequence[Outcome]) -> Floats:
        texts = only(Text, outcomes)
        found = corpus._extract_corpus_statistics([text.prediction for text in texts], _streams(texts))
        return np.array(found, dtype=np.float64)

    return Formula(
        kind="sums",
        statistics=statistics,
        aggregate=_scores(corpus),
        per_example=_scores(sentence or corpus),
        signature=_signature(corpus),
        original=original,
    )


def _streams(texts: Sequence[Text]) -> list[list[str]]:
    """sacrebleu's form of references: one list for the first of each example, one for the second, ... None: no more."""
    golds = [references(text) for text in texts]
    most = max(len(gold) for gold in golds)
    streams = [[gold[place] if place < len(gold) else None for gold in golds] for place in range(most)]
    return cast("list[list[str]]", streams)  # sacrebleu documents None, its annotations do not


def _scores(scorer: "Scorer") -> Callable[[Floats], Floats]:
    """(..., K) sums -> (...) scores."""

    def scores(sums: Floats) -> Floats:
        rows = sums.reshape(-1, sums.shape[-1]).tolist()
        values = [float(scorer._compute_score_from_stats(row).score) for row in rows]
        return np.array(values).reshape(sums.shape[:-1])

    return scores


def _signature(scorer: "Scorer") -> str:
    # sacrebleu knows its signature only after a score, as it holds the number of references. We give all there are.
    scorer.corpus_score(["a"], [["a"]])
    return str(scorer.get_signature()).replace("nrefs:1|", "nrefs:all|")


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
