"""Metrics of the probability that a model gave to texts: perplexities, bits per byte, greedy accuracy.

`token_perplexity`, `word_perplexity` and `byte_perplexity` are exp(-sum of log-probabilities / sum of units), so that a
long document weighs as much as its length; only words and bytes are comparable across tokenizers. `perplexity` is
lm-evaluation-harness': exp(-mean over documents of a document's log-probability), which grows with their length.
"""

from collections.abc import Callable, Sequence

import numpy as np

from lmtasks.errors import WorkError
from lmtasks.metric.base import Formula, Settings, mean, only
from lmtasks.records import Floats, Likelihood, Outcome

Unit = Callable[[Likelihood], int]

_IMPOSSIBLE = -1e300
"""Stands for minus infinity in a sum: a resample that leaves the text out would else read 0 * -inf, not a number."""

_HOPELESS = -1e299
"""A sum below this holds an impossible text, whatever was rounded."""


def token_perplexity(settings: Settings) -> Formula:
    """`token_perplexity`: per token of the model's own tokenizer."""
    return _rate(lambda text: text.tokens, _exponential, signature="unit:token|weight:length")


def word_perplexity(settings: Settings) -> Formula:
    """`word_perplexity`: per piece of a split on whitespace."""
    return _rate(lambda text: text.words, _exponential, signature="unit:word|weight:length")


def byte_perplexity(settings: Settings) -> Formula:
    """`byte_perplexity`: per UTF-8 byte."""
    return _rate(lambda text: text.bytes, _exponential, signature="unit:utf8-byte|weight:length")


def bits_per_byte(settings: Settings) -> Formula:
    """`bits_per_byte`: the base-2 logarithm of `byte_perplexity`."""
    signature = "unit:utf8-byte|weight:length|log:2"
    return _rate(lambda text: text.bytes, lambda nats: nats / np.log(2.0), signature=signature)


def document_perplexity(settings: Settings) -> Formula:
    """`perplexity`: per document, whatever its length."""
    return _rate(lambda text: 1, _exponential, signature="unit:document")


def greedy_accuracy(settings: Settings) -> Formula:
    """`acc` of a given text: is it what greedy decoding yields?"""
    return mean(
        lambda outcomes: np.array([float(text.greedy) for text in only(Likelihood, outcomes)]),
        signature="answer:greedy",
    )


def _rate(unit: Unit, transform: Callable[[Floats], Floats], *, signature: str) -> Formula:
    """`transform` of nats per unit. Columns: log-probability, units."""

    def statistics(outcomes: Sequence[Outcome]) -> Floats:
        texts = only(Likelihood, outcomes)
        table = np.array([[text.logprob, unit(text)] for text in texts], dtype=np.float64)
        wrong = np.isnan(table[:, 0])
        if wrong.any():
            raise WorkError(
                f"the log-probability of example {int(np.flatnonzero(wrong)[0])} is not a number. "
                "Did the model overflow in this precision?"
            )
        table[:, 0] = np.maximum(table[:, 0], _IMPOSSIBLE)
        return table

    def value(sums: Floats) -> Floats:
        # A text of no units has log-probability 0: nothing was asked, nothing was lost.
        nats = -sums[..., 0] / np.maximum(sums[..., 1], 1.0)
        return transform(np.where(sums[..., 0] < _HOPELESS, np.inf, nats))

    return Formula(
        kind="ratio-or-corpus", statistics=statistics, aggregate=value, per_example=value, signature=signature
    )


def _exponential(nats: Floats) -> Floats:
    with np.errstate(over="ignore"):
        result: Floats = np.exp(nats)
    return result
