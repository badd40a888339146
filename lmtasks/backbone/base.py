"""The interface of backbones, whether transformers computes them or a family of this folder.

Axes: B batch, T time, S new tokens, D width, V vocabulary.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional

from lmtasks.errors import UsageError
from lmtasks.settings.attention import ATTENTION_IN_WORDS, Attention
from lmtasks.settings.training import Role

Kind = Literal["causal", "encoder", "encoder-decoder"]
Pooling = Literal["mean", "last", "first", "max"]

State = tuple[Tensor, ...]
"""State of a decoder for B rows: tensors whose first axis is the rows, so that rows are picked, repeated and
dropped without knowing what they mean."""


@dataclass(frozen=True, kw_only=True)
class Traits:
    """Facts of a backbone that the rest of the line goes by."""

    kind: Kind
    family: str
    own_head: str = ""
    """The kind of the task head that a checkpoint brings along; empty: none."""
    own_labels: tuple[str, ...] = ()
    width: int
    vocabulary: int
    max_length_tokens: int
    takes_types: bool = False
    """Does it take segment ids?"""
    pad: int = 0
    """The token id at padded positions."""
    pooling: Pooling = "mean"
    """Which hidden state a new classification head reads."""
    learning_rate: float | None = None
    """The peak that suits a family of our own from random weights; None: by the size of the model."""
    by_transformers: bool = False
    """Is it a module of transformers, which decodes with a cache of keys and values?"""
    stateful: bool = False
    """Does it decode with a state of its own (`Decodes`)?"""


@dataclass(frozen=True, kw_only=True)
class Projection:
    """Next-token logits of hidden states by one matrix, (..., D) -> (..., V)."""

    weight: Tensor
    """(V, D)"""
    bias: Tensor | None
    """(V,)"""

    def __call__(self, hidden: Tensor) -> Tensor:
        """The logits, in the precision of `hidden`."""
        bias = None if self.bias is None else self.bias.to(hidden)
        return functional.linear(hidden, self.weight.to(hidden), bias)


class Backbone(nn.Module, ABC):
    """Token ids to hidden states; and to next-token logits, where the family is a language model."""

    traits: Traits

    @abstractmethod
    def encode(self, ids: Tensor, mask: Tensor, types: Tensor | None = None) -> Tensor:
        """Last hidden states, (B, T) -> (B, T, D); of the encoder, for an encoder-decoder. What stands at padded
        positions means nothing, and nothing depends on it."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write config.json and model.safetensors into a folder, which need not be there yet."""

    @abstractmethod
    def embeddings(self) -> nn.Embedding:
        """Embeddings of the tokens that are read."""

    @property
    def adapted(self) -> nn.Module:
        """The module that adapters stand in, and that their names begin at."""
        return self

    def adapt_places(self) -> Mapping[str, Role]:
        """Names of the matrices in `adapted` that adapters can stand beside, each with its role: of a linear layer the
        layer's name, of anything else the parameter's. Empty: it has embeddings alone."""
        return {}

    @property
    def attention(self) -> Attention:
        """How it reads where nobody asks for anything else; of an encoder-decoder, its encoder."""
        return "causal" if self.traits.kind == "causal" else "both"

    def why_not(self, attention: Attention) -> str:
        """Why it cannot read so, as a clause without a subject's name; empty: it can."""
        return "" if attention == self.attention else WHY_NOT[attention]

    def check_attention(self, attention: Attention) -> None:
        """Raises: UsageError: it cannot read so; the sentence says why."""
        why = self.why_not(attention)
        if why:
            raise UsageError(f"{self._named()} cannot read {ATTENTION_IN_WORDS[attention]}: {why}")

    def read(
        self, ids: Tensor, mask: Tensor, types: Tensor | None = None, *, attention: Attention | None = None
    ) -> Tensor:
        """Last hidden states as a head wants them, (B, T) -> (B, T, D); see `encode`.

        Args:
            attention: None: as the backbone reads by itself.

        Raises:
            UsageError: it cannot read so.
        """
        if attention is not None:
            self.check_attention(attention)
        return self.encode(ids, mask, types)

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """Next-token logits of a causal model, (B, T) -> (B, T, V); without a mask nothing is padding."""
        return self.project(self.encode(ids, torch.ones_like(ids, dtype=torch.bool) if mask is None else mask))

    def fill(self, ids: Tensor, places: Tensor) -> Tensor:
        """Logits of the tokens that were hidden, (B, T) and where they stand (B, N) -> (B, N, V); nothing is padding.
        A causal backbone reads both ways for that, and answers for a token at the place before it.

        Raises:
            UsageError: it is neither an encoder with a projection to hidden tokens, nor causal and read both ways.
        """
        del ids, places
        raise UsageError(f"{self._named()} fills in no hidden tokens; use an encoder that was pretrained masked.")

    def projection(self) -> Projection | None:
        """Hidden states -> logits. None: it is no language model, or its logits are more than one product (scaled,
        capped), so that only `forward` and `decode` yield them."""
        return None

    def project(self, hidden: Tensor) -> Tensor:
        """Next-token logits of hidden states, (..., D) -> (..., V).

        Raises:
            UsageError: the family has no projection.
        """
        projection = self.projection()
        if projection is None:
            raise UsageError(
                f"{self._named()} has no language-model projection; use {WRITERS} for generation and scoring."
            )
        return projection(hidden)

    def decoded(self, ids: Tensor, mask: Tensor, decoder_ids: Tensor) -> Tensor:
        """Hidden states behind each token that a decoder reads, (B, T) and (B, S) -> (B, S, D).

        Raises:
            UsageError: it is no encoder-decoder.
        """
        del ids, mask, decoder_ids
        raise UsageError(f"{self._named()} has no decoder; use an encoder-decoder.")

    def decode(self, ids: Tensor, mask: Tensor, decoder_ids: Tensor) -> Tensor:
        """Next-token logits behind each token that a decoder reads, (B, T) and (B, S) -> (B, S, V).

        Raises:
            UsageError: it is no encoder-decoder.
        """
        return self.project(self.decoded(ids, mask, decoder_ids))

    def own_logits(self, ids: Tensor, mask: Tensor, types: Tensor | None = None) -> Tensor:
        """Logits of the checkpoint's own task head: (B, C), (B, T, C), or (B, T, 2) for start and end.

        Raises:
            UsageError: it has none.
        """
        del ids, mask, types
        raise UsageError(f"{self._named()} has no task head of its own.")

    def _named(self) -> str:
        return f"a backbone of family {self.traits.family} ({self.traits.kind})"


WRITERS = "a causal or an encoder-decoder model"
WHY_NOT: Mapping[Attention, str] = {
    "causal": "the tokens of an encoder see those behind them, too; leave --attention out, or take a causal backbone.",
    "both": "it carries a state from each token to the next, so that a token knows of those before it alone; bilstm "
    "and bigru are families that read both ways.",
}
"""Of the families of this folder."""


@runtime_checkable
class Decodes(Protocol):
    """A language model with a state of its own, of any size that it likes. Rows are padded on the right."""

    def start(self, ids: Tensor, mask: Tensor) -> State:
        """Before the first token that is predicted: an encoder-decoder reads its sources, (B, T); a causal model reads
        nothing, and makes a state for B rows."""
        ...

    def next(self, state: State, ids: Tensor, mask: Tensor) -> tuple[Tensor, State]:
        """Read on, (B, S): hidden states (B, S, D) behind each token, and the state behind each row's last one."""
        ...

    def project(self, hidden: Tensor) -> Tensor:
        """Next-token logits of hidden states, (..., D) -> (..., V)."""
        ...
