"""The graph that continues texts with a causal model."""

import inspect
from typing import TYPE_CHECKING

from lmtasks.errors import UsageError
from lmtasks.export.examples import LENGTH, PAST, cache_input, ids_input, mask_input
from lmtasks.export.trace import Traceable

if TYPE_CHECKING:
    from torch import Tensor
    from transformers.cache_utils import Cache

    from lmtasks.model.model import Model


def decoder_graph(model: "Model") -> Traceable:
    """ids (B, N), mask (B, P + N), past (B, heads, P, width) -> logits (B, V) of the last column, present.

    Positions are counted over the mask inside the graph. Prompts are left-padded, so that the last column is a token.
    """
    import torch
    from torch import Tensor, nn
    from transformers import DynamicCache

    layers = cache_shapes(model)
    last = {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(model.hf.forward).parameters else {}

    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
            ids, mask, *past = given
            called = self.model.transformer.inputs(ids, mask)
            if "position_ids" in called:
                called["position_ids"] = called["position_ids"][:, -ids.shape[1] :]
            cache = DynamicCache(pairs(past))
            output = self.model.hf(**called, past_key_values=cache, use_cache=True, **last)
            return output.logits[:, -1].to(torch.float32), *tensors(output.past_key_values)

    names = cache_names(len(layers))
    inputs = (
        ids_input("ids", vocabulary=model.card.vocabulary, columns=LENGTH, axis="new"),
        mask_input("mask", columns=PAST + LENGTH, axis="total"),
        *(
            cache_input(f"past_{name}", heads=heads, width=width, columns=PAST, axis="past")
            for name, (heads, width) in zip(names, (shape for layer in layers for shape in layer), strict=True)
        ),
    )
    return Traceable(module=Decoder(), inputs=inputs, outputs=("logits", *(f"present_{name}" for name in names)))


def cache_names(layers: int) -> list[str]:
    """The names of the cache's tensors, in order."""
    return [f"{part}.{layer}" for layer in range(layers) for part in ("key", "value")]


def tensors(cache: "Cache") -> "list[Tensor]":
    """The tensors of a cache, in the order of `cache_names`."""
    found: list[Tensor] = []
    for layer in cache.layers:
        found += [layer.keys, layer.values]  # type: ignore[list-item, union-attr]  # linear attention has neither
    return found


def pairs(past: "list[Tensor]") -> "list[tuple[Tensor, ...]]":
    """What a DynamicCache is made from."""
    return [(past[at], past[at + 1]) for at in range(0, len(past), 2)]


def cache_shapes(model: "Model") -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """For each layer: heads and width of its keys, and of its values. Found by running the model once."""
    import torch

    ids = torch.zeros((1, 2), dtype=torch.long)
    with torch.no_grad():
        output = model.hf(**model.transformer.inputs(ids, torch.ones_like(ids)), use_cache=True)
    cache = getattr(output, "past_key_values", None)
    if cache is None:
        raise UsageError(
            f"{model.card.name} ({model.card.family}) keeps no keys and values to decode with, and cannot be exported "
            "in this version; it stays with the torch runtime."
        )
    shapes = [(tensor.shape[1], tensor.shape[3]) for tensor in tensors(cache)]
    return list(zip(shapes[::2], shapes[1::2], strict=True))
