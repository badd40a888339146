"""One number for a whole text.

The head learns in standard scores, (number - mean) / deviation by its training rows, so that a learning rate suits
stars and house prices alike, and a package's proof has one tolerance. Mean and deviation stand in the head's
description (`HeadSpec`), which every package has with it: answers are in the task's own unit.

Axes: B batch, C outputs, here one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from lmtasks.errors import UsageError
from lmtasks.head.base import EncodedInput, EncodedRow, HeadTokenizer, PooledHead, Targets, beside_zero
from lmtasks.head.classification import classification_row
from lmtasks.records import Bools, Floats32, HeadInput, HeadSpec, Quantity

if TYPE_CHECKING:
    from torch import Tensor


class RegressionHead(PooledHead):
    """A pooled hidden state to one number."""

    def outputs(self, spec: HeadSpec) -> int:
        """One."""
        return 1

    def choices(self, logits: Floats32, mask: Bools) -> tuple[Floats32, ...]:
        """Each number beside 0, the mean of the training rows: is the text above it?"""
        return (beside_zero(logits),)

    def fitted(self, spec: HeadSpec, targets: Sequence[Targets]) -> HeadSpec:
        """The head with mean and deviation of its training rows' numbers.

        Raises:
            UsageError: all are the same.
        """
        numbers = np.array([target for row in targets for target in row], dtype=np.float64)
        if not len(numbers):
            return spec
        mean, deviation = float(numbers.mean()), float(numbers.std())
        if not deviation > 1e-9 * abs(mean):
            raise UsageError(
                f"all {len(numbers)} training rows of task {spec.name} have the number {mean:g}, which teaches "
                "nothing; give rows with others."
            )
        return replace(spec, mean=mean, deviation=deviation)

    def learned(self, spec: HeadSpec, targets: Targets) -> Targets:
        """Standard scores."""
        return tuple((target - spec.mean) / spec.deviation for target in targets)

    def answers(self, spec: HeadSpec, logits: Floats32) -> Floats32:
        """Numbers of the task from standard scores."""
        return (logits.astype(np.float64) * spec.deviation + spec.mean).astype(np.float32)

    def loss(self, logits: Tensor, targets: Tensor, *, smoothing: float = 0.0) -> Tensor:
        """Mean squared error of standard scores (B, 1). There are no other answers that could have a share of a number,
        so that smoothing changes nothing."""
        del smoothing
        from torch.nn import functional

        return functional.mse_loss(logits.float(), targets.float())

    def judged(self, logits: Tensor, targets: Tensor) -> tuple[float, int]:
        """Sum of squared errors, and texts."""
        return float((logits.float() - targets).square().sum()), len(targets)

    def score(self, right: float, count: int) -> float:
        """1 / (1 + mean squared error): 1/2 for an answer that is always the mean."""
        return 1.0 / (1.0 + right / max(1, count))

    def encode(
        self, given: HeadInput, *, tokenizer: HeadTokenizer, max_length: int, causal: bool = False
    ) -> EncodedInput:
        """One row, as classification has it."""
        return MeasuredText(given=given, rows=(classification_row(given, tokenizer=tokenizer, max_length=max_length),))


@dataclass(frozen=True, kw_only=True)
class MeasuredText(EncodedInput):
    """A text or a pair of texts, and its number."""

    rows: Sequence[EncodedRow]

    def targets(self) -> Sequence[tuple[EncodedRow, Targets]]:
        """The number; nothing where the row has none."""
        return () if self.given.number is None else [(row, (self.given.number,)) for row in self.rows]

    def outcome(self, logits: Sequence[Floats32], *, labels: Sequence[str], order: Sequence[int]) -> Quantity:
        """The number, from (1,)."""
        gold = self.given.number
        return Quantity(gold=float("nan") if gold is None else gold, prediction=float(logits[0][0]))


REGRESSION = RegressionHead(name="regression", about="one number for a text", labelled=False)
