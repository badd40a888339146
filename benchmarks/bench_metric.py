"""Hot paths of metric/: statistics of many answers, and the resampling behind every interval."""

import itertools

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from lmtasks.metric import compare, estimate, make_metric
from lmtasks.records import Choice, Floats, Text

WORDS = ("the", "old", "river", "runs", "past", "a", "mill", "and", "the", "sea", "takes", "all", "of", "it", "back")


def _texts(count: int) -> list[Text]:
    draw = np.random.default_rng(0)
    sentences = [" ".join(draw.choice(WORDS, size=12)) for _ in range(count + 1)]
    return [Text(references=(one,), prediction=two) for one, two in itertools.pairwise(sentences)]


def _choices(count: int) -> list[Choice]:
    draw = np.random.default_rng(0)
    return [
        Choice(gold=(int(draw.integers(4)),), scores=tuple(draw.normal(size=4)), chars=(4,) * 4, bytes=(4,) * 4)
        for _ in range(count)
    ]


@pytest.mark.parametrize("name", ["bleu", "chrf", "rougeL"])
def test_statistics_of_1000_texts(benchmark: BenchmarkFixture, name: str) -> None:
    metric, texts = make_metric(name), _texts(1000)
    assert len(benchmark(metric.statistics, texts)) == 1000


@pytest.mark.parametrize("name", ["bleu", "chrf"])
def test_interval_of_1000_texts(benchmark: BenchmarkFixture, name: str) -> None:
    metric = make_metric(name)
    statistics = metric.statistics(_texts(1000))
    assert benchmark(estimate, metric, statistics).ci95 is not None


def test_interval_of_macro_f1_over_5000_choices(benchmark: BenchmarkFixture) -> None:
    metric = make_metric("macro_f1", labels=("a", "b", "c", "d"))
    statistics = metric.statistics(_choices(5000))
    assert benchmark(estimate, metric, statistics).ci95 is not None


def _documents(count: int) -> Floats:
    """Statistics of document perplexities: as many as LAMBADA has where `count` is 5,153."""
    logprobs = np.random.default_rng(0).uniform(-30, -0.1, size=count)
    return np.stack([logprobs, np.ones(count)], axis=1)


@pytest.mark.parametrize("name", ["perplexity", "mcc"])
def test_100000_draws_of_the_original_over_5153_items(benchmark: BenchmarkFixture, name: str) -> None:
    """lm-evaluation-harness 0.4.13 takes 35 s of one core for its `perplexity`."""
    metric = make_metric(name)
    statistics = _documents(5153) if name == "perplexity" else metric.statistics(_choices(5153))
    found = benchmark.pedantic(
        lambda: estimate(metric, statistics, draws="lm-eval", resamples=100_000), rounds=3, iterations=1
    )
    assert found.stderr is not None


@pytest.mark.parametrize("name", ["mcc", "macro_f1", "ece"])
def test_100000_draws_of_ours_over_5153_choices(benchmark: BenchmarkFixture, name: str) -> None:
    metric = make_metric(name)
    statistics = metric.statistics(_choices(5153))
    resamples = 100_000 if name != "ece" else 1000  # its rows are all distinct
    found = benchmark.pedantic(lambda: estimate(metric, statistics, resamples=resamples), rounds=3, iterations=1)
    assert found.stderr is not None


@pytest.mark.parametrize("name", ["acc", "acc_norm", "macro_f1", "brier_score", "ece"])
def test_100000_choices(benchmark: BenchmarkFixture, name: str) -> None:
    metric, choices = make_metric(name), _choices(100_000)
    assert len(benchmark.pedantic(metric.statistics, args=(choices,), rounds=3, iterations=1)) == 100_000


@pytest.mark.parametrize("name", ["acc", "brier_score", "mcc"])
def test_a_comparison_of_100000_choices(benchmark: BenchmarkFixture, name: str) -> None:
    metric, choices = make_metric(name), _choices(100_000)
    one, two = metric.statistics(choices), metric.statistics(choices[::-1])
    assert benchmark.pedantic(compare, args=(metric, one, two), rounds=1, iterations=1).n == 100_000
