"""Perplexities by their formulas (harness-semantics 2.7), worked by hand."""

import math

import numpy as np
import pytest

from lmtasks.errors import WorkError
from lmtasks.metric import compare, estimate, make_metric, value_of
from lmtasks.records import Likelihood, OutcomeKind

# Together: log-probability -30 over 10 tokens, 6 words, 40 bytes, 2 documents.
TEXTS = [
    Likelihood(logprob=-10.0, tokens=4, words=2, bytes=15, greedy=True),
    Likelihood(logprob=-20.0, tokens=6, words=4, bytes=25),
]


def value(name: str, outcomes: list[Likelihood], takes: OutcomeKind = "likelihood") -> float:
    metric = make_metric(name, takes=takes)
    return value_of(metric, metric.statistics(outcomes))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("token_perplexity", math.exp(3.0)),
        ("word_perplexity", math.exp(5.0)),
        ("byte_perplexity", math.exp(0.75)),
        ("bits_per_byte", 0.75 / math.log(2)),
        ("perplexity", math.exp(15.0)),
        ("acc", 0.5),
    ],
)
def test_values(name: str, expected: float) -> None:
    assert value(name, TEXTS) == pytest.approx(expected, rel=1e-12)


def test_a_uniform_model_has_the_perplexity_of_its_vocabulary() -> None:
    uniform = [Likelihood(logprob=-n * math.log(50), tokens=n, words=1, bytes=n) for n in (1, 7, 30)]
    assert value("token_perplexity", uniform) == pytest.approx(50)


def test_the_value_of_an_example_is_its_own_perplexity() -> None:
    metric = make_metric("token_perplexity")
    assert metric.per_example(metric.statistics(TEXTS)).tolist() == pytest.approx([math.exp(2.5), math.exp(20 / 6)])


def test_an_empty_text_costs_nothing() -> None:
    empty = Likelihood(logprob=0.0, tokens=0, words=0, bytes=0)
    assert value("token_perplexity", [empty]) == 1.0
    assert value("bits_per_byte", [empty]) == 0.0
    assert value("token_perplexity", [*TEXTS, empty]) == pytest.approx(math.exp(3.0))


def test_an_impossible_text_has_infinite_perplexity_and_no_interval() -> None:
    impossible = Likelihood(logprob=-math.inf, tokens=3, words=3, bytes=3)
    for name in ("token_perplexity", "bits_per_byte", "perplexity"):
        metric = make_metric(name)
        rows = metric.statistics([*TEXTS, impossible])
        result = estimate(metric, rows, resamples=50)
        assert result.value == math.inf
        assert result.stderr is None
        assert result.ci95 is None
        assert not np.isnan(metric.per_example(rows)).any()
        paired = compare(metric, rows, metric.statistics([*TEXTS, TEXTS[0]]), resamples=50)
        assert paired.difference == -math.inf
        assert (paired.p_value, paired.ci95) == (1.0, None)  # one impossible text is no evidence: either may own it
        assert (paired.wins, paired.ties, paired.losses) == (1, 2, 0)


def test_a_log_probability_that_is_no_number_is_an_error() -> None:
    with pytest.raises(WorkError, match="example 1 is not a number"):
        value("perplexity", [TEXTS[0], Likelihood(logprob=math.nan, tokens=1, words=1, bytes=1)])
