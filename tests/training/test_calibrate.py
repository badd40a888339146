"""A temperature brings probabilities into line: equal to other libraries' numbers, folded into the head."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from lmtasks.errors import UsageError
from lmtasks.metric import make_metric
from lmtasks.model.store import load_model
from lmtasks.records import Choice, softmax_log
from lmtasks.settings.data import DataAccess
from lmtasks.settings.training import AdaptSettings
from lmtasks.task.index import default_index
from lmtasks.training.calibrate import calibrate_layer, calibration_error, fit_temperature
from lmtasks.workflow.adapt import AdaptRequest, adapt_model
from lmtasks.workflow.new_backbone import Start
from tests.metric.examples import value


def made_up(*, rows: int = 2000, classes: int = 4, too_sure: float = 3.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of a model that says what is right as often as its softmax says, times a factor."""
    draw = np.random.default_rng(0)
    logits = draw.normal(size=(rows, classes)) * 1.5
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = [draw.choice(classes, p=row) for row in shares]
    return torch.tensor(logits * too_sure), torch.tensor(labels)


@pytest.mark.parametrize("factor", [0.4, 1.0, 3.0])
def test_the_factor_is_found_again(factor: float) -> None:
    logits, labels = made_up(too_sure=factor)
    found = fit_temperature(logits, labels)
    assert found.temperature == pytest.approx(factor, rel=0.08)
    assert found.nats_after <= found.nats_before
    assert found.ece_after < 0.03


def test_it_is_the_least_cross_entropy_that_scipy_finds_too() -> None:
    logits, labels = made_up()

    def nats(power: np.ndarray) -> float:
        return float(torch.nn.functional.cross_entropy(logits / float(np.exp(power[0])), labels))

    other = minimize(nats, x0=[0.0], method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-10})
    assert fit_temperature(logits, labels).temperature == pytest.approx(float(np.exp(other.x[0])), rel=1e-3)


def test_the_error_is_that_of_the_metric() -> None:
    logits, labels = made_up(rows=300)
    metric = make_metric("ece")
    choices = [
        Choice(gold=(int(label),), scores=tuple(softmax_log(row.numpy()).tolist()), chars=(1,) * 4, bytes=(1,) * 4)
        for row, label in zip(logits, labels, strict=True)
    ]
    assert calibration_error(logits, labels) == pytest.approx(value(metric, choices), abs=1e-9)


def test_the_layer_answers_calmer_and_alike() -> None:
    logits, labels = made_up()
    layer = torch.nn.Linear(4, 4, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(4))
        layer.bias.zero_()
    found = calibrate_layer(layer, [(layer(logits), labels)])
    assert found is not None
    torch.testing.assert_close(layer(logits), logits / found.temperature)
    assert calibrate_layer(layer, [(layer(logits[:9]), labels[:9])]) is None  # too few rows


def test_targets_that_are_of_no_matter_are_left_out() -> None:
    logits, labels = made_up()
    layer = torch.nn.Linear(1, 4)
    masked = torch.where(torch.arange(len(labels)) % 2 == 0, labels, -100)
    found = calibrate_layer(layer, [(logits[None], masked[None])])
    assert found is not None
    assert found == fit_temperature(logits[::2], labels[::2])


def adapted(out: Path, *, tasks: str, calibrate: bool, backbone: str = "cnn:width=32") -> None:
    settings = AdaptSettings(epochs=20, learning_rate=0.01, calibrate=calibrate)
    request = AdaptRequest(
        start=Start(backbone=backbone),
        tasks=default_index().find(tasks),
        settings=settings,
        data=DataAccess(offline=True),
        out=out,
    )
    adapt_model(request, report=lambda _: None)


def test_an_adapted_model_is_calibrated_and_says_so(tmp_path: Path) -> None:
    for calibrate in (False, True):
        adapted(tmp_path / str(calibrate), tasks="starter_sentiment_en", calibrate=calibrate)
    plain, calm = (load_model(tmp_path / name).head("starter_sentiment_en") for name in ("False", "True"))
    record = json.loads((tmp_path / "True" / "model.json").read_text())
    told = record["provenance"]["calibration"]["starter_sentiment_en"]
    torch.testing.assert_close(plain.output.weight / told["temperature"], calm.output.weight, rtol=1e-4, atol=1e-6)
    assert told["nats_after"] <= told["nats_before"]
    assert "calibration" not in json.loads((tmp_path / "False" / "model.json").read_text())["provenance"]


def test_what_has_no_probabilities_of_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no task here has any"):
        adapted(tmp_path / "a", tasks="starter_qa_en", calibrate=True, backbone="lmtasks-mini")
    with pytest.raises(UsageError, match="--calibrate goes with a model that is trained"):
        adapted(tmp_path / "b", tasks="starter_sentiment_en", calibrate=True, backbone="svm")
