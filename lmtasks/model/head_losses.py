"""What a head learns from and is judged by while it trains: one loss and one score for each kind of head."""

from collections.abc import Callable, Mapping

from torch import Tensor

from lmtasks.errors import UsageError
from lmtasks.head.classification import classification_loss
from lmtasks.head.generation import generation_loss, projected_loss
from lmtasks.head.span import span_loss
from lmtasks.head.tagging import tagging_loss
from lmtasks.model.model import Model

LOSSES: Mapping[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "classification": lambda logits, targets, share: classification_loss(logits, targets[:, 0], smoothing=share),
    # Not smoothed: places that no answer can have would get a share.
    "span": lambda logits, targets, _: span_loss(logits, targets[:, 0], targets[:, 1]),
    "tagging": lambda logits, targets, share: tagging_loss(logits, targets, smoothing=share),
    "generation": lambda logits, targets, share: generation_loss(logits, targets, smoothing=share),
}
"""(logits, targets, label smoothing) -> mean loss in nats."""


def written_loss(model: Model, hidden: Tensor, targets: Tensor, *, smoothing: float) -> Tensor:
    """The loss of a generation head by the hidden states (B, T, D) of a model with a projection, in nats."""
    projection = model.projection()
    if projection is None:
        raise UsageError(f"{model.card.name} ({model.card.family}) makes its logits itself; use LOSSES for them.")
    return projected_loss(hidden, targets, projection.weight, projection.bias, smoothing=smoothing)


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
