"""Expected calibration error against the paper's definition, written out, and by hand."""

import numpy as np
import pytest

from lmtasks.errors import UsageError
from lmtasks.metric import estimate, make_metric
from lmtasks.records import Choice, Outcome

from .examples import choices, value


def sure(confidence: float, right: bool) -> Choice:
    """Two choices, the first with that probability."""
    return Choice(
        gold=(0 if right else 1,),
        scores=(float(np.log(confidence)), float(np.log(1 - confidence))),
        chars=(1, 1),
        bytes=(1, 1),
    )


def by_definition(outcomes: list[Outcome], bins: int) -> float:
    """Guo et al. 2017, eq. 3: bins (k - 1) / M < confidence <= k / M."""
    total = 0.0
    rows = []
    for outcome in outcomes:
        assert isinstance(outcome, Choice)
        weights = np.exp(np.array(outcome.scores) - max(outcome.scores))
        shares = weights / weights.sum()
        rows.append((shares.max(), float(int(shares.argmax()) in outcome.gold)))
    for k in range(1, bins + 1):
        inside = [(c, a) for c, a in rows if (k - 1) / bins < c <= k / bins]
        if inside:
            confidence, accuracy = np.mean(inside, axis=0)
            total += len(inside) / len(rows) * abs(accuracy - confidence)
    return total


def test_by_hand() -> None:
    # Ten answers of confidence 0.9, seven right: |0.7 - 0.9|. And four of confidence 0.6, all right: |1 - 0.6|.
    ten: list[Outcome] = [sure(0.9, number < 7) for number in range(10)]
    four: list[Outcome] = [sure(0.6, True)] * 4
    metric = make_metric("ece")
    assert value(metric, ten) == pytest.approx(0.2)
    assert value(metric, [*ten, *four]) == pytest.approx((10 * 0.2 + 4 * 0.4) / 14)


@pytest.mark.parametrize("bins", [1, 4, 15])
@pytest.mark.parametrize("classes", [2, 5])
def test_by_definition(bins: int, classes: int) -> None:
    outcomes = choices(300, classes=classes)
    metric = make_metric("ece", options={"bins": bins})
    assert value(metric, outcomes) == pytest.approx(by_definition(outcomes, bins), abs=1e-12)
    assert f"bins:{bins}|" in metric.signature


def test_the_interval_encloses_the_value_and_stays_on_the_scale() -> None:
    metric = make_metric("ece")
    found = estimate(metric, metric.statistics([sure(0.9, number % 10 > 0) for number in range(40)]))
    assert found.value == pytest.approx(0.0, abs=1e-12)
    assert found.ci95 is not None
    assert found.ci95[0] == 0.0
    assert 0.01 < found.ci95[1] < 0.2


@pytest.mark.parametrize("bins", [0, -1, 2.5, True, "many"])
def test_bins_are_a_number(bins: object) -> None:
    with pytest.raises(UsageError, match="ece: bins must be a whole number above 0"):
        make_metric("ece", options={"bins": bins})
