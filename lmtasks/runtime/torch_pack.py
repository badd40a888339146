"""Products with weights that oneDNN has brought into its own order once, on the CPU in fp32.

torch's own product reads a weight as it is stored, each time anew. With the weight packed beforehand the same product
is (seen on two AVX-512 cores, width 512, torch 2.13) 1.1 to 1.2 times as fast over a thousand rows, 1.4 to 1.6 times
over 16, and 3 times over 4: decoding lives on few rows. torch.compile does the same when it freezes a model, by the
same operators; they are not public, so a model is asked before and after, and keeps its own products where they are
missing or disagree.
"""

from collections.abc import Callable, Iterator
from typing import cast

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

LEAST_SIDE = 32
"""A weight with a shorter side (a classifier's two columns) gains nothing."""
TOLERANCE = 1e-4
UNFIT = (RuntimeError, AttributeError)
"""Not in this torch, not on this processor, or a model that reads its weights itself."""

Product = Callable[[Tensor], Tensor]


class PackedLinear(nn.Module):
    """`x W^T + b` with W, (N, K), packed.

    Raises:
        RuntimeError, AttributeError: this torch cannot.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.bias = None if bias is None else bias.detach()
        self.weight = torch.empty(0, dtype=weight.dtype)
        """Holds nothing: some models ask a layer for the type of its weight."""
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous())

    def forward(self, given: Tensor) -> Tensor:
        """(..., K) -> (..., N)"""
        return cast(Tensor, torch.ops.mkldnn._linear_pointwise(given, self._packed, self.bias, "none", [], ""))


def pack(module: nn.Module, *, answer: Callable[[], Tensor], kept: nn.Module | None = None) -> bool:
    """Pack the products of a module in place, if it then answers as before.

    Args:
        answer: what it says to some input.
        kept: a layer that stays as it is, since somebody else calls it.

    Returns:
        Whether it was done.
    """
    if not torch.backends.mkldnn.is_available():
        return False
    places = [place for place in _places(module) if place[2] is not kept]
    with torch.inference_mode():
        before = answer()
        try:
            for parent, name, layer in places:
                setattr(parent, name, PackedLinear(*_weights(layer)))
            after = answer()
            if torch.allclose(before, after, rtol=TOLERANCE, atol=TOLERANCE):
                _let_go_of_file(module)
                return bool(places)
        except UNFIT:
            pass
        for parent, name, layer in places:
            setattr(parent, name, layer)
        return False


def packed_product(weight: Tensor, bias: Tensor | None, *, otherwise: Product) -> Product:
    """The product with one weight, packed where that works."""
    if not torch.backends.mkldnn.is_available():
        return otherwise
    try:
        with torch.inference_mode():
            packed = PackedLinear(weight, bias)
            given = torch.linspace(-1, 1, weight.shape[1])[None]
            agree = torch.allclose(packed(given), otherwise(given), rtol=TOLERANCE, atol=TOLERANCE)
    except UNFIT:
        return otherwise
    return packed if agree else otherwise


def _let_go_of_file(module: nn.Module) -> None:
    """Weights are views of one mapped file; a single one that is left would hold all of it in memory."""
    for parameter in module.parameters():
        parameter.data = parameter.data.clone()


def _places(module: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """Parent, name and layer of every product that is worth it."""
    for parent in module.modules():
        for name, layer in parent.named_children():
            if type(layer) in (nn.Linear, Conv1D) and min(_weights(layer)[0].shape) >= LEAST_SIDE:
                yield parent, name, layer


def _weights(layer: nn.Module) -> tuple[Tensor, Tensor | None]:
    """W (N, K) and b of a layer; GPT-2's Conv1D keeps W transposed."""
    weight = cast(Tensor, layer.weight)
    turned = weight.T if type(layer) is Conv1D else weight
    return turned, cast(Tensor | None, layer.bias)
