"""The two graphs of an encoder-decoder: `encoder` reads the source and the decoder's first token, `decoder` goes on.

The keys and values of the source are computed once, by the first graph, and given to the second one at every step.
"""

from typing import TYPE_CHECKING

from lmtasks.export.decoder import cache_names, pairs, tensors
from lmtasks.export.examples import LENGTH, PAST, SOURCE, cache_input, ids_input, mask_input
from lmtasks.export.trace import Traceable

if TYPE_CHECKING:
    from lmtasks.model.model import Model


def encoder_graph(model: "Model") -> Traceable:
    """source_ids, source_mask (B, S), ids (B, N) -> logits (B, V) of the last column, present, cross."""
    from torch import Tensor, nn

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
            source, mask, ids = given
            output = self.model.hf(input_ids=source, attention_mask=mask.long(), decoder_input_ids=ids, use_cache=True)
            cache = output.past_key_values
            return (
                output.logits[:, -1],
                *tensors(cache.self_attention_cache),
                *tensors(cache.cross_attention_cache),
            )

    names = cache_names(len(_shapes(model)) // 2)
    inputs = (
        ids_input("source_ids", vocabulary=model.card.vocabulary, columns=SOURCE, axis="source"),
        mask_input("source_mask", columns=SOURCE, axis="source"),
        ids_input("ids", vocabulary=model.card.vocabulary, columns=LENGTH, axis="new"),
    )
    outputs = ("logits", *(f"{part}_{name}" for part in ("present", "cross") for name in names))
    return Traceable(module=Encoder(), inputs=inputs, outputs=outputs)


def pair_decoder_graph(model: "Model") -> Traceable:
    """ids (B, N), source_mask (B, S), past, cross (B, heads, P or S, width) -> logits (B, V), present."""
    import torch
    from torch import Tensor, nn
    from transformers.cache_utils import DynamicCache, EncoderDecoderCache
    from transformers.modeling_outputs import BaseModelOutput

    shapes = _shapes(model)
    names = cache_names(len(shapes) // 2)

    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
            ids, mask, *caches = given
            half = len(caches) // 2
            cache = EncoderDecoderCache(DynamicCache(pairs(caches[:half])), DynamicCache(pairs(caches[half:])))
            # Only the shape of the encoder's answer is read: its keys and values are in the cache already.
            encoded = torch.zeros(mask.shape[0], mask.shape[1], self.model.backbone.traits.width)
            output = self.model.hf(
                encoder_outputs=BaseModelOutput(last_hidden_state=encoded),
                attention_mask=mask.long(),
                decoder_input_ids=ids,
                past_key_values=cache,
                use_cache=True,
            )
            return output.logits[:, -1], *tensors(cache.self_attention_cache)

    inputs = [
        ids_input("ids", vocabulary=model.card.vocabulary, columns=LENGTH, axis="new"),
        mask_input("source_mask", columns=SOURCE, axis="source"),
    ]
    for part, columns, axis in (("past", PAST, "past"), ("cross", SOURCE, "source")):
        inputs += [
            cache_input(f"{part}_{name}", heads=heads, width=width, columns=columns, axis=axis)
            for name, (heads, width) in zip(names, shapes, strict=True)
        ]
    return Traceable(module=Decoder(), inputs=tuple(inputs), outputs=("logits", *(f"present_{name}" for name in names)))


def _shapes(model: "Model") -> list[tuple[int, int]]:
    """Heads and width of each tensor of the decoder's own cache. Found by running the model once."""
    import torch

    ids = torch.zeros((1, 2), dtype=torch.long)
    with torch.no_grad():
        cache = model.hf(input_ids=ids, decoder_input_ids=ids, use_cache=True).past_key_values
    return [(tensor.shape[1], tensor.shape[3]) for tensor in tensors(cache.self_attention_cache)]
