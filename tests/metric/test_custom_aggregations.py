"""Values that a task makes itself: every aggregation of the original, functions of the task's own, examples without."""

import math
from statistics import fmean

import numpy as np
import pytest
from sklearn.metrics import f1_score, matthews_corrcoef

from lmtasks import lm_eval_names
from lmtasks.errors import UsageError, WorkError
from lmtasks.metric import AGGREGATIONS, Metric, compare, concatenate, estimate, make_metric, value_of
from lmtasks.metric.base import resampled
from lmtasks.metric.custom_aggregations import MISSING
from lmtasks.records import CustomValues, Outcome

ITEMS: dict[str, list[object]] = {
    "mean": [0.5, 1, True, np.float32(0.25), 0.0, 2],
    "nanmean": [0.5, math.nan, 1.0, 3.0, math.nan, 1.5],
    "median": [3, 1.0, 2, 5, 4, -1],
    "perplexity": [-1.0, -2.0, -0.5, -3.0, -1.5, -2.5],
    "weighted_perplexity": [(-10.0, 4), (-3.0, 2), (-1.0, 1), (-8.0, 6), (-2.0, 3), (-4.0, 2)],
    "bits_per_byte": [(-10.0, 4), (-3.0, 2), (-1.0, 1), (-8.0, 6), (-2.0, 3), (-4.0, 2)],
    "f1": [(1, 1), (0, 1), (1, 0), (1, 1), (0, 0), (True, np.int64(1))],
    "matthews_corrcoef": [("a", "a"), ("b", "a"), ("c", "c"), ("a", "b"), ("b", "b"), ("a", "a")],
    "brier_score": [
        (0, [0.5, 0.5]),
        (1, (0.1, 0.9)),
        (0, np.array([1.0, 0.0])),
        (1, [1, 0]),
        (0, [0.7, 0.3]),
        (1, [0.4, 0.6]),
    ],
    "bleu": [("the cat sat here", "the cat sat there"), (["a b c d", "a b d c"], ["a b c d"])] * 3,
    "chrf": [("the cat sat here", "the cat sat there"), (["a b c d", "a b d c"], ["a b c d"])] * 3,
    "chrf++": [("the cat sat here", "the cat sat there"), (["a b c d", "a b d c"], ["a b c d"])] * 3,
    "ter": [("the cat sat here", "the cat sat there"), (["a b c d", "a b d c"], ["a b c d"])] * 3,
    "bypass": [None, 1, "x", (), [], {}],
}


def of(items: list[object]) -> list[Outcome]:
    return [CustomValues(values={} if item is MISSING else {"mine": item, "other": 1}) for item in items]


@pytest.fixture(params=sorted(AGGREGATIONS))
def metric(request: pytest.FixtureRequest) -> Metric:
    return make_metric("mine", takes="made", aggregation=request.param)


def items_of(metric: Metric) -> list[object]:
    return ITEMS[metric.original]


def test_every_aggregation_is_tried() -> None:
    assert set(ITEMS) == set(AGGREGATIONS) == set(lm_eval_names.AGGREGATIONS)


def test_statistics_do_not_depend_on_the_chunk(metric: Metric) -> None:
    outcomes = of([*items_of(metric), MISSING, MISSING, *items_of(metric)])
    rows = metric.statistics(outcomes)
    for size in (1, 2, 5):
        parts = [metric.statistics(outcomes[start : start + size]) for start in range(0, 14, size)]
        np.testing.assert_array_equal(concatenate(metric, parts), rows)


def test_an_example_without_a_value_does_not_count(metric: Metric) -> None:
    items = items_of(metric)
    with_gaps = metric.statistics(of([MISSING, *items[:3], MISSING, *items[3:]]))
    without = metric.statistics(of(items))
    assert estimate(metric, with_gaps, resamples=50) == estimate(metric, without, resamples=50)
    found = metric.per_example(with_gaps)
    if metric.original != "bypass":
        assert math.isnan(found[0])
        np.testing.assert_array_equal(np.delete(found, [0, 4]), metric.per_example(without))
        shifted = np.roll(with_gaps, 1, axis=0)  # other examples lack a value there
        assert compare(metric, with_gaps, shifted, resamples=20).n == 4


def test_weights_are_repeated_examples(metric: Metric) -> None:
    rows = metric.statistics(of(items_of(metric)))
    counts = np.array([[1, 2, 3, 1, 1, 1], [3, 1, 0, 2, 1, 1]])
    expected = [value_of(metric, np.repeat(rows, times, axis=0)) for times in counts]
    assert resampled(metric, rows, counts.astype(float)).tolist() == pytest.approx(expected)


