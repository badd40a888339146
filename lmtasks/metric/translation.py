"""`bleu`, `bleu_zh`, `chrf`, `chrf++`, `ter`: sacrebleu's corpus scores, 0-100 (TER may exceed 100).

The statistics of a segment and the score of their sum are both sacrebleu's own, so a value equals `sacrebleu.corpus_*`.
All references are given to it, and they may be of different number. A score of sums takes 10-20 microseconds, so that a
thousand resamples cost less than reading the texts once; formulas of our own in NumPy would save nothing.

The value of one example is sacrebleu's sentence score (BLEU with effective order, as its authors recommend).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import numpy as np

from lmtasks.metric.base import Formula, MetricSettings, only, references
from lmtasks.metric.words import needs_blanks
from lmtasks.records import Floats, Outcome, Text

if TYPE_CHECKING:
    from sacrebleu.metrics.base import Metric as Scorer


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
