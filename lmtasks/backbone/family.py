"""The families that can be made new, with their sizes. One line of the table each.

A family with settings is written `llama:width=256,layers=6`; what is not set keeps the default of the table.
Nothing heavy is loaded before a backbone is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from lmtasks.backbone.closed_form import FITTED, is_fitted
from lmtasks.backbone.sizes import NO_LIMIT, Sizes, Vocabulary, read_sizes
from lmtasks.errors import UsageError, unknown

if TYPE_CHECKING:
    from lmtasks.backbone.base import Backbone, Kind


@dataclass(frozen=True, kw_only=True)
class TransformerSizes(Sizes):
    """Settings of all transformers families."""

    layers: int = 6
    heads: int = 4
    inner: int = 640
    """Width of the feed-forward layer."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % self.heads:
            raise UsageError(f"width must be a multiple of heads, was {self.width} with {self.heads} heads.")


@dataclass(frozen=True, kw_only=True)
class OwnSizes(Sizes):
    """Settings of the families of this folder."""

    word_dropout: float = 0.0
    """Share of the vocabulary that a training step does not see."""


@dataclass(frozen=True, kw_only=True)
class AverageSizes(OwnSizes):
    """Settings of averaged embeddings."""

    width: int = 50
    context: int = NO_LIMIT
    buckets: int = 200_000
    """Vectors that all pairs of neighbours share, by a hash; 0: single tokens only."""


@dataclass(frozen=True, kw_only=True)
class CnnSizes(OwnSizes):
    """Settings of a convolution over embeddings."""

    width: int = 128
    """Width of the embeddings."""
    filters: int = 100
    """Number of each width."""
    widths: tuple[int, ...] = (3, 4, 5)
    """Tokens that a filter looks at."""
    dropout: float = 0.5
    context: int = NO_LIMIT


@dataclass(frozen=True, kw_only=True)
class RecurrentSizes(OwnSizes):
    """Settings of recurrent families; dropout is variational, one mask for all times."""

    width: int = 200
    layers: int = 2
    dropout: float = 0.3
    context: int = NO_LIMIT


@dataclass(frozen=True, kw_only=True)
class BidirectionalSizes(RecurrentSizes):
    """Settings of those that read both ways, half of the width for each."""

    width: int = 256
    layers: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % 2:
            raise UsageError(f"width must be even, half of it for each way, was {self.width}.")


@dataclass(frozen=True, kw_only=True)
class Family:
    """One kind of backbone that can be trained from nothing."""

    kind: Kind
    about: str
    sizes: Sizes
    """The defaults."""
    made_by: str
    """`module:name` of a callable (sizes, vocabulary) -> backbone with random weights. It is imported when it is
    called, so that the table loads nothing heavy."""
    made_masked_by: str = ""
    """The same for an encoder with a projection to hidden tokens; empty: it learns from labels alone."""
    tokenizer: str = "bpe:8000"
    """The tokenizer that suits it, where nobody asks for another and words stand apart (`data.spacing`)."""


def is_family(text: str) -> bool:
    """Does this name a family that can be made new, with settings or without?"""
    return text.partition(":")[0] in FAMILIES or is_fitted(text)


def parse_family(text: str) -> tuple[str, Sizes]:
    """`llama:width=128,layers=2` -> ("llama", its sizes).

    Raises:
        UsageError: unknown family or setting, or a value that does not fit.
    """
    name = text.partition(":")[0]
    if name in FITTED:
        raise UsageError(f"{name} {FITTED[name].why_no_steps}; `lmtasks adapt` fits it to tasks.")
    if name not in FAMILIES:
        raise unknown("backbone family", name, [*FAMILIES, *FITTED])
    return name, read_sizes(text, FAMILIES[name].sizes)


def new_backbone(text: str, vocabulary: Vocabulary) -> Backbone:
    """A backbone with random weights, drawn from torch's generator.

    Raises:
        UsageError: as `parse_family`.
    """
    name, sizes = parse_family(text)
    return build(name, sizes, vocabulary)


def new_masked_backbone(text: str, vocabulary: Vocabulary) -> Backbone:
    """An encoder with random weights that predicts hidden tokens.

    Raises:
        UsageError: as `parse_family`, or the family predicts no tokens.
    """
    name, sizes = parse_family(text)
    if not FAMILIES[name].made_masked_by:
        fitting = ", ".join(key for key, item in FAMILIES.items() if item.kind != "encoder" or item.made_masked_by)
        raise UsageError(
            f"a backbone of family {name} predicts no tokens, so text alone teaches it nothing; use {fitting}."
        )
    return _made(FAMILIES[name].made_masked_by, sizes, vocabulary)


