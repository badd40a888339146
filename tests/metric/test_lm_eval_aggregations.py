"""Metrics that are aggregated otherwise than by themselves.

What is handed over is held against the harness itself in tests/evaluation/test_lm_eval_metric_list.py.
"""

import pytest

from lmtasks.errors import UsageError
from lmtasks.metric import make_metric, value_of
from lmtasks.records import Outcome, Text

from .examples import choices, texts


def test_a_mean_may_be_aggregated_otherwise() -> None:
    outcomes = choices(21)
    plain = make_metric("acc")
    values = sorted(plain.per_example(plain.statistics(outcomes)).tolist())
    metric = make_metric("acc", aggregation="median")
    assert value_of(metric, metric.statistics(outcomes)) == values[10]
    assert make_metric("acc", aggregation="mean").signature == plain.signature
    assert metric.signature.startswith(plain.signature)
    own = make_metric("acc", aggregation=lambda items: min(map(float, items)))
    assert value_of(own, own.statistics(outcomes)) == 0.0


def test_a_corpus_score_is_aggregated_by_itself_alone() -> None:
    assert make_metric("bleu", aggregation="bleu").statistics(texts(2)).shape[0] == 2
    with pytest.raises(
        UsageError,
        match=r"bleu cannot be aggregated by mean; a function of the task's own can, or one of: bleu, bypass",
    ):
        make_metric("bleu", aggregation="mean")


def test_pairs_of_texts_need_one_right_answer() -> None:
    outcomes: list[Outcome] = [Text(references=("a", "b"), prediction="a")]
    metric = make_metric("f1", takes="text", aggregation=len)
    with pytest.raises(UsageError, match=r"the right answers \['a', 'b'\]: of several, lm-evaluation-harness"):
        metric.statistics(outcomes)


def test_an_example_is_right_or_not_whatever_aggregates_its_choices() -> None:
    outcomes = choices(20, classes=3)
    own = make_metric("f1", aggregation=lambda items: float(len(items)))
    plain = make_metric("acc")
    assert own.per_example(own.statistics(outcomes)).tolist() == plain.per_example(plain.statistics(outcomes)).tolist()
