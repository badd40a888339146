"""F1, macro F1 and MCC equal scikit-learn's over the whole set and over resamples of it."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, matthews_corrcoef

from lmtasks.errors import UsageError
from lmtasks.metric import concatenate, estimate, make_metric, value_of
from lmtasks.metric.base import resampled
from lmtasks.records import Choice, Outcome

from .examples import choices, value


def labels_of(outcomes: list[Outcome]) -> tuple[list[int], list[int]]:
    found = [outcome for outcome in outcomes if isinstance(outcome, Choice)]
    return [choice.gold[0] for choice in found], [int(np.argmax(choice.scores)) for choice in found]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("name", "classes"),
    [("f1", 2), ("macro_f1", 2), ("macro_f1", 7), ("micro_f1", 7), ("weighted_f1", 7), ("mcc", 2), ("mcc", 7)],
)
def test_equals_scikit_learn(name: str, classes: int, seed: int) -> None:
    theirs = {
        "f1": lambda true, answered: f1_score(true, answered),
        "macro_f1": lambda true, answered: f1_score(true, answered, average="macro", zero_division=0),
        "micro_f1": lambda true, answered: f1_score(true, answered, average="micro"),
        "weighted_f1": lambda true, answered: f1_score(true, answered, average="weighted", zero_division=0),
        "mcc": lambda true, answered: matthews_corrcoef(true, answered),
    }[name]
    outcomes = choices(40, classes=classes, seed=seed)
    metric = make_metric(name)
    rows = metric.statistics(outcomes)
    # A resample of eight of seven classes leaves some unseen.
    drawn = [np.arange(40), *np.random.default_rng(seed).integers(40, size=(5, 8))]
    ours = [value_of(metric, rows[places]) for places in drawn]
    counts = np.stack([np.bincount(places, minlength=40) for places in drawn]).astype(float)
    assert resampled(metric, rows, counts).tolist() == pytest.approx(ours, abs=1e-12)
    for found, places in zip(ours, drawn, strict=True):
        true, answered = labels_of([outcomes[place] for place in places])
        assert found == pytest.approx(theirs(true, answered), abs=1e-12)


@pytest.mark.parametrize("name", ["f1", "macro_f1", "mcc"])
@pytest.mark.parametrize(("gold", "answer"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_one_class_alone_is_defined(name: str, gold: int, answer: int) -> None:
    outcome = Choice(gold=(gold,), scores=(-1.0 - answer, -2.0 + answer), chars=(1, 1), bytes=(1, 1))
    metric = make_metric(name)
    expected = {
        "f1": float(gold == answer == 1),
        "macro_f1": float(gold == answer),
        "mcc": 0.0,
    }[name]
    assert value(metric, [outcome] * 3) == expected


def test_a_gold_outside_the_choices_is_a_class_that_nobody_answers() -> None:
    # scikit-learn: f1_score([0, -100], [0, 0], average="macro") = mean(2/3, 0)
    outcomes: list[Outcome] = [
        Choice(gold=(gold,), scores=(-1.0, -2.0), chars=(1, 1), bytes=(1, 1)) for gold in (0, -100)
    ]
    metric = make_metric("macro_f1")
    found = value(metric, outcomes)
    assert found == pytest.approx(f1_score([0, -100], [0, 0], average="macro", zero_division=0))
    assert found == pytest.approx(1 / 3)


def test_examples_may_have_different_numbers_of_choices() -> None:
    """As scikit-learn has it, over chunks of two classes and of five."""
    outcomes = [*choices(20, classes=2), *choices(20, classes=5, seed=1)]
    metric = make_metric("macro_f1")
    rows = concatenate(metric, [metric.statistics(outcomes[:20]), metric.statistics(outcomes[20:])])
    theirs = f1_score(*labels_of(outcomes), average="macro", zero_division=0)
    assert value_of(metric, rows) == pytest.approx(theirs, abs=1e-12)


def test_more_choices_than_labels_are_refused() -> None:
    metric = make_metric("macro_f1", labels=("bad", "fair", "good"))
    with pytest.raises(UsageError, match="5 choices, but the task has 3 labels"):
        metric.statistics(choices(1, classes=5))


def test_binary_f1_refuses_a_third_class() -> None:
    with pytest.raises(UsageError, match="use macro_f1"):
        make_metric("f1", labels=("a", "b", "c"))
    with pytest.raises(UsageError, match="this task has 3"):
        make_metric("f1").statistics(choices(20, classes=3))


@pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
@pytest.mark.parametrize("classes", [2, 5])
def test_f1_with_an_average_equals_scikit_learn(average: str, classes: int) -> None:
    outcomes = choices(40, classes=classes, seed=3)
    true, answered = labels_of(outcomes)
    theirs = f1_score(true, answered, average=average, zero_division=0)
    metric = make_metric("f1", options={"average": average})
    assert value(metric, outcomes) == pytest.approx(theirs, abs=1e-12)
    found = estimate(metric, metric.statistics(outcomes), resamples=50)
    assert found.stderr is not None
    # As lm-evaluation-harness leaves the average alone, so does `multiclass` while F1 of label 1 is defined.
    binary = make_metric("f1", options={"multiclass": average})
    expected = f1_score(true, answered) if classes == 2 else theirs
    assert value(binary, outcomes) == pytest.approx(expected, abs=1e-12)


def test_an_average_that_there_is_not() -> None:
    with pytest.raises(UsageError, match="f1: average must be macro, micro, weighted, was: 'samples'"):
        make_metric("f1", options={"average": "samples"})


def test_f1_asks_which_classes_are_seen_not_how_many_choices_there_are() -> None:
    """scikit-learn's rule: f1_score([0, 1], [0, 1]) is defined, whatever else might have been answered."""
    said = [(0, 0), (1, 1), (0, 1)]
    outcomes: list[Outcome] = [
        Choice(
            gold=(gold,), scores=tuple(-float(place != answer) for place in range(3)), chars=(1,) * 3, bytes=(1,) * 3
        )
        for gold, answer in said
    ]
    assert value(make_metric("f1"), outcomes) == pytest.approx(f1_score(*zip(*said, strict=True)))


def test_the_value_of_an_example_is_whether_it_is_right() -> None:
    outcomes = choices(20, classes=4)
    true, answered = labels_of(outcomes)
    metric = make_metric("macro_f1")
    expected = [float(a == b) for a, b in zip(true, answered, strict=True)]
    assert metric.per_example(metric.statistics(outcomes)).tolist() == expected
