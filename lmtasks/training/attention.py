"""Attention of a compiled training step on the CPU as plain products, which the compiler joins with what is between.

transformers 5.23 makes a mask of T x T wherever torch 2.13 compiles, and torch's CPU kernel then computes all of it.
Full windows need no mask: a causal layer attends in four blocks of queries, each against the keys that it may see, a
layer that looks both ways in one.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "lmtasks_blocks"
BLOCKS = 4
LEAST_TOKENS = 256
"""A causal row below this has too little to gain."""


def use_blocks(module: nn.Module) -> None:
    """Let a transformers module attend by products where it trains compiled; elsewhere it attends as before.

    Compiled, it must be given full rows of one text each: no padding, no positions of its own.
    """
    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, _mask)
    _switch(module, before="sdpa", after=NAME)


def use_default(module: nn.Module) -> None:
    """Take `use_blocks` back, before the module is saved."""
    _switch(module, before=NAME, after="sdpa")


def _switch(module: nn.Module, *, before: str, after: str) -> None:
    whole = next((part for part in module.modules() if isinstance(part, PreTrainedModel)), None)
    if whole is not None and whole.config._attn_implementation == before:
        whole.set_attn_implementation(after)


def block_attention(query: Tensor, key: Tensor, value: Tensor, *, scale: float) -> Tensor:
    """Causal attention, (B, H, T, D/H) -> (B, H, T, D/H); T is a multiple of `BLOCKS`."""
    size = query.shape[2] // BLOCKS
    future = torch.full((size, size), -torch.inf, device=query.device).triu(1)
    parts = []
    for start in range(0, query.shape[2], size):
        seen = start + size
        shut = nn.functional.pad(future, (start, 0))
        parts.append(_mixed(query[:, :, start:seen] * scale, key[:, :, :seen], value[:, :, :seen], shut))
    return torch.cat(parts, dim=2)


def whole_attention(query: Tensor, key: Tensor, value: Tensor, *, scale: float) -> Tensor:
    """Attention both ways, (B, H, T, D/H) -> (B, H, T, D/H)."""
    return _mixed(query * scale, key, value)


def _mixed(query: Tensor, key: Tensor, value: Tensor, shut: Tensor | None = None) -> Tensor:
    """Values by the softmax of products, which is divided by its sum behind the product with the values: D/H numbers a
    query instead of T. `shut` is added to the products."""
    scores = (query @ key.transpose(-1, -2)).float()
    if shut is not None:
        scores = scores + shut
    weights = (scores - scores.amax(-1, keepdim=True).detach()).exp()
    mixed = weights.to(value.dtype) @ value
    return (mixed.float() / weights.sum(-1, keepdim=True)).to(value.dtype)


def _mask(*, attention_mask: Tensor | None = None, **others: Any) -> Tensor | None:
    if attention_mask is None and torch.compiler.is_compiling():
        return None
    return sdpa_mask(attention_mask=attention_mask, **others)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **others: Any,  # transformers hands every attention whatever any of them may want
) -> tuple[Tensor, None]:
    length, causal = query.shape[2], others.get("is_causal", getattr(module, "is_causal", False))
    plain = attention_mask is None and query.shape == key.shape and not dropout and query.device.type == "cpu"
    fits = not causal or (length >= LEAST_TOKENS and length % BLOCKS == 0)
    if plain and fits and torch.compiler.is_compiling():
        scale = scaling if scaling is not None else 1 / math.sqrt(query.shape[-1])
        attend = block_attention if causal else whole_attention
        return attend(query, key, value, scale=scale).transpose(1, 2), None
    return sdpa_attention_forward(  # type: ignore[no-any-return]
        module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **others
    )
