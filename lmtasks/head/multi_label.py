"""Any number of labels for a whole text: each is a decision of its own.

Axes: B batch, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lmtasks.head.base import EncodedInput, EncodedRow, HeadTokenizer, PooledHead, Targets, beside_zero
from lmtasks.head.classification import classification_row
from lmtasks.records import Bools, Floats32, HeadInput, HeadSpec, LabelSet

if TYPE_CHECKING:
    from torch import Tensor


class MultiLabelHead(PooledHead):
    """A pooled hidden state to the log-odds of each label."""

    def choices(self, logits: Floats32, mask: Bools) -> tuple[Floats32, ...]:
        """Each label beside 0, its absence, (B x C, 2): the softmax of a row is the label's probability."""
        return (beside_zero(logits),)

    def learned(self, spec: HeadSpec, targets: Targets) -> Targets:
        """One for each label that holds, zero for the others, (C,), from the numbers of those that hold."""
        return tuple(int(place in targets) for place in range(len(spec.labels)))

    def loss(self, logits: Tensor, targets: Tensor, *, smoothing: float = 0.0) -> Tensor:
        """Mean binary cross-entropy of labels (B, C), zeros and ones; smoothed, a label and its absence divide the
        share."""
        from torch.nn import functional

        wanted = targets.float() * (1 - smoothing) + smoothing / 2
        return functional.binary_cross_entropy_with_logits(logits.float(), wanted)

    def judged(self, logits: Tensor, targets: Tensor) -> tuple[float, int]:
        """Sum over texts of the mean of F1 and ranking precision, and texts. F1 is what is asked; alone it stays at 0
        until the first label is more likely than not, while the ranks move from the first step on."""
        true, answered = targets > 0, logits > 0
        seen = (true.sum(1) + answered.sum(1)).float()
        f1 = (2 * (true & answered).sum(1) / seen.clamp(min=1)).where(seen > 0, 1.0)
        beside = (logits.unsqueeze(1) >= logits.unsqueeze(2)).float()  # (B, C, C): does the second rank as high?
        precision = (beside @ true.float().unsqueeze(2)).squeeze(2) / beside.sum(2)
        relevant = true.sum(1)
        ranked = ((precision * true).sum(1) / relevant.clamp(min=1)).where(relevant > 0, 1.0)
        return float(((f1 + ranked) / 2).sum()), len(targets)

    def encode(
        self, given: HeadInput, *, tokenizer: HeadTokenizer, max_length: int, causal: bool = False
    ) -> EncodedInput:
        """One row, as classification has it."""
        row = classification_row(given, tokenizer=tokenizer, max_length=max_length)
        return LabelSetText(given=given, rows=(row,))


@dataclass(frozen=True, kw_only=True)
class LabelSetText(EncodedInput):
    """A text or a pair of texts, and the numbers of its labels."""

    rows: Sequence[EncodedRow]

    def targets(self) -> Sequence[tuple[EncodedRow, Targets]]:
        """The numbers of the labels as they stand; `MultiLabelHead.learned` makes zeros and ones of them."""
        return () if self.given.labels is None else [(row, self.given.labels) for row in self.rows]

    def outcome(self, logits: Sequence[Floats32], *, labels: Sequence[str], order: Sequence[int]) -> LabelSet:
        """The log-odds of each label, from (C,)."""
        return LabelSet(gold=self.given.labels or (), scores=tuple(logits[0].astype(np.float64)[list(order)].tolist()))


MULTI_LABEL = MultiLabelHead(name="multi_label", about="any number of labels for a text")
