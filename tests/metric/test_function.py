"""A metric that is a task's own function of one example, and means that are aggregated otherwise."""

import pytest

from lmtasks.errors import UsageError, WorkError
from lmtasks.metric import estimate, make_metric, value_of
from lmtasks.records import Outcome, Text

from .examples import choices, texts


def overlap(*, references: list[str], predictions: list[str], scale: float = 1.0) -> float:
    shared = set(references[0].split()) & set(predictions[0].split())
    return scale * len(shared) / max(1, len(set(references[0].split())))


def test_it_is_called_by_name_with_the_options() -> None:
    metric = make_metric("overlap", function=overlap, options={"scale": 2.0})
    outcomes: list[Outcome] = [Text(references=("a b",), prediction="a"), Text(references=("c",), prediction="c")]
    rows = metric.statistics(outcomes)
    assert metric.takes == "text"
    assert metric.per_example(rows).tolist() == [1.0, 2.0]
    assert value_of(metric, rows) == 1.5
    assert estimate(metric, rows).stderr == pytest.approx(0.5)


def test_a_function_of_a_list() -> None:
    metric = make_metric("same", function=lambda items: float(items[0] == items[1]))
    outcomes: list[Outcome] = [Text(references=("a",), prediction="a"), Text(references=("b",), prediction="a")]
    assert metric.per_example(metric.statistics(outcomes)).tolist() == [1.0, 0.0]


def test_a_dictionary_holds_the_value_under_the_metrics_name() -> None:
    outcomes: list[Outcome] = [Text(references=("a",), prediction="a")]
    for function in (lambda items: {"mine": 0.25, "else": 1}, lambda items: {"sole": 0.25}):
        metric = make_metric("mine", function=function)
        assert metric.per_example(metric.statistics(outcomes)).tolist() == [0.25]
    with pytest.raises(WorkError, match="returned one, two; name the metric as one of them"):
        make_metric("mine", function=lambda items: {"one": 1, "two": 2}).statistics(outcomes)


def test_several_references_follow_the_originals_rule() -> None:
    """`process_results` of 0.4.13: 1.0 if any reference gave something other than zero, else 0.0."""
    metric = make_metric("overlap", function=overlap)
    outcomes: list[Outcome] = [
        Text(references=("a b", "x y"), prediction="a"),
        Text(references=("c", "d"), prediction="e"),
    ]
    assert metric.per_example(metric.statistics(outcomes)).tolist() == [1.0, 0.0]


def test_a_failure_names_the_example() -> None:
    outcomes: list[Outcome] = [Text(references=("1",), prediction="2"), Text(references=("1",), prediction="x")]
    metric = make_metric("far", function=lambda items: abs(int(items[0]) - int(items[1])))
    with pytest.raises(WorkError, match="far: the task's own function failed on example 1: ValueError"):
        metric.statistics(outcomes)


def test_an_aggregation_of_its_own() -> None:
    metric = make_metric("overlap", function=overlap, aggregation=lambda items: max(map(float, items)))
    outcomes: list[Outcome] = [Text(references=("a b",), prediction="a"), Text(references=("c d e",), prediction="c")]
    assert value_of(metric, metric.statistics(outcomes)) == 0.5


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
