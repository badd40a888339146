"""Hot paths of metric/: statistics of many answers, and the resampling behind every interval."""

import itertools

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from lmtasks.metric import estimate, make_metric
from lmtasks.records import Choice, Text

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
