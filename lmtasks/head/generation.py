"""Answers in free text. The head has no weights: the backbone owns the language-model projection.

Axes: B batch, T time (tokens), D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lmtasks.errors import UsageError
from lmtasks.head.base import IGNORED, EncodedInput, Head, HeadOperators, HeadTokenizer, Value
from lmtasks.records import WRITING_HEAD, HeadInput, HeadSpec

if TYPE_CHECKING:
    from torch import Tensor

POSITIONS_AT_ONCE = 512
"""Positions whose logits are in memory together."""


class GenerationHead(Head):
    """The next-token logits of the backbone, as an answer that is written token by token."""

    def layers(self, spec: HeadSpec, *, width: int) -> Mapping[str, tuple[int, int]]:
        """None."""
        return {}

    def logits(self, operators: HeadOperators[Value], hidden: Value, spec: HeadSpec) -> Value:
        """Raises: UsageError: it has none."""
        raise UsageError(f"head {spec.name!r} writes text; it has no logits of its own.")

    def loss(self, logits: Tensor, targets: Tensor, *, smoothing: float = 0.0) -> Tensor:
        """Over the answer's tokens, of logits (B, T, V) and targets (B, T), which are shifted already."""
        from torch.nn import functional

        return functional.cross_entropy(
            logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, label_smoothing=smoothing
        )

    def judged(self, logits: Tensor, targets: Tensor) -> tuple[float, int]:
        """Nats, and the answer's tokens."""
        count = int((targets >= 0).sum())
        return float(self.loss(logits, targets)) * count, count

    def score(self, right: float, count: int) -> float:
        """The geometric mean of the probabilities of the right tokens."""
        import torch

        return float(torch.tensor(-right / max(1, count)).exp())

    def encode(
        self, given: HeadInput, *, tokenizer: HeadTokenizer, max_length: int, causal: bool = False
    ) -> EncodedInput:
        """Raises: UsageError: it reads prompts."""
        raise UsageError("a generation head reads a task's prompts, and no columns.")


def projected_loss(
    hidden: Tensor, targets: Tensor, weight: Tensor, bias: Tensor | None, *, smoothing: float = 0.0
) -> Tensor:
    """`GenerationHead.loss` by the hidden states (B, T, D) that its logits are made of.

    Logits are made for the answer's tokens only and never stand in memory all at once. With vocabularies of 8,000 to
    12,000 that is three times as fast as the loss of all logits (two cores, a third of the positions not asked).

    Args:
        weight: of the projection to the vocabulary, (V, D).
        bias: of the same, (V,).
        smoothing: see `Head.loss`.
    """
    import torch
    from torch.nn import LinearCrossEntropyOptions, functional

    asked = targets != IGNORED
    rows, wanted = hidden[asked], targets[asked]
    if torch.is_autocast_enabled(rows.device.type):  # in 16 bits linear_cross_entropy would round the loss itself
        logits = functional.linear(rows, weight, bias).float()
        return functional.cross_entropy(logits, wanted, label_smoothing=smoothing)
    options = LinearCrossEntropyOptions(batch_chunk_size=POSITIONS_AT_ONCE)
    loss = functional.linear_cross_entropy(rows, weight, wanted, linear_bias=bias, options=options)
    if not smoothing:
        return loss
    # (1 - s) nats of the target and s of the mean token are the target's nats and s (its logit - the mean logit).
    ahead = (rows * (weight[wanted] - weight.mean(0))).sum(-1)
    if bias is not None:
        ahead = ahead + bias[wanted] - bias.mean()
    return loss + smoothing * ahead.mean()


GENERATION = GenerationHead(
    name=WRITING_HEAD,
    about="an answer in free text, by the backbone's own projection",
    labelled=False,
    predicts=False,
)
