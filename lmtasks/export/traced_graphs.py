"""Graphs that torch's exporter traces, for architectures that nothing builds block by block.

heads     ids, mask[, types] (B, T) -> `head.<name>` for each head, by one pass of the backbone; of heads that a causal
          backbone reads both ways for, `heads_both`
score     [source_ids, source_mask (B, S),] ids, mask (B, T) -> logprobs, greedy (B, T - 1); logits never leave it
encoder   the source and the decoder's first token -> logits (B, V), and caches: keys and values of the source are
          computed once
decoder   new tokens and caches -> logits (B, V) of the last column, and caches
"""

import inspect
from typing import TYPE_CHECKING

from lmtasks.errors import UsageError
from lmtasks.export.package import GraphName, heads_graph
from lmtasks.export.trace import LENGTH, PAST, SOURCE, Input, Traceable, cache_input, ids_input, mask_input

if TYPE_CHECKING:
    from torch import Tensor
    from transformers.cache_utils import Cache

    from lmtasks.model.model import Model


def traced_heads(model: "Model", graph: GraphName) -> Traceable | None:
    """ids, mask[, types], (B, T) -> `head.<name>` for each head of a graph; None where it has none."""
    from torch import Tensor, nn

    from lmtasks.head.module import TokenRows

    specs = [spec for spec in model.card.heads if spec.predicts and heads_graph(model.card, spec) == graph]
    names = tuple(spec.name for spec in specs)
    own = frozenset(spec.name for spec in specs if spec.pooling == "own")
    if not specs:
        return None
    attention = next((spec.attention for spec in specs if spec.pooling != "own"), None)

    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
            ids, mask, *rest = given
            types = rest[0] if rest else None
            hidden = None if own.issuperset(names) else self.model.encode(ids, mask, types, attention=attention)
            return tuple(
                self.model.head_logits(name, ids, mask, types)
                if name in own
                else self.model.head(name)(hidden, mask, TokenRows(ids=ids, mask=mask))
                for name in names
            )

    inputs: list[Input] = [
        ids_input("ids", vocabulary=model.card.vocabulary, columns=LENGTH, axis="length"),
        mask_input("mask", columns=LENGTH, axis="length"),
    ]
    if model.backbone.traits.takes_types:
        inputs.append(ids_input("types", vocabulary=2, columns=LENGTH, axis="length"))
    return Traceable(module=Heads(), inputs=tuple(inputs), outputs=tuple(f"head.{name}" for name in names))


def score_graph(model: "Model") -> Traceable:
    """[source_ids, source_mask (B, S),] ids, mask (B, T) -> logprobs, greedy (B, T - 1).

    The last column is scored, and never read, so a text may be one token longer than the model takes.
    """
    from torch import Tensor, nn

    class Score(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *given: Tensor) -> tuple[Tensor, Tensor]:
            *source, ids, mask = given
            read, real = ids[:, :-1], mask[:, :-1]
            if source:
                called = {
                    "input_ids": source[0],
                    "attention_mask": source[1].long(),
                    "decoder_input_ids": read,
                    "decoder_attention_mask": real.long(),
                }
            else:
                called = self.model.transformer.inputs(read, real)
            return _scores(self.model.hf(**called, use_cache=False).logits, ids[:, 1:])

    inputs = [
        ids_input("ids", vocabulary=model.card.vocabulary, columns=LENGTH, axis="length"),
        mask_input("mask", columns=LENGTH, axis="length"),
    ]
    if model.card.kind == "encoder-decoder":
        inputs = [
            ids_input("source_ids", vocabulary=model.card.vocabulary, columns=SOURCE, axis="source"),
            mask_input("source_mask", columns=SOURCE, axis="source"),
            *inputs,
        ]
    return Traceable(module=Score(), inputs=tuple(inputs), outputs=("logprobs", "greedy"))


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
            cache = DynamicCache(key_values(past))
            output = self.model.hf(**called, past_key_values=cache, use_cache=True, **last)
            return output.logits[:, -1].to(torch.float32), *cache_tensors(output.past_key_values)

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


