"""One temperature for a head's logits, fitted on validation rows, so that its probabilities are as often right as they
say (Guo et al. 2017, https://arxiv.org/abs/1706.04599).

The temperature is divided out of the head's last layer: every runtime and package then answers so, and the same label
stays the likeliest.

>>> logits = torch.tensor([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
>>> found = fit_temperature(logits, torch.tensor([0, 0, 1, 1]))
>>> round(found.temperature, 1), round(found.ece_before, 2), round(found.ece_after, 2)
(3.6, 0.23, 0.0)
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor, nn
from torch.nn import functional

BINS = 15
"""As Guo et al. have them, and the metric `ece`."""
RANGE = (0.05, 20.0)
"""Temperatures that are looked at."""
LEAST = 10
"""Validation rows, or words, that a temperature is fitted on at least."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How a temperature changed what probabilities say, on the rows that it was fitted on."""

    temperature: float
    rows: int
    """Validation rows; of tags, words."""
    ece_before: float
    """Expected calibration error, 0-1."""
    ece_after: float
    nats_before: float
    """Mean cross-entropy."""
    nats_after: float

    def json(self) -> Mapping[str, float]:
        """For a model's record."""
        return {name: round(value, 6) for name, value in vars(self).items()}


def fit_temperature(logits: Tensor, labels: Tensor) -> Calibration:
    """The temperature with the least mean cross-entropy.

    Args:
        logits: (N, C)
        labels: (N,)
    """
    logits, labels = logits.double().cpu(), labels.cpu()

    def nats(power: float) -> float:
        return float(functional.cross_entropy(logits / math.exp(power), labels))

    bounds = (math.log(RANGE[0]), math.log(RANGE[1]))
    power = float(minimize_scalar(nats, bounds=bounds, method="bounded", options={"xatol": 1e-4}).x)
    if nats(power) >= nats(0.0):  # as it is already, to the last digits
        power = 0.0
    temperature = math.exp(power)
    return Calibration(
        temperature=temperature,
        rows=len(labels),
        ece_before=calibration_error(logits, labels),
        ece_after=calibration_error(logits / temperature, labels),
        nats_before=nats(0.0),
        nats_after=nats(power),
    )


def calibration_error(logits: Tensor, labels: Tensor) -> float:
    """Expected calibration error of the likeliest labels, 0-1, over 15 bins of equal width.

    Args:
        logits: (N, C)
        labels: (N,)
    """
    confidence, answers = logits.softmax(-1).max(-1)
    right = (answers == labels).to(confidence)
    bins = (confidence * BINS).ceil().long().clamp(1, BINS) - 1
    apart = torch.zeros(BINS, dtype=confidence.dtype).index_add_(0, bins, right - confidence)
    return float(apart.abs().sum() / len(labels))


@torch.no_grad()
def calibrate_layer(layer: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> Calibration | None:
    """Fit a temperature to the logits of validation rows, and divide the layer that made them by it; None where there
    are too few rows.

    Args:
        layer: the linear layer whose products are the logits.
        batches: logits (..., C) and targets (...), negative ones of no matter.
    """
    rows = [(logits.flatten(0, -2), targets.flatten()) for logits, targets in batches]
    kept = [(logits[targets >= 0], targets[targets >= 0]) for logits, targets in rows]
    if sum(len(targets) for _, targets in kept) < LEAST:
        return None
    found = fit_temperature(torch.cat([logits for logits, _ in kept]), torch.cat([targets for _, targets in kept]))
    for parameter in layer.parameters():
        parameter.div_(found.temperature)
    return found
