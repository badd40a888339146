"""Does a log-probability belong to the text that it is counted against?

A token that stands for whatever the vocabulary lacks says nothing of the text: a model that gives it a probability has
not coded the text, and nats over the text's words or bytes are then no perplexity of it. Nor are they where cleaning
changed the text before it was scored. Perplexity per token means what it says, with the share of such tokens beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lmtasks.errors import UsageError
from lmtasks.evaluation.pending import Finished
from lmtasks.evaluation.scoring import Scoring
from lmtasks.records import Likelihood

OF_TEXT = frozenset({"perplexity", "weighted_perplexity", "bits_per_byte"})
"""Aggregations of a text's log-probability over the text itself, its words or its bytes."""
METRICS_OF_TEXT = frozenset({"perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte"})
"""Metrics of a given text that hand such a log-probability on, whatever aggregates it."""


@dataclass(frozen=True, kw_only=True)
class Coding:
    """What of the scored texts their tokens said."""

    tokens: int = 0
    unknown: int = 0
    """Of the tokens: those that stand for a text that they do not say."""
    texts: int = 0
    altered: int = 0
    """Of the texts: those that cleaning changed before they were scored."""

    def __add__(self, other: "Coding") -> "Coding":
        return Coding(
            tokens=self.tokens + other.tokens,
            unknown=self.unknown + other.unknown,
            texts=self.texts + other.texts,
            altered=self.altered + other.altered,
        )

    @property
    def unknown_share(self) -> float:
        """Of the scored tokens, 0-1."""
        return self.unknown / self.tokens if self.tokens else 0.0

    @property
    def why_not(self) -> str:
        """Why nothing is counted per word or byte of the texts, as the beginning of a sentence; empty: it is."""
        if self.unknown:
            count = f"{100 * self.unknown_share:.2g} % of the scored tokens ({self.unknown:,} of {self.tokens:,})"
            return f"{count} are unknown ones, which do not say the text that they stand for"
        if self.altered:
            return f"the tokenizer's cleaning changed {self.altered:,} of {self.texts:,} texts before they were scored"
        return ""


def coding_of(finished: Sequence[Finished]) -> Coding:
    """Of answers that are log-probabilities of given texts; nothing of others."""
    texts = [each.answered.outcome for each in finished if isinstance(each.answered.outcome, Likelihood)]
    return Coding(
        tokens=sum(text.tokens for text in texts),
        unknown=sum(text.unknown for text in texts),
        texts=len(texts),
        altered=sum(text.altered for text in texts),
    )


def counts_text(scoring: Scoring) -> bool:
    """Does a metric hold log-probabilities against the texts, and not against tokens?"""
    metric = scoring.metric
    if metric.takes == "likelihood" and metric.name in METRICS_OF_TEXT:
        return True
    return metric.takes in {"likelihood", "made"} and metric.original in OF_TEXT


def valued(scorings: Sequence[Scoring], coding: Coding) -> tuple[list[Scoring], dict[str, str]]:
    """The scorings that these texts have a value of; and the other ones' names, each with the reason as a sentence.

    Raises:
        UsageError: there is none of the first kind.
    """
    names = [scoring.name for scoring in scorings if counts_text(scoring)] if coding.why_not else []
    if not names:
        return list(scorings), {}
    sentence = (
        f"{coding.why_not}, so there is no {', no '.join(names)}. Use token_perplexity, or a tokenizer that says every "
        "text (bpe, characters or bytes, without cleaning)."
    )
    kept = [scoring for scoring in scorings if scoring.name not in names]
    if not kept:
        raise UsageError(sentence)
    return kept, dict.fromkeys(names, sentence)
