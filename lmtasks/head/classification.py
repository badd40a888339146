"""One label for a whole text.

Axes: B batch, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmtasks.errors import UsageError
from lmtasks.head.base import EncodedInput, EncodedRow, HeadTokenizer, PooledHead, Targets, first_tokens
from lmtasks.records import Choice, Floats32, HeadInput, softmax_log

if TYPE_CHECKING:
    from torch import Tensor


class ClassificationHead(PooledHead):
    """A pooled hidden state to class logits."""

    def loss(self, logits: Tensor, targets: Tensor, *, smoothing: float = 0.0) -> Tensor:
        """Mean cross-entropy of labels (B, 1) by logits (B, C)."""
        from torch.nn import functional

        return functional.cross_entropy(logits.float(), targets[:, 0], label_smoothing=smoothing)

    def judged(self, logits: Tensor, targets: Tensor) -> tuple[float, int]:
        """Right labels, and texts."""
        return float((logits.argmax(-1) == targets[:, 0]).sum()), len(targets)

    def encode(
        self, given: HeadInput, *, tokenizer: HeadTokenizer, max_length: int, causal: bool = False
    ) -> EncodedInput:
        """One row. Too long a pair loses tokens at the end of the longer text first."""
        return LabelledText(given=given, rows=(classification_row(given, tokenizer=tokenizer, max_length=max_length),))


@dataclass(frozen=True, kw_only=True)
class LabelledText(EncodedInput):
    """A text or a pair of texts, and the number of its label."""

    rows: Sequence[EncodedRow]

    def targets(self) -> Sequence[tuple[EncodedRow, Targets]]:
        """The label; nothing where the row has none."""
        return () if self.given.label is None else [(row, (self.given.label,)) for row in self.rows]

    def outcome(self, logits: Sequence[Floats32], *, labels: Sequence[str], order: Sequence[int]) -> Choice:
        """How likely each label is, from logits (C,)."""
        return Choice(
            gold=() if self.given.label is None else (self.given.label,),
            scores=tuple(softmax_log(logits[0])[list(order)].tolist()),
            chars=tuple(len(label) for label in labels),
            bytes=tuple(len(label.encode()) for label in labels),
        )


def classification_row(given: HeadInput, *, tokenizer: HeadTokenizer, max_length: int) -> EncodedRow:
    """One or two texts as a head reads them. Too long a pair loses tokens at the end of the longer text first.

    Raises:
        UsageError: `max_length` does not hold even the tokens that the tokenizer adds.
    """
    encoded = tokenizer.encode_for_head(given.first, given.second)
    surplus = len(encoded.ids) - max_length
    if surplus <= 0:
        return EncodedRow(ids=encoded.ids, types=encoded.types, truncated=False)
    counts = [encoded.sequences.count(0), encoded.sequences.count(1)]
    if surplus > sum(counts):
        raise UsageError(f"a length of {max_length} tokens holds no text besides the tokenizer's own tokens.")
    room = sum(counts) - surplus
    shorter = min(min(counts), room // 2)
    kept = [shorter, room - shorter] if counts[0] <= counts[1] else [room - shorter, shorter]
    keep = first_tokens(encoded, kept)
    return EncodedRow(
        ids=tuple(encoded.ids[position] for position in keep),
        types=tuple(encoded.types[position] for position in keep),
        truncated=True,
    )


CLASSIFICATION = ClassificationHead(
    name="classification", about="one label for a text", linear_layer="output", softmax=True
)
