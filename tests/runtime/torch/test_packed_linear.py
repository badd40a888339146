"""Packed products: the same numbers, or the layers as they were."""

import pytest
import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN, SiLUActivation
from transformers.pytorch_utils import Conv1D

from lmtasks.runtime.torch.packed_linear import PackedGated, PackedLinear, pack, packed_product

needs_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"),
    reason="this torch has no oneDNN",
)


class Block(nn.Module):
    """Two kinds of product, one too small to be packed, and a table that stays."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 64)
        self.first = nn.Linear(64, 96)
        self.second = Conv1D(64, 96)
        self.small = nn.Linear(64, 2, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        """(T,) -> (T, 2)"""
        return self.small(self.second(torch.relu(self.first(self.table(ids)))))  # type: ignore[no-any-return]


@needs_onednn
def test_a_packed_module_answers_as_before() -> None:
    torch.manual_seed(0)
    block, ids = Block().eval(), torch.arange(50)
    with torch.inference_mode():
        before = block(ids)
        assert pack(block, answer=lambda: block(ids[:3]))
        assert [type(layer) for layer in (block.first, block.second, block.small)] == [
            PackedLinear, PackedLinear, nn.Linear
        ]  # fmt: skip
        assert torch.allclose(block(ids), before, atol=1e-5)


@needs_onednn
def test_a_layer_that_somebody_else_calls_stays() -> None:
    block = Block().eval()
    assert pack(block, answer=lambda: block(torch.arange(3)), kept=block.first)
    assert type(block.first) is nn.Linear
    assert type(block.second) is PackedLinear


class ReadsItsWeights(Block):
    """Calls no layer, but multiplies with the weight itself, as some models do."""

    def forward(self, ids: Tensor) -> Tensor:
        """(T,) -> (T, 96)"""
        return self.table(ids) @ self.first.weight.t()  # .T of a vector is deprecated


def test_a_model_that_reads_its_weights_keeps_them() -> None:
    block, ids = ReadsItsWeights().eval(), torch.arange(5)
    layers = (block.first, block.second)
    before = block(ids)
    assert not pack(block, answer=lambda: block(ids))
    assert (block.first, block.second) == layers
    assert torch.equal(block(ids), before)


@needs_onednn
@pytest.mark.parametrize("bias", [True, False])
def test_one_product(bias: bool) -> None:
    layer = nn.Linear(64, 128, bias=bias)
    product = packed_product(layer.weight, layer.bias, otherwise=layer)
    given = torch.randn(2, 3, 64)
    with torch.inference_mode():
        assert torch.allclose(product(given), layer(given), atol=1e-5)
    assert isinstance(product, PackedLinear)


def test_a_product_that_disagrees_is_not_taken() -> None:
    layer, other = nn.Linear(64, 64), nn.Linear(64, 64)
    assert packed_product(layer.weight, layer.bias, otherwise=other) is other


class Gated(nn.Module):
    """A feed-forward layer as Llama has it."""

    def __init__(self) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = nn.Linear(64, 96, bias=False), nn.Linear(64, 96)
        self.down_proj = nn.Linear(96, 64)
        self.act_fn = SiLUActivation()

    def forward(self, given: Tensor) -> Tensor:
        """(..., 64) -> (..., 64)"""
        return self.down_proj(self.act_fn(self.gate_proj(given)) * self.up_proj(given))  # type: ignore[no-any-return]


class Upside(Gated):
    """Has the same layers and computes something else."""

    def forward(self, given: Tensor) -> Tensor:
        """(..., 64) -> (..., 64)"""
        return self.down_proj(self.gate_proj(given) * self.act_fn(self.up_proj(given)))  # type: ignore[no-any-return]


@needs_onednn
@pytest.mark.parametrize(("made", "fits"), [(Gated, True), (Upside, False)])
def test_a_gate_goes_into_the_products_where_that_is_what_the_layer_computes(made: type[Gated], fits: bool) -> None:
    torch.manual_seed(0)
    model, given = nn.Sequential(made()).eval(), torch.randn(3, 7, 64)
    with torch.inference_mode():
        before = model(given)
        assert pack(model, answer=lambda: model(given)) == fits
        assert type(model[0]) is (PackedGated if fits else made)
        assert torch.allclose(model(given), before, atol=1e-5)


class Followed(nn.Module):
    """A product with an activation behind it, named as transformers does."""

    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.c_fc, self.act, self.c_proj = Conv1D(96, 64), act, Conv1D(64, 96)

    def forward(self, given: Tensor) -> Tensor:
        """(..., 64) -> (..., 64)"""
        return self.c_proj(self.act(self.c_fc(given)))  # type: ignore[no-any-return]


@needs_onednn
@pytest.mark.parametrize("name", ["gelu", "gelu_new", "gelu_pytorch_tanh", "silu", "relu", "quick_gelu"])
def test_an_activation_goes_into_the_product_before_it_where_onednn_knows_it(name: str) -> None:
    torch.manual_seed(0)
    model, given = Followed(ACT2FN[name]).eval(), 3 * torch.randn(3, 7, 64)
    with torch.inference_mode():
        before = model(given)
        assert pack(model, answer=lambda: model(given))
        assert isinstance(model.act, nn.Identity) == (name != "quick_gelu")
        assert torch.allclose(model(given), before, atol=1e-5)
