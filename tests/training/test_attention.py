"""Attention by products is that of torch, forward and backward."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from lmtasks.model.create import Vocabulary, new_language_model
from lmtasks.training.attention import block_attention, use_blocks, use_default, whole_attention
from lmtasks.training.objectives import masked_loss, next_token_loss


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("length", [4, 64, 1024])
def test_products_are_attention(length: int, causal: bool) -> None:
    torch.manual_seed(0)
    given = [torch.randn(2, 3, length, 8, requires_grad=True) for _ in range(3)]
    wanted = functional.scaled_dot_product_attention(*given, is_causal=causal)
    found = (block_attention if causal else whole_attention)(*given, scale=8**-0.5)
    torch.testing.assert_close(found, wanted)
    out = torch.randn_like(wanted)
    for one, two in zip(torch.autograd.grad(found, given, out), torch.autograd.grad(wanted, given, out), strict=True):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize(
    ("family", "length", "loss_of"),
    [("llama", 257, next_token_loss), ("eurobert", 64, masked_loss), ("bert", 64, masked_loss)],
)
def test_a_compiled_step_by_products_has_the_loss_and_gradients_of_a_plain_one(
    family: str, length: int, loss_of: Callable[..., Tensor]
) -> None:
    torch.manual_seed(0)
    vocabulary = Vocabulary(size=50, bos=0, eos=0, pad=1)
    module = new_language_model(f"{family}:width=16,layers=1,heads=2,inner=16,context=256", vocabulary, seed=0)
    ids = torch.randint(0, 50, (2, length))
    batch = {"ids": ids, "labels": ids, "places": torch.tensor([[3, 40], [0, 63]])}
    loss_of(module, batch).backward()
    wanted = {name: parameter.grad.clone() for name, parameter in module.named_parameters()}
    module.zero_grad()
    use_blocks(module)
    explained = torch._dynamo.utils.counters
    before = explained["stats"]["unique_graphs"]
    loss = torch.compile(loss_of, dynamic=False, backend="aot_eager")(module, batch)
    assert explained["stats"]["unique_graphs"] == before + 1  # one graph, nothing fell back
    loss.backward()
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[name], msg=name, atol=1e-6, rtol=1e-4)
    use_default(module)
    assert module.hf.config._attn_implementation == "sdpa"