def build(name: str, sizes: Sizes, vocabulary: Vocabulary) -> Backbone:
    """A backbone of a known family and of its sizes."""
    return _made(FAMILIES[name].made_by, sizes, vocabulary)


def _made(maker: str, sizes: Sizes, vocabulary: Vocabulary) -> Backbone:
    module, _, name = maker.partition(":")
    make: Callable[[Sizes, Vocabulary], Backbone] = getattr(import_module(module), name)
    return make(sizes, vocabulary)


WORDS = "words:30000,lower"

FAMILIES: Mapping[str, Family] = {
    "average": Family(
        kind="encoder",
        about="averaged embeddings of tokens and of hashed pairs (fastText)",
        sizes=AverageSizes(),
        made_by="lmtasks.backbone.average:Average",
        tokenizer=WORDS,
    ),
    "cnn": Family(
        kind="encoder",
        about="convolution over embeddings (Kim 2014)",
        sizes=CnnSizes(),
        made_by="lmtasks.backbone.cnn:Cnn",
        tokenizer=WORDS,
    ),
    "rnn": Family(
        kind="causal",
        about="recurrent language model (Elman), embeddings tied",
        sizes=RecurrentSizes(),
        made_by="lmtasks.backbone.recurrent:rnn",
    ),
    "lstm": Family(
        kind="causal",
        about="LSTM language model, embeddings tied",
        sizes=RecurrentSizes(),
        made_by="lmtasks.backbone.recurrent:lstm",
    ),
    "gru": Family(
        kind="causal",
        about="GRU language model, embeddings tied",
        sizes=RecurrentSizes(),
        made_by="lmtasks.backbone.recurrent:gru",
    ),
    "bilstm": Family(
        kind="encoder",
        about="LSTM in both directions",
        sizes=BidirectionalSizes(),
        made_by="lmtasks.backbone.bidirectional:bilstm",
        tokenizer=WORDS,
    ),
    "bigru": Family(
        kind="encoder",
        about="GRU in both directions",
        sizes=BidirectionalSizes(),
        made_by="lmtasks.backbone.bidirectional:bigru",
        tokenizer=WORDS,
    ),
    "lstm-attention": Family(
        kind="encoder-decoder",
        about="LSTM encoder and decoder with attention (Luong 2015)",
        sizes=BidirectionalSizes(layers=2),
        made_by="lmtasks.backbone.attentive:lstm_attention",
    ),
    "gru-attention": Family(
        kind="encoder-decoder",
        about="GRU encoder and decoder with attention (Luong 2015)",
        sizes=BidirectionalSizes(layers=2),
        made_by="lmtasks.backbone.attentive:gru_attention",
    ),
    "llama": Family(
        kind="causal",
        about="decoder with RMSNorm, rotary positions and a gated MLP",
        sizes=TransformerSizes(),
        made_by="lmtasks.backbone.hf_configs:llama",
    ),
    "gpt2": Family(
        kind="causal",
        about="decoder with LayerNorm and learned positions",
        sizes=TransformerSizes(),
        made_by="lmtasks.backbone.hf_configs:gpt2",
    ),
    "bert": Family(
        kind="encoder",
        about="encoder with LayerNorm and learned positions",
        sizes=TransformerSizes(),
        made_by="lmtasks.backbone.hf_configs:bert",
        made_masked_by="lmtasks.backbone.hf_configs:masked_bert",
    ),
    "eurobert": Family(
        kind="encoder",
        about="llama with attention both ways (EuroBERT); begins from a llama's weights, too",
        sizes=TransformerSizes(),
        made_by="lmtasks.backbone.hf_configs:eurobert",
        made_masked_by="lmtasks.backbone.hf_configs:masked_eurobert",
    ),
    "transformer": Family(
        kind="encoder-decoder",
        about="the original encoder-decoder (Vaswani 2017): sinusoidal positions, LayerNorm behind, shared embeddings",
        sizes=TransformerSizes(layers=3),
        made_by="lmtasks.backbone.hf_configs:transformer",
    ),
    "bart": Family(
        kind="encoder-decoder",
        about="encoder-decoder with learned positions and GELU",
        sizes=TransformerSizes(layers=3),
        made_by="lmtasks.backbone.hf_configs:bart",
    ),
    "t5": Family(
        kind="encoder-decoder",
        about="encoder-decoder with relative positions and RMSNorm",
        sizes=TransformerSizes(layers=3),
        made_by="lmtasks.backbone.hf_configs:t5",
    ),
}
