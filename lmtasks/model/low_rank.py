"""Changes of low rank that an adapter makes to a matrix, W + alpha / rank * B A (Hu et al. 2021,
https://arxiv.org/abs/2106.09685), put in the matrix' place: for weights that are read otherwise than by a linear layer,
as those of recurrent layers and filters are. peft puts adapters beside linear layers only.

Axes: N rows of a matrix, K columns; a filter (N, D, width) is a matrix of N rows.
"""

import math
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize


class LowRank(nn.Module):
    """A matrix W with a change that is learned, W -> W + scale * B A. B begins as zeros.

    Args:
        weight: (N, ...), for its shape and place.
        dropout: share of the columns of A that a training step leaves out, the same for all rows of its batch.
    """

    def __init__(self, weight: Tensor, *, rank: int, scale: float, dropout: float) -> None:
        super().__init__()
        rows, columns = sides(weight)
        self.scale, self.dropout = scale, dropout
        self.down = nn.Parameter(weight.new_empty(rank, columns))
        self.up = nn.Parameter(weight.new_zeros(rows, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))  # as peft does

    def forward(self, weight: Tensor) -> Tensor:
        """(N, ...) -> (N, ...)"""
        down: Tensor = self.down
        if self.training and self.dropout:
            down = down * functional.dropout(torch.ones_like(down[:1]), self.dropout)
        return weight + (self.up @ down * self.scale).view_as(weight)


Pairs = tuple[tuple[Tensor, Tensor], ...]
"""A (R, K) and scale * B (N, R) of each adapter that counts."""


class Beside(nn.Module):
    """A linear layer, whose product may be packed, and what the chosen adapters add to its answer.

    Args:
        layer: (..., K) -> (..., N)
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.chosen: Pairs = ()

    @property
    def weight(self) -> Tensor:
        """The layer's own: some models ask for its type."""
        return cast(Tensor, self.layer.weight)

    def forward(self, given: Tensor) -> Tensor:
        """(..., K) -> (..., N)"""
        answer: Tensor = self.layer(given)
        for down, up in self.chosen:
            answer = answer + functional.linear(functional.linear(given, down), up)
        return answer


class InPlace(nn.Module):
    """A matrix that no linear layer reads, with what the chosen adapters add to it."""

    def __init__(self) -> None:
        super().__init__()
        self.chosen: Pairs = ()

    def forward(self, weight: Tensor) -> Tensor:
        """(N, ...) -> (N, ...)"""
        for down, up in self.chosen:
            weight = weight + (up @ down).view_as(weight)
        return weight


def put_switch(module: nn.Module, place: str) -> Beside | InPlace:
    """Let adapters be chosen at a place: beside a layer, or in the place of a matrix; none is, at first."""
    above, _, last = place.rpartition(".")
    holder = module.get_submodule(above)
    inner = getattr(holder, last)
    if isinstance(inner, nn.Module):
        beside = Beside(inner)
        setattr(holder, last, beside)
        return beside
    changed = InPlace()
    parametrize.register_parametrization(holder, last, changed)
    return changed


def sides(weight: Tensor) -> tuple[int, int]:
    """(N, K) of a matrix, or of a filter read as one."""
    return weight.shape[0], weight[0].numel()


def put_low_rank(module: nn.Module, place: str, *, rank: int, scale: float, dropout: float) -> None:
    """Put a change into the place of a matrix; its own values stand still from then on.

    Args:
        place: name of the parameter, or of a layer whose `weight` is meant.
    """
    layer, name = owner_of(module, place)
    weight = cast(Tensor, getattr(layer, name))
    change = LowRank(weight, rank=rank, scale=scale, dropout=dropout)
    parametrize.register_parametrization(layer, name, change)


def low_rank_tensors(module: nn.Module, places: tuple[str, ...]) -> Mapping[str, Tensor]:
    """`PLACE.lora_A.weight` (R, K) and `PLACE.lora_B.weight` (N, R) of each place."""
    found: dict[str, Tensor] = {}
    for place in places:
        layer, name = owner_of(module, place)
        change = cast(LowRank, layer.parametrizations[name][0])  # type: ignore[union-attr, index]
        found[f"{place}.lora_A.weight"], found[f"{place}.lora_B.weight"] = change.down, change.up
    return found


def owner_of(module: nn.Module, place: str) -> tuple[nn.Module, str]:
    """The layer that holds the matrix of a place, and the matrix' name in it."""
    above, _, last = place.rpartition(".")
    holder = module.get_submodule(above)
    inner = getattr(holder, last)
    return (inner, "weight") if isinstance(inner, nn.Module) else (holder, last)
