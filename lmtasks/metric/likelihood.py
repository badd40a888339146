"""Metrics of the probability that a model gave to texts: perplexities, bits per byte, greedy accuracy.

`token_perplexity`, `word_perplexity` and `byte_perplexity` are exp(-sum of log-probabilities / sum of units), so that a
long document weighs as much as its length; only words and bytes are comparable across tokenizers. `perplexity` is
lm-evaluation-harness': exp(-mean over documents of a document's log-probability), which grows with their length.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import isnan

import numpy as np

from lmtasks.errors import WorkError
from lmtasks.metric.base import Formula, MetricSettings, Rate, mean, only
from lmtasks.records import Floats, Likelihood, Outcome

Unit = Callable[[Likelihood], int]

_IMPOSSIBLE = -1e300
"""Stands for minus infinity in a sum: a resample that leaves the text out would else read 0 * -inf, not a number."""

MOST_BYTES = 50
"""Of words between blanks: German and Tamil have some 15 on average, Hindi 12."""

UNSPACED = (
    f"word_perplexity counts what stands between blanks, here more than {MOST_BYTES} bytes on average; for scripts "
    "without blanks between words use byte_perplexity or bits_per_byte"
)

_HOPELESS = -1e299
"""A sum below this holds an impossible text, whatever was rounded."""


def token_perplexity(settings: MetricSettings) -> Formula:
    """`token_perplexity`: per token of the model's own tokenizer."""
    return _formula(lambda text: text.tokens, PERPLEXITY, signature="unit:token|weight:length")


def word_perplexity(settings: MetricSettings) -> Formula:
    """`word_perplexity`: per piece of a split on whitespace."""
    signature = "unit:word|weight:length"
    formula = _formula(lambda text: text.words, PERPLEXITY, signature=signature, original="weighted_perplexity")
    return replace(formula, remarks=_without_blanks)


def byte_perplexity(settings: MetricSettings) -> Formula:
    """`byte_perplexity`: per UTF-8 byte."""
    signature = "unit:utf8-byte|weight:length"
    return _formula(lambda text: text.bytes, PERPLEXITY, signature=signature, original="weighted_perplexity")


def bits_per_byte(settings: MetricSettings) -> Formula:
    """`bits_per_byte`: the base-2 logarithm of `byte_perplexity`."""
    signature = "unit:utf8-byte|weight:length|log:2"
    return _formula(lambda text: text.bytes, BITS, signature=signature, original="bits_per_byte")


def document_perplexity(settings: MetricSettings) -> Formula:
    """`perplexity`: per document, whatever its length."""
    return _formula(lambda text: 1, PERPLEXITY, signature="unit:document", original="perplexity")


def greedy_accuracy(settings: MetricSettings) -> Formula:
    """`acc` of a given text: is it what greedy decoding yields?"""
    return mean(
        lambda outcomes: np.array([float(text.greedy) for text in only(Likelihood, outcomes)]),
        signature="answer:greedy",
    )


def likelihood_formula(
    statistics: Callable[[Sequence[Outcome]], Floats], rate: Rate, *, signature: str, original: str = ""
) -> Formula:
    """`rate` of log-probability per unit, of rows that `likelihood_row` made."""

    def value(sums: Floats) -> Floats:
        # A text of no units has log-probability 0: nothing was asked, nothing was lost.
        values = rate.value(sums[..., 0] / np.maximum(sums[..., 1], 1.0))
        return np.where(sums[..., 0] < _HOPELESS, np.inf, values)

    return Formula(
        kind="ratio",
        statistics=statistics,
        aggregate=value,
        per_example=value,
        signature=signature,
        rate=rate,
        original=original,
    )


def likelihood_row(logprob: float, units: float) -> tuple[float, float]:
    """The statistics of one text."""
    return max(logprob, _IMPOSSIBLE), units


def _formula(unit: Unit, rate: Rate, *, signature: str, original: str = "") -> Formula:
    def statistics(outcomes: Sequence[Outcome]) -> Floats:
        texts = only(Likelihood, outcomes)
        wrong = next((number for number, text in enumerate(texts) if isnan(text.logprob)), None)
        if wrong is not None:
            raise WorkError(
                f"the log-probability of example {wrong} is not a number. Did the model overflow in this precision?"
            )
        return np.array([likelihood_row(text.logprob, unit(text)) for text in texts], dtype=np.float64)

    return likelihood_formula(statistics, rate, signature=signature, original=original)


def _without_blanks(outcomes: Sequence[Outcome]) -> Mapping[str, int]:
    unspaced = sum(text.bytes > MOST_BYTES * text.words for text in only(Likelihood, outcomes))
    return {UNSPACED: unspaced} if unspaced else {}


def _perplexity(ratio: Floats) -> Floats:
    with np.errstate(over="ignore"):
        result: Floats = np.exp(-ratio)
    return result


PERPLEXITY = Rate(value=_perplexity, slope=lambda ratio: -_perplexity(ratio))
BITS = Rate(value=lambda ratio: -ratio / np.log(2.0), slope=lambda ratio: np.full_like(ratio, -1.0 / np.log(2.0)))
