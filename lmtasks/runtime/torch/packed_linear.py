"""Products with weights that oneDNN has brought into its own order once, on the CPU in fp32.

torch's own product reads a weight as it is stored, each time anew. With the weight packed beforehand the same product
is (seen on two AVX-512 cores, width 512, torch 2.13) 1.1 to 1.2 times as fast over a thousand rows, 1.4 to 1.6 times
over 16, and 3 times over 4: decoding lives on few rows. torch.compile does the same when it freezes a model, by the
same operators; they are not public, so a model is asked before and after, and keeps its own products where they are
missing or disagree.

The operators apply an activation, or multiply by something, while the product is still in the processor's cache: a
gated feed-forward layer (512, 1408) over 2,048 rows took 44 ms in place of 55.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from transformers.activations import GELUActivation, GELUTanh, NewGELUActivation, SiLUActivation
from transformers.pytorch_utils import Conv1D

from lmtasks.runtime.memory import let_go_of_pages

LEAST_SIDE = 32
"""A weight with a shorter side (a classifier's two columns) gains nothing."""
TOLERANCE = 1e-4
UNFIT = (RuntimeError, AttributeError)
"""Not in this torch, not on this processor, or a model that reads its weights itself."""

Product = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Applied:
    """An activation as oneDNN names it."""

    name: str = "none"
    algorithm: str = ""


ACTIVATIONS: Mapping[type[nn.Module], Applied] = {
    nn.SiLU: Applied(name="swish"),
    nn.ReLU: Applied(name="relu"),
    SiLUActivation: Applied(name="swish"),
    GELUActivation: Applied(name="gelu", algorithm="none"),
    NewGELUActivation: Applied(name="gelu", algorithm="tanh"),
    GELUTanh: Applied(name="gelu", algorithm="tanh"),
}
FOLLOWED: Mapping[str, str] = {"c_fc": "act", "dense": "intermediate_act_fn", "lin1": "activation"}
"""Layers behind which their module applies an activation, and the name of that."""
GATED = ("gate_proj", "up_proj", "down_proj", "act_fn")
"""Parts of a feed-forward layer that computes down(act(gate(x)) * up(x))."""


class PackedLinear(nn.Module):
    """`f(x W^T + b)` with W, (N, K), packed.

    Raises:
        RuntimeError, AttributeError: this torch cannot.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, *, applied: Applied = Applied()) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.bias = None if bias is None else bias.detach()
        self.weight = torch.empty(0, dtype=weight.dtype)
        """Holds nothing: some models ask a layer for the type of its weight."""
        self._applied = applied
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous())

    def forward(self, given: Tensor) -> Tensor:
        """(..., K) -> (..., N)"""
        name, algorithm = self._applied.name, self._applied.algorithm
        return cast(Tensor, torch.ops.mkldnn._linear_pointwise(given, self._packed, self.bias, name, [], algorithm))

    def times(self, given: Tensor, other: Tensor) -> Tensor:
        """The product without its activation, times another tensor: (..., K), (..., N) -> (..., N)"""
        return cast(Tensor, torch.ops.mkldnn._linear_pointwise.binary(given, other, self._packed, self.bias, "mul"))


class PackedGated(nn.Module):
    """`down(act(gate(x)) * up(x))`, the activation and the product with `up` inside of the products."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        gate, up, down, act = (module.get_submodule(name) for name in GATED)
        self.gate_proj = PackedLinear(*_weights(gate), applied=ACTIVATIONS[type(act)])
        self.up_proj = PackedLinear(*_weights(up))
        self.down_proj = PackedLinear(*_weights(down))

    def forward(self, given: Tensor) -> Tensor:
        """(..., D) -> (..., D)"""
        return cast(Tensor, self.down_proj(self.up_proj.times(given, self.gate_proj(given))))


def pack(module: nn.Module, *, answer: Callable[[], Tensor], kept: nn.Module | None = None) -> bool:
    """Pack the products of a module in place, if it then answers as before.

    Args:
        answer: computes its answer to some input.
        kept: a layer that stays as it is, since somebody else calls it.

    Returns:
        Whether it was done.
    """
    if not torch.backends.mkldnn.is_available():
        return False
    places = [place for place in _places(module) if place.layer is not kept]
    with torch.inference_mode():
        before = answer()
        try:
            for place in places:
                setattr(place.parent, place.name, place.packed())
                for weight in place.layer.parameters():  # or all weights stand in memory twice behind the last one
                    let_go_of_pages(weight.data_ptr(), weight.nbytes)
            after = answer()
            if torch.allclose(before, after, rtol=TOLERANCE, atol=TOLERANCE):
                _let_go_of_file(module)
                return bool(places)
        except UNFIT:
            pass
        for place in places:
            setattr(place.parent, place.name, place.layer)
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


@dataclass(frozen=True, kw_only=True)
class _Place:
    """A layer that is exchanged for something packed."""

    parent: nn.Module
    name: str
    layer: nn.Module
    packed: Callable[[], nn.Module]


def _places(module: nn.Module) -> Iterator[_Place]:
    """Every product that is worth it, and the activations that go into one."""
    inside: set[nn.Module] = set()
    for parent in module.modules():
        if parent in inside:
            continue
        children = dict(parent.named_children())
        for name, layer in children.items():
            if _is_gated(layer):
                inside.update(layer.modules())
                yield _Place(parent=parent, name=name, layer=layer, packed=partial(PackedGated, layer))
            elif _is_product(layer):
                act = FOLLOWED.get(name, "")
                applied = ACTIVATIONS.get(type(children.get(act)), Applied())  # type: ignore[arg-type]  # None is no key
                if applied.name != "none":
                    yield _Place(parent=parent, name=act, layer=children[act], packed=nn.Identity)
                made = partial(PackedLinear, *_weights(layer), applied=applied)
                yield _Place(parent=parent, name=name, layer=layer, packed=made)


def _is_product(layer: nn.Module) -> bool:
    return type(layer) in (nn.Linear, Conv1D) and min(_weights(layer)[0].shape) >= LEAST_SIDE


def _is_gated(layer: nn.Module) -> bool:
    children = dict(layer.named_children())
    return (
        sorted(children) == sorted(GATED)
        and type(children["act_fn"]) in ACTIVATIONS
        and all(_is_product(children[name]) for name in GATED[:3])
    )


def _weights(layer: nn.Module) -> tuple[Tensor, Tensor | None]:
    """W (N, K) and b of a layer; GPT-2's Conv1D keeps W transposed."""
    weight = cast(Tensor, layer.weight)
    turned = weight.T if type(layer) is Conv1D else weight
    return turned, cast(Tensor | None, layer.bias)
