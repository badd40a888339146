"""What a head learns from and is judged by while it trains: one loss and one score for each kind of head."""

from collections.abc import Callable, Mapping

from torch import Tensor

from lmtasks.head.classification import classification_loss
from lmtasks.head.generation import generation_loss
from lmtasks.head.span import span_loss
from lmtasks.head.tagging import tagging_loss

LOSSES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "classification": lambda logits, targets: classification_loss(logits, targets[:, 0]),
    "span": lambda logits, targets: span_loss(logits, targets[:, 0], targets[:, 1]),
    "tagging": tagging_loss,
    "generation": generation_loss,
}
"""(logits, targets) -> mean loss in nats."""


def _right_labels(logits: Tensor, targets: Tensor) -> tuple[float, int]:
    return float((logits.argmax(-1) == targets[:, 0]).sum()), len(targets)


def _right_spans(logits: Tensor, targets: Tensor) -> tuple[float, int]:
    return float((logits.argmax(1) == targets).all(-1).sum()), len(targets)


def _right_tags(logits: Tensor, targets: Tensor) -> tuple[float, int]:
    judged = targets >= 0
    return float((logits.argmax(-1) == targets)[judged].sum()), int(judged.sum())


def _nats(logits: Tensor, targets: Tensor) -> tuple[float, int]:
    count = int((targets >= 0).sum())
    return float(generation_loss(logits, targets)) * count, count


SCORES: Mapping[str, Callable[[Tensor, Tensor], tuple[float, int]]] = {
    "classification": _right_labels,
    "span": _right_spans,
    "tagging": _right_tags,
    "generation": _nats,
}
"""(logits, targets) -> right answers and how many were judged; for generation the nats and the tokens."""
