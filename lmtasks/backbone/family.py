"""The families that can be made new. One line of the table each.

A family with settings is written `llama:width=256,layers=6`; what is not set keeps the default of the table.
Nothing heavy is loaded before a backbone is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from lmtasks.backbone.closed_form import FITTED, is_fitted
from lmtasks.backbone.sizes import (
    AverageSizes,
    BidirectionalSizes,
    CnnSizes,
    RecurrentSizes,
    Sizes,
    TransformerSizes,
    Vocabulary,
    read_sizes,
)
from lmtasks.errors import UsageError, unknown

if TYPE_CHECKING:
    from lmtasks.backbone.base import Backbone, Kind

_Shape = TypeVar("_Shape", bound=Sizes)


@dataclass(frozen=True, kw_only=True)
class Family(Generic[_Shape]):
    """One kind of backbone that can be trained from nothing."""

    kind: Kind
    about: str
    sizes: _Shape
    """The defaults."""
    build: Callable[[_Shape, Vocabulary], Backbone]
    """With random weights."""
    build_masked: Callable[[_Shape, Vocabulary], Backbone] | None = None
    """An encoder with a projection to hidden tokens; None: it learns from labels alone."""
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
    family: Family[Sizes] = FAMILIES[name]
    if family.build_masked is None:
        fitting = ", ".join(key for key, item in FAMILIES.items() if item.kind != "encoder" or item.build_masked)
        raise UsageError(
            f"a backbone of family {name} predicts no tokens, so text alone teaches it nothing; use {fitting}."
        )
    return family.build_masked(sizes, vocabulary)


def build(name: str, sizes: Sizes, vocabulary: Vocabulary) -> Backbone:
    """A backbone of a known family and of its sizes."""
    family: Family[Sizes] = FAMILIES[name]
    return family.build(sizes, vocabulary)


def _llama(sizes: TransformerSizes, vocabulary: Vocabulary) -> Backbone:
    from lmtasks.backbone.hf_configs import llama

    return llama(sizes, vocabulary)


def _gpt2(sizes: TransformerSizes, vocabulary: Vocabulary) -> Backbone:
    from lmtasks.backbone.hf_configs import gpt2

    return gpt2(sizes, vocabulary)


def _bert(sizes: TransformerSizes, vocabulary: Vocabulary) -> Backbone:
    from lmtasks.backbone.hf_configs import bert

    return bert(sizes, vocabulary)


def _masked_bert(sizes: TransformerSizes, vocabulary: Vocabulary) -> Backbone:
    from lmtasks.backbone.hf_configs import masked_bert

    return masked_bert(sizes, vocabulary)


def _eurobert(sizes: TransformerSizes, vocabulary: Vocabulary) -> Backbone:
    from lmtasks.backbone.hf_configs import eurobert

    return eurobert(sizes, vocabulary)


def _masked_eurobert(sizes: TransformerSizes, vocabulary: Vocabulary) -> Backbone:
    from lmtasks.backbone.hf_configs import masked_eurobert

    return masked_eurobert(sizes, vocabulary)


def _t5(sizes: TransformerSizes, vocabulary: Vocabulary) -> Backbone:
    from lmtasks.backbone.hf_configs import t5

    return t5(sizes, vocabulary)


def _transformer(sizes: TransformerSizes, vocabulary: Vocabulary) -> Backbone:
    from lmtasks.backbone.hf_configs import transformer

    return transformer(sizes, vocabulary)


def _bart(sizes: TransformerSizes, vocabulary: Vocabulary) -> Backbone:
    from lmtasks.backbone.hf_configs import bart

    return bart(sizes, vocabulary)


def _average(sizes: AverageSizes, vocabulary: Vocabulary) -> Backbone:
    from lmtasks.backbone.average import Average

    return Average(sizes, vocabulary)


def _cnn(sizes: CnnSizes, vocabulary: Vocabulary) -> Backbone:
    from lmtasks.backbone.cnn import Cnn

    return Cnn(sizes, vocabulary)


def _recurrent(cell: str) -> Callable[[RecurrentSizes, Vocabulary], Backbone]:
    def make(sizes: RecurrentSizes, vocabulary: Vocabulary) -> Backbone:
        from lmtasks.backbone.recurrent import Recurrent

        return Recurrent(cell, sizes, vocabulary)

    return make


def _bidirectional(cell: str) -> Callable[[BidirectionalSizes, Vocabulary], Backbone]:
    def make(sizes: BidirectionalSizes, vocabulary: Vocabulary) -> Backbone:
        from lmtasks.backbone.bidirectional import Bidirectional

        return Bidirectional(cell, sizes, vocabulary)

    return make


def _attentive(cell: str) -> Callable[[BidirectionalSizes, Vocabulary], Backbone]:
    def make(sizes: BidirectionalSizes, vocabulary: Vocabulary) -> Backbone:
        from lmtasks.backbone.attentive import Attentive

        return Attentive(cell, sizes, vocabulary)

    return make


WORDS = "words:30000,lower"

FAMILIES: Mapping[str, Family] = {  # type: ignore[type-arg]  # each line has sizes of its own
    "average": Family(
        kind="encoder",
        about="averaged embeddings of tokens and of hashed pairs (fastText)",
        sizes=AverageSizes(),
        build=_average,
        tokenizer=WORDS,
    ),
    "cnn": Family(
        kind="encoder", about="convolution over embeddings (Kim 2014)", sizes=CnnSizes(), build=_cnn, tokenizer=WORDS
    ),
    "rnn": Family(
        kind="causal",
        about="recurrent language model (Elman), embeddings tied",
        sizes=RecurrentSizes(),
        build=_recurrent("rnn"),
    ),
    "lstm": Family(
        kind="causal", about="LSTM language model, embeddings tied", sizes=RecurrentSizes(), build=_recurrent("lstm")
    ),
    "gru": Family(
        kind="causal", about="GRU language model, embeddings tied", sizes=RecurrentSizes(), build=_recurrent("gru")
    ),
    "bilstm": Family(
        kind="encoder",
        about="LSTM in both directions",
        sizes=BidirectionalSizes(),
        build=_bidirectional("lstm"),
        tokenizer=WORDS,
    ),
    "bigru": Family(
        kind="encoder",
        about="GRU in both directions",
        sizes=BidirectionalSizes(),
        build=_bidirectional("gru"),
        tokenizer=WORDS,
    ),
    "lstm-attention": Family(
        kind="encoder-decoder",
        about="LSTM encoder and decoder with attention (Luong 2015)",
        sizes=BidirectionalSizes(layers=2),
        build=_attentive("lstm"),
    ),
    "gru-attention": Family(
        kind="encoder-decoder",
        about="GRU encoder and decoder with attention (Luong 2015)",
        sizes=BidirectionalSizes(layers=2),
        build=_attentive("gru"),
    ),
    "llama": Family(
        kind="causal",
        about="decoder with RMSNorm, rotary positions and a gated MLP",
        sizes=TransformerSizes(),
        build=_llama,
    ),
    "gpt2": Family(
        kind="causal", about="decoder with LayerNorm and learned positions", sizes=TransformerSizes(), build=_gpt2
    ),
    "bert": Family(
        kind="encoder",
        about="encoder with LayerNorm and learned positions",
        sizes=TransformerSizes(),
        build=_bert,
        build_masked=_masked_bert,
    ),
    "eurobert": Family(
        kind="encoder",
        about="llama with attention both ways (EuroBERT); begins from a llama's weights, too",
        sizes=TransformerSizes(),
        build=_eurobert,
        build_masked=_masked_eurobert,
    ),
    "transformer": Family(
        kind="encoder-decoder",
        about="the original encoder-decoder (Vaswani 2017): sinusoidal positions, LayerNorm behind, shared embeddings",
        sizes=TransformerSizes(layers=3),
        build=_transformer,
    ),
    "bart": Family(
        kind="encoder-decoder",
        about="encoder-decoder with learned positions and GELU",
        sizes=TransformerSizes(layers=3),
        build=_bart,
    ),
    "t5": Family(
        kind="encoder-decoder",
        about="encoder-decoder with relative positions and RMSNorm",
        sizes=TransformerSizes(layers=3),
        build=_t5,
    ),
}