def seq2seq_encoder_graph(model: "Model") -> Traceable:
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
                *cache_tensors(cache.self_attention_cache),
                *cache_tensors(cache.cross_attention_cache),
            )

    names = cache_names(len(_decoder_cache_shapes(model)) // 2)
    inputs = (
        ids_input("source_ids", vocabulary=model.card.vocabulary, columns=SOURCE, axis="source"),
        mask_input("source_mask", columns=SOURCE, axis="source"),
        ids_input("ids", vocabulary=model.card.vocabulary, columns=LENGTH, axis="new"),
    )
    outputs = ("logits", *(f"{part}_{name}" for part in ("present", "cross") for name in names))
    return Traceable(module=Encoder(), inputs=inputs, outputs=outputs)


def seq2seq_decoder_graph(model: "Model") -> Traceable:
    """ids (B, N), source_mask (B, S), past, cross (B, heads, P or S, width) -> logits (B, V), present."""
    import torch
    from torch import Tensor, nn
    from transformers.cache_utils import DynamicCache, EncoderDecoderCache
    from transformers.modeling_outputs import BaseModelOutput

    shapes = _decoder_cache_shapes(model)
    names = cache_names(len(shapes) // 2)

    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
            ids, mask, *caches = given
            half = len(caches) // 2
            cache = EncoderDecoderCache(
                DynamicCache(key_values(caches[:half])), DynamicCache(key_values(caches[half:]))
            )
            # Only the shape of the encoder's answer is read: its keys and values are in the cache already.
            encoded = torch.zeros(mask.shape[0], mask.shape[1], self.model.backbone.traits.width)
            output = self.model.hf(
                encoder_outputs=BaseModelOutput(last_hidden_state=encoded),
                attention_mask=mask.long(),
                decoder_input_ids=ids,
                past_key_values=cache,
                use_cache=True,
            )
            return output.logits[:, -1], *cache_tensors(cache.self_attention_cache)

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


def cache_names(layers: int) -> list[str]:
    """The names of the cache's tensors, in order."""
    return [f"{part}.{layer}" for layer in range(layers) for part in ("key", "value")]


def cache_tensors(cache: "Cache") -> "list[Tensor]":
    """The tensors of a cache, in the order of `cache_names`."""
    found: list[Tensor] = []
    for layer in cache.layers:
        found += [layer.keys, layer.values]  # type: ignore[list-item, union-attr]  # linear attention has neither
    return found


def key_values(past: "list[Tensor]") -> "list[tuple[Tensor, ...]]":
    """Keys and values by layer, as a DynamicCache is made from."""
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
    shapes = [(tensor.shape[1], tensor.shape[3]) for tensor in cache_tensors(cache)]
    return list(zip(shapes[::2], shapes[1::2], strict=True))


def _decoder_cache_shapes(model: "Model") -> list[tuple[int, int]]:
    """Heads and width of each tensor of the decoder's own cache. Found by running the model once."""
    import torch

    ids = torch.zeros((1, 2), dtype=torch.long)
    with torch.no_grad():
        cache = model.hf(input_ids=ids, decoder_input_ids=ids, use_cache=True).past_key_values
    return [(tensor.shape[1], tensor.shape[3]) for tensor in cache_tensors(cache.self_attention_cache)]


def _scores(logits: "Tensor", targets: "Tensor") -> "tuple[Tensor, Tensor]":
    # Written out: `logsumexp` becomes ReduceLogSumExp, which takes 15 times as long in onnxruntime.
    best = logits.amax(-1)
    given = logits.gather(2, targets[:, :, None])[:, :, 0]
    rest = (logits - best[:, :, None]).exp().sum(-1).log()
    return given - best - rest, given >= best
