"""Causal attention of a compiled training step on the CPU, in blocks of queries.

transformers 5.23 makes a mask of T x T wherever torch 2.13 compiles, and torch's CPU kernel then computes all of it.
Full windows need no mask. Four blocks of queries, each against the keys that it may see, are plain products that the
compiler joins with what stands between them.
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
"""A row below this has too little to gain."""


def use_blocks(module: nn.Module) -> None:
    """Let a transformers module attend in blocks where it trains compiled; elsewhere it attends as before.

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
    """Causal attention, (B, H, T, D/H) -> (B, H, T, D/H); T is a multiple of `BLOCKS`.

    The softmax is divided by its sum behind the product with the values: D/H numbers a query instead of T.
    """
    size = query.shape[2] // BLOCKS
    future = torch.full((size, size), -torch.inf, device=query.device).triu(1)
    parts = []
    for start in range(0, query.shape[2], size):
        seen = start + size
        scores = ((query[:, :, start:seen] * scale) @ key[:, :, :seen].transpose(-1, -2)).float()
        scores = scores + nn.functional.pad(future, (start, 0))
        weights = (scores - scores.amax(-1, keepdim=True).detach()).exp()
        mixed = weights.to(value.dtype) @ value[:, :, :seen]
        parts.append((mixed.float() / weights.sum(-1, keepdim=True)).to(value.dtype))
    return torch.cat(parts, dim=2)


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
    length = query.shape[2]
    fits = length >= LEAST_TOKENS and length % BLOCKS == 0 and query.shape == key.shape and not dropout
    causal = attention_mask is None and getattr(module, "is_causal", False)
    if fits and causal and query.device.type == "cpu" and torch.compiler.is_compiling():
        scale = scaling if scaling is not None else 1 / math.sqrt(query.shape[-1])
        return block_attention(query, key, value, scale=scale).transpose(1, 2), None
    return sdpa_attention_forward(  # type: ignore[no-any-return]
        module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **others
    )
