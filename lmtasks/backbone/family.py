"""The families that can be made new, and the sizes that a new one gets. One line of the table each.

A family with settings is written `llama:width=256,layers=6`; what is not set keeps the default below.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from lmtasks.errors import UsageError, unknown

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """The shape of a new backbone, in the words that all families share."""

    width: int = 256
    layers: int = 6
    heads: int = 4
    inner: int = 640
    """Width of the feed-forward layer."""
    context: int = 512
    """Longest input in tokens."""
    dropout: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """What a new backbone must know of its tokenizer."""

    size: int
    bos: int | None
    eos: int | None
    pad: int


@dataclass(frozen=True, kw_only=True)
class Family:
    """One kind of backbone that can be trained from nothing."""

    kind: str
    about: str
    config: Callable[[Sizes, Vocabulary], PreTrainedConfig]


def parse_family(text: str) -> tuple[str, Sizes]:
    """`llama:width=128,layers=2` -> ("llama", Sizes(...)).

    Raises:
        UsageError: unknown family or setting, or a value that is not a number.
    """
    name, _, settings = text.partition(":")
    if name not in FAMILIES:
        raise unknown("backbone family", name, FAMILIES)
    sizes = Sizes()
    known = {field.name: field.type for field in fields(Sizes)}
    for item in filter(None, settings.split(",")):
        key, _, value = item.partition("=")
        if key not in known:
            raise unknown("setting of a backbone", key, known, hint=f"Written as {name}:width=128,layers=2.")
        try:
            number = float(value) if key == "dropout" else int(value)
        except ValueError:
            raise UsageError(f"{text!r}: {key} must be a number, was {value!r}.") from None
        sizes = replace(sizes, **{key: number})  # type: ignore[arg-type]  # the key was checked against the fields
    if sizes.width % sizes.heads:
        raise UsageError(f"{text!r}: width must be a multiple of heads, was {sizes.width} with {sizes.heads} heads.")
    return name, sizes


def _llama(sizes: Sizes, vocabulary: Vocabulary) -> PreTrainedConfig:
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=vocabulary.size,
        hidden_size=sizes.width,
        intermediate_size=sizes.inner,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.heads,
        max_position_embeddings=sizes.context,
        attention_dropout=sizes.dropout,
        tie_word_embeddings=True,
        bos_token_id=vocabulary.bos,
        eos_token_id=vocabulary.eos,
        pad_token_id=vocabulary.pad,
    )


def _gpt2(sizes: Sizes, vocabulary: Vocabulary) -> PreTrainedConfig:
    from transformers import GPT2Config

    return GPT2Config(
        vocab_size=vocabulary.size,
        n_embd=sizes.width,
        n_inner=sizes.inner,
        n_layer=sizes.layers,
        n_head=sizes.heads,
        n_positions=sizes.context,
        resid_pdrop=sizes.dropout,
        embd_pdrop=sizes.dropout,
        attn_pdrop=sizes.dropout,
        bos_token_id=vocabulary.bos,
        eos_token_id=vocabulary.eos,
        pad_token_id=vocabulary.pad,
    )


FAMILIES: Mapping[str, Family] = {
    "llama": Family(kind="causal", about="decoder with RMSNorm, rotary positions and a gated MLP", config=_llama),
    "gpt2": Family(kind="causal", about="decoder with LayerNorm and learned positions", config=_gpt2),
}