def test_a_value_of_the_wrong_form_is_named(metric: Metric) -> None:
    if metric.original == "bypass":
        return  # looks at nothing
    with pytest.raises(WorkError, match=r"mine: the task made the value .*its aggregation takes"):
        metric.statistics(of([object()]))


def test_labels_may_be_words() -> None:
    """scikit-learn 1.9.1 over the same labels."""
    true, answered = zip(
        *[tuple(map(str, pair)) for pair in ITEMS["matthews_corrcoef"] if isinstance(pair, tuple)], strict=True
    )
    metric = make_metric("mine", takes="made", aggregation="matthews_corrcoef")
    rows = metric.statistics(of(ITEMS["matthews_corrcoef"]))
    assert value_of(metric, rows) == pytest.approx(matthews_corrcoef(true, answered))


def test_f1_is_about_label_one_of_two() -> None:
    metric = make_metric("f1", takes="made")
    for pairs in ([(1, 1), (-1, 1), (1, -1), (-1, -1)], [(0, 0), (0, 0)], [(2, 2)]):
        rows = metric.statistics([CustomValues(values={"f1": pair}) for pair in pairs])
        assert value_of(metric, rows) == pytest.approx(f1_score(*zip(*pairs, strict=True), zero_division=0))
    for wrong in ([(0, 1), (2, 2)], [("a", "b")], [(0, 2)]):
        with pytest.raises(UsageError, match="f1 is about"):
            value_of(metric, metric.statistics([CustomValues(values={"f1": pair}) for pair in wrong]))


def test_what_a_name_implies() -> None:
    assert make_metric("mcc", takes="made").original == "matthews_corrcoef"
    assert make_metric("word_perplexity", takes="made").original == "weighted_perplexity"
    assert make_metric("anything", takes="made").original == "mean"
    known = make_metric("acc", takes="made")
    assert (known.scale, known.higher_is_better) == ("fraction", True)
    assert not make_metric("mine", takes="made", aggregation="ter").higher_is_better
    assert make_metric("mine", takes="made", aggregation="ter", higher_is_better=True).higher_is_better
    assert "aggregation:median" in make_metric("acc", takes="made", aggregation="median").signature
    with pytest.raises(UsageError, match="unknown aggregation of mine 'men'; did you mean 'mean'"):
        make_metric("mine", takes="made", aggregation="men")


def test_a_mean_below_zero_keeps_its_interval() -> None:
    metric = make_metric("mine", takes="made")
    result = estimate(metric, metric.statistics(of([-1.0, -2.0, 0.5])))
    assert result.ci95 is not None
    assert result.ci95[0] < result.value < 0 < result.ci95[1] + 1


def worst(items: list[object]) -> float:
    """The mean of the numbers that the lists hold."""
    return fmean(float(str(number)) for item in items if isinstance(item, list) for number in item)


def test_a_tasks_own_aggregation_takes_the_values_as_they_are() -> None:
    items: list[object] = [[1, 0], [1], [0, 0, 1], [1, 1]]
    metric = make_metric("mine", takes="made", aggregation=worst)
    rows = concatenate(metric, [metric.statistics(of(items[:3])), metric.statistics(of([MISSING, *items[3:]]))])
    result = estimate(metric, rows, resamples=200)
    assert result.value == worst(items)
    assert result.stderr is not None
    assert 0.05 < result.stderr < 0.5
    assert compare(metric, rows, rows, resamples=20).p_value == 1.0
    clustered = estimate(metric, rows, resamples=200, clusters=["a", "a", "b", "b", "c"])
    assert clustered.value == result.value
    assert clustered.stderr is not None


def test_a_tasks_own_aggregation_that_fails_is_named() -> None:
    metric = make_metric("mine", takes="made", aggregation=lambda items: 1 / 0)
    with pytest.raises(WorkError, match="mine: the task's own aggregation failed on 2 values: ZeroDivisionError"):
        estimate(metric, metric.statistics(of([1, 2])))
    words = make_metric("mine", takes="made", aggregation=lambda items: "many")
    with pytest.raises(WorkError, match="no number"):
        estimate(words, words.statistics(of([1, 2])))


def test_values_that_no_example_has() -> None:
    metric = make_metric("mine", takes="made")
    with pytest.raises(WorkError, match="mine: there are no examples"):
        estimate(metric, metric.statistics(of([MISSING, MISSING])))
