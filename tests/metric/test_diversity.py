"""distinct_1, distinct_2 and repetition, worked by hand."""

import pytest

from lmtasks.metric import make_metric
from lmtasks.records import Text


def score(name: str, prediction: str) -> float:
    metric = make_metric(name)
    return float(metric.statistics([Text(references=("x",), prediction=prediction)])[0, 0])


@pytest.mark.parametrize(
    ("prediction", "distinct_1", "distinct_2", "repetition"),
    [
        ("the cat the cat", 2 / 4, 2 / 3, 0),
        ("The the THE the the", 1 / 5, 1 / 4, 1 / 2),
        ("好好好好好", 1 / 5, 1 / 4, 1 / 2),  # characters stand alone
        ("a b c d e", 1, 1, 0),
        ("!!!!!", 1 / 5, 1 / 4, 1 / 2),  # marks count: they are what a model repeats that has lost its way
        ("word", 1, 0, 0),
        ("", 0, 0, 0),
    ],
)
def test_values(prediction: str, distinct_1: float, distinct_2: float, repetition: float) -> None:
    assert score("distinct_1", prediction) == pytest.approx(distinct_1)
    assert score("distinct_2", prediction) == pytest.approx(distinct_2)
    assert score("repetition", prediction) == pytest.approx(repetition)


def test_an_answer_weighs_the_same_whatever_its_length() -> None:
    metric = make_metric("distinct_1")
    rows = metric.statistics(
        [Text(references=(), prediction="a a a a a a a a a a"), Text(references=(), prediction="a")]
    )
    assert float(metric.aggregate(rows.sum(axis=0))) == pytest.approx((0.1 + 1) / 2)
