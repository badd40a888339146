"""A model: one backbone shared by many heads."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from lmtasks.backbone.base import Backbone, Decodes, Projection, State
from lmtasks.errors import UsageError, unknown
from lmtasks.head.module import HeadModule, TokenRows, build_head
from lmtasks.head.words import WordTable
from lmtasks.records import HeadSpec, ModelCard
from lmtasks.settings.attention import Attention

__all__ = ["Decodes", "Model", "Projection", "State"]

if TYPE_CHECKING:
    from lmtasks.backbone.transformer import TransformerBackbone

WRITES = (
    "{name} is answered by a head that writes, token by token, and what is not written yet nobody can read: it never "
    "reads both ways; leave the attention out, or make it causal."
)


class Model(nn.Module):
    """One backbone and its heads, in memory once.

    Args:
        backbone: shared by all heads.
        card: what identifies the model; its `heads` say which heads there are.
        folder: where `tokenizer.json` lies.

    Raises:
        UsageError: a head wants the backbone to read as it cannot.
    """

    def __init__(self, backbone: Backbone, *, card: ModelCard, folder: Path) -> None:
        super().__init__()
        self.backbone = backbone
        self.card = card
        self.folder = folder
        self.heads = nn.ModuleList()
        self._places: dict[str, int] = {}
        for spec in card.answering:
            self._add(spec)

    @property
    def transformer(self) -> "TransformerBackbone":
        """The backbone as a module of transformers.

        Raises:
            UsageError: it is a family of our own, which transformers does not know.
        """
        if not self.backbone.traits.by_transformers:
            raise UsageError(f"{self.card.name} is of family {self.card.family}, which is no transformers model.")
        return cast("TransformerBackbone", self.backbone)

    @property
    def hf(self) -> nn.Module:
        """The transformers module, for its key-value cache and for export."""
        return self.transformer.hf

    def spec(self, name: str) -> HeadSpec:
        """The head of that name."""
        for spec in self.card.answering:
            if spec.name == name:
                return spec
        raise unknown("head", name, [spec.name for spec in self.card.heads])

    def head(self, name: str) -> HeadModule:
        """The weights of a head; a head without weights, and a checkpoint's own, have none here."""
        self.spec(name)
        return cast("HeadModule", self.heads[self._places[name]])

    def set_words(self, name: str, table: WordTable | None) -> None:
        """Give a head n-grams, or none, in place of those that it has."""
        spec = replace(self.spec(name), words=0 if table is None else len(table.ngrams) - 1)
        self.card = replace(self.card, heads=tuple(spec if each.name == name else each for each in self.card.heads))
        self.head(name).set_words(spec, table)

    def add_heads(self, specs: Sequence[HeadSpec]) -> None:
        """Give the model new heads, freshly initialised."""
        self.card = replace(self.card, heads=(*self.card.heads, *specs))
        for spec in specs:
            self._add(spec)

    def encode(
        self, ids: Tensor, mask: Tensor, types: Tensor | None = None, *, attention: Attention | None = None
    ) -> Tensor:
        """Hidden states, (B, T) -> (B, T, D), read as a head wants them (`HeadSpec.attention`)."""
        return self.backbone.read(ids, mask, types, attention=attention)

    def head_logits(self, name: str, ids: Tensor, mask: Tensor, types: Tensor | None = None) -> Tensor:
        """Logits of one head: (B, C) for classification, (B, T, C) for tagging, (B, T, 2) for span."""
        (logits,) = self.heads_logits((name,), ids, mask, types)
        return logits

    def heads_logits(
        self, names: Sequence[str], ids: Tensor, mask: Tensor, types: Tensor | None = None
    ) -> list[Tensor]:
        """Logits of several heads over the same rows; the backbone reads them once for all that are read alike."""
        states: dict[Attention, Tensor] = {}
        found: list[Tensor] = []
        for name in names:
            spec = self.spec(name)
            if spec.pooling == "own":
                found.append(self.backbone.own_logits(ids, mask, types))
                continue
            way = self.card.attention_of(spec)
            if way not in states:
                states[way] = self.encode(ids, mask, types, attention=spec.attention)
            found.append(self.head(name)(states[way], mask, TokenRows(ids=ids, mask=mask)))
        return found

    def lm_logits(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Next-token logits at every position of a causal model, (B, T) -> (B, T, V)."""
        logits: Tensor = self.backbone(ids, mask)
        return logits

    def written(self, ids: Tensor, mask: Tensor, decoder_ids: Tensor | None = None) -> Tensor:
        """Hidden states that next-token logits are made of, (B, T) -> (B, T, D); or behind each of the decoder's
        tokens, (B, S) -> (B, S, D)."""
        if decoder_ids is None:
            return self.encode(ids, mask)
        return self.backbone.decoded(ids, mask, decoder_ids)

    def projection(self) -> Projection | None:
        """The matrix that makes next-token logits of hidden states; None where only the model itself does."""
        return self.backbone.projection()

    @property
    def decoder(self) -> Decodes | None:
        """The backbone, where it decodes with a state of its own."""
        return self.backbone if self.backbone.traits.stateful and isinstance(self.backbone, Decodes) else None

    def carried(self, ids: Tensor) -> State:
        """The first state of a causal model with a state of its own, before rows like these (B, T)."""
        return self._carrier().start(ids, torch.ones_like(ids, dtype=torch.bool))

    def carry(self, state: State, ids: Tensor) -> tuple[Tensor, State]:
        """Read on in rows without padding, (B, T): hidden states (B, T, D), and the state behind them."""
        return self._carrier().next(state, ids, torch.ones_like(ids, dtype=torch.bool))

    def forward(
        self,
        ids: Tensor,
        mask: Tensor,
        head: str,
        types: Tensor | None = None,
        decoder_ids: Tensor | None = None,
        decoder_mask: Tensor | None = None,
    ) -> Tensor:
        """Logits for a training: of a head; of the language model for a generation head; vectors (B, 2, D) of rows of
        two texts that are read apart."""
        if self.spec(head).predicts:
            logits = self.head_logits(head, ids, mask, types)
            if decoder_ids is None or decoder_mask is None:
                return logits
            apart = None if types is None else torch.zeros_like(decoder_ids)
            return torch.stack([logits, self.head_logits(head, decoder_ids, decoder_mask, apart)], dim=1)
        if decoder_ids is None:
            return self.lm_logits(ids, mask)
        return self.backbone.decode(ids, mask, decoder_ids)

    def _carrier(self) -> Decodes:
        if self.decoder is None:
            raise UsageError(f"{self.card.name} ({self.card.family}) has no state of its own that could be carried.")
        return self.decoder

    def _add(self, spec: HeadSpec) -> None:
        if not spec.predicts and spec.attention == "both":
            raise UsageError(WRITES.format(name=spec.name))
        if spec.attention is not None:
            self.backbone.check_attention(spec.attention)
        module = None if spec.pooling == "own" else build_head(spec, width=self.backbone.traits.width)
        if module is not None:
            self._places[spec.name] = len(self.heads)
            self.heads.append(module)
