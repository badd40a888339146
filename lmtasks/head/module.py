"""Heads in torch: their layers as modules, and the operators between them.

Axes: B batch, T time (tokens), D width, C outputs.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from lmtasks.head import HEADS
from lmtasks.head.base import SHUT_OUT, Head
from lmtasks.records import HeadSpec

DROPOUT = 0.1


class HeadModule(nn.Module):
    """The weights of a head, freshly initialised, and its logits.

    Args:
        head: the kind of head.
        spec: the head itself.
        width: D of the hidden states.
        dropout: share of the numbers that are left out while it learns.
    """

    def __init__(self, head: Head, spec: HeadSpec, *, width: int, dropout: float = DROPOUT) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        for name, (inputs, outputs) in head.layers(spec, width=width).items():
            self.add_module(name, nn.Linear(inputs, outputs))
        self._head, self._spec = head, spec

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """(B, T, D) and mask (B, T) -> (B, C) or (B, T, C); right under padding on either side."""
        logits = self._head.logits(TorchOperators(self, mask), hidden, self._spec)
        return logits.masked_fill(~mask.unsqueeze(-1), SHUT_OUT) if self._head.over_tokens else logits


class TorchOperators:
    """`HeadOperators` over tensors.

    Args:
        module: holds the layers.
        mask: (B, T), True at real tokens.
    """

    def __init__(self, module: HeadModule, mask: Tensor) -> None:
        self._module = module
        self._mask = mask

    def dense(self, layer: str, x: Tensor) -> Tensor:
        """See `HeadOperators`."""
        found: Tensor = self._module.get_submodule(layer)(x)
        return found

    def dropout(self, x: Tensor) -> Tensor:
        """See `HeadOperators`."""
        found: Tensor = self._module.dropout(x)
        return found

    def gelu(self, x: Tensor) -> Tensor:
        """See `HeadOperators`."""
        return functional.gelu(x)

    def pool(self, hidden: Tensor, pooling: str) -> Tensor:
        """See `HeadOperators`."""
        return pooled(hidden, self._mask, pooling)


def pooled(hidden: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """One state for each text, (B, T, D) and mask (B, T) -> (B, D): `mean` or `max` over real tokens, the `first` or
    `last` one."""
    if pooling == "mean":
        real = mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * real).sum(1) / real.sum(1).clamp(min=1.0)
    if pooling == "max":
        return hidden.masked_fill(~mask.unsqueeze(-1), torch.finfo(hidden.dtype).min).amax(1)
    places = torch.arange(mask.shape[1], device=mask.device)
    place = (
        torch.where(mask, places, -1).amax(1) if pooling == "last" else torch.where(mask, places, mask.shape[1]).amin(1)
    ).clamp(0, mask.shape[1] - 1)
    index = place[:, None, None].expand(-1, 1, hidden.shape[-1])
    return hidden.gather(1, index).squeeze(1)


def build_head(spec: HeadSpec, *, width: int) -> HeadModule | None:
    """The module of a head, freshly initialised; None for a head without weights.

    Raises:
        UsageError: no such kind of head.
    """
    head = HEADS.line(spec.kind)
    return HeadModule(head, spec, width=width) if head.predicts else None
