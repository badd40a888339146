"""Metrics of sets of labels equal scikit-learn's of tables of zeros and ones."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, label_ranking_average_precision_score

from lmtasks.errors import UsageError, WorkError
from lmtasks.metric import make_metric, value_of
from lmtasks.metric.base import resampled
from lmtasks.records import LabelSet

from .examples import choices, label_sets, value

THEIRS = {
    "micro_f1": lambda true, scores: f1_score(true, scores > 0, average="micro", zero_division=0),
    "macro_f1": lambda true, scores: f1_score(true, scores > 0, average="macro", zero_division=0),
    "lrap": label_ranking_average_precision_score,
    "subset_acc": lambda true, scores: accuracy_score(true, scores > 0),
}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", THEIRS)
def test_equals_scikit_learn(name: str, seed: int) -> None:
    outcomes = label_sets(40, seed=seed)
    sets = [each for each in outcomes if isinstance(each, LabelSet)]
    true = np.array([[place in each.gold for place in range(4)] for each in sets])
    scores = np.array([each.scores for each in sets])
    metric = make_metric(name, takes="labels", labels=("a", "b", "c", "d"))
    rows = metric.statistics(outcomes)
    drawn = [np.arange(40), *np.random.default_rng(seed).integers(40, size=(6, 4))]  # in which some labels are unseen
    counts = np.stack([np.bincount(places, minlength=40) for places in drawn]).astype(float)
    wanted = [THEIRS[name](true[places], scores[places]) for places in drawn]
    assert [value_of(metric, rows[places]) for places in drawn] == pytest.approx(wanted, abs=1e-12)
    assert resampled(metric, rows, counts).tolist() == pytest.approx(wanted, abs=1e-12)


def test_no_label_is_an_answer() -> None:
    """To rows without any it is the right one."""
    outcomes = [LabelSet(gold=(), scores=(-1.0, -2.0))] * 2
    found = {name: value(make_metric(name, takes="labels"), outcomes) for name in THEIRS}
    assert found == {"micro_f1": 0.0, "macro_f1": 0.0, "lrap": 1.0, "subset_acc": 1.0}


def test_what_is_no_number_and_what_is_no_set_is_refused() -> None:
    with pytest.raises(WorkError, match="example 1 has the scores"):
        value(make_metric("lrap"), [LabelSet(gold=(0,), scores=(1.0,)), LabelSet(gold=(0,), scores=(float("nan"),))])
    with pytest.raises(WorkError, match="as many labels each"):
        value(make_metric("lrap"), [LabelSet(gold=(0,), scores=(1.0,)), LabelSet(gold=(0,), scores=(1.0, 2.0))])
    with pytest.raises(UsageError, match="scores LabelSet outcomes, was given Choice"):
        value(make_metric("subset_acc"), choices(2))
