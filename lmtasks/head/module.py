"""Heads in torch: their layers as modules, and the operators between them.

Axes: B batch, T time (tokens), D width, C outputs.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from lmtasks.head import HEADS
from lmtasks.head.base import SHUT_OUT, Head
from lmtasks.head.words import FIRST, MULTIPLIERS, PRIME, WordTable
from lmtasks.records import HeadSpec

DROPOUT = 0.1
WORDS = "words"
"""Of a head's modules, the one that holds its n-grams."""


@dataclass(frozen=True, kw_only=True)
class TokenRows:
    """The tokens that hidden states were made of."""

    ids: Tensor
    """(B, S)"""
    mask: Tensor
    """(B, S), True at real tokens."""


class HeadModule(nn.Module):
    """The weights of a head, freshly initialised, and its logits.

    Args:
        head: the kind of head.
        spec: the head itself.
        width: D of the hidden states.
        dropout: share of the numbers that are left out while it learns.
    """

    def __init__(self, head: Head, spec: HeadSpec, *, width: int, dropout: float = DROPOUT) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        for name, (inputs, outputs) in head.layers(spec, width=width).items():
            self.add_module(name, nn.Linear(inputs, outputs))
        if spec.words:
            self.add_module(WORDS, WordsModule(spec.words, head.outputs(spec)))
        self._head, self._spec = head, spec

    @property
    def word_table(self) -> WordTable | None:
        """Its n-grams and their weights; None where it has none."""
        words = self._modules.get(WORDS)
        return words.table() if isinstance(words, WordsModule) else None

    @property
    def last_layers(self) -> nn.ModuleList:
        """Layers that the logits are the sum of, where that is one linear layer, and maybe n-grams."""
        return nn.ModuleList(
            module for name, module in self.named_children() if name in (self._head.linear_layer, WORDS)
        )

    def set_words(self, spec: HeadSpec, table: WordTable | None) -> None:
        """Give it n-grams, or none, in place of those that it has.

        Args:
            spec: the head with their number.
        """
        self._spec = spec
        self._modules.pop(WORDS, None)
        if table is not None:
            words = WordsModule(spec.words, self._head.outputs(spec))
            words.load_state_dict(
                {
                    "weight": torch.from_numpy(table.weights),
                    "squares": torch.from_numpy(table.squares),
                    "slots": torch.from_numpy(table.slots),
                    "ngrams": torch.from_numpy(table.ngrams),
                }
            )
            self.add_module(WORDS, words.to(next(self.parameters()).device))

    def forward(self, hidden: Tensor, mask: Tensor, tokens: TokenRows | None = None) -> Tensor:
        """(B, T, D) and mask (B, T) -> (B, C) or (B, T, C); right under padding on either side.

        Args:
            tokens: of the same rows, for a head with words; pooled states are fewer than they.
        """
        logits = self._head.logits(TorchOperators(self, mask, tokens), hidden, self._spec)
        return logits.masked_fill(~mask.unsqueeze(-1), SHUT_OUT) if self._head.over_tokens else logits


class WordsModule(nn.Module):
    """The n-grams of a head: which of them stand in a text, and what they weigh (see `words`).

    Logistic regression finds their weights; no step moves them.

    Args:
        count: G, of the n-grams.
        outputs: C.
    """

    def __init__(self, count: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(count + 1, outputs), requires_grad=False)
        self.squares: Tensor
        self.slots: Tensor
        self.ngrams: Tensor
        self.register_buffer("squares", torch.zeros(count + 1))
        self.register_buffer("slots", torch.zeros(1, dtype=torch.int32))
        self.register_buffer("ngrams", torch.full((count + 1,), -1, dtype=torch.int64))

    def forward(self, tokens: TokenRows) -> Tensor:
        """(B, S) -> (B, C)"""
        ids, mask = tokens.ids, tokens.mask
        first = torch.cat([torch.zeros_like(ids), ids[:, :-1] + 1], dim=1)
        last = torch.cat([ids, ids[:, 1:]], dim=1)
        real = torch.cat([mask, mask[:, :-1] & mask[:, 1:]], dim=1)
        wanted = torch.where(real, first * FIRST + last, -1)
        rows = torch.zeros_like(wanted)
        for one, other in MULTIPLIERS:
            row = self.slots[(first * one + last * other) % PRIME % self.slots.shape[0]].long()
            rows = torch.where(self.ngrams[row] == wanted, row, rows)
        total = functional.embedding(rows, self.weight, padding_idx=0).sum(1)
        return total / self.squares[rows].sum(1, keepdim=True).clamp(min=1.0).sqrt()

    def table(self) -> WordTable:
        """As plain numbers."""
        return WordTable(
            slots=self.slots.cpu().numpy(),
            ngrams=self.ngrams.cpu().numpy(),
            weights=self.weight.detach().float().cpu().numpy(),
            squares=self.squares.float().cpu().numpy(),
        )

    def _load_from_state_dict(self, state_dict: Mapping[str, Tensor], prefix: str, *others: object) -> None:
        """As many slots as the saved table has; all else is as large as the head says."""
        saved = state_dict.get(f"{prefix}slots")
        if saved is not None:
            self.slots = torch.zeros_like(saved, device=self.slots.device)
        super()._load_from_state_dict(state_dict, prefix, *others)  # type: ignore[arg-type]


class TorchOperators:
    """`HeadOperators` over tensors.

    Args:
        module: holds the layers.
        mask: (B, T), True at real tokens.
        tokens: what the states were made of, for a head with words.
    """

    def __init__(self, module: HeadModule, mask: Tensor, tokens: TokenRows | None) -> None:
        self._module = module
        self._mask = mask
        self._tokens = tokens

    def dense(self, layer: str, x: Tensor) -> Tensor:
        """See `HeadOperators`."""
        found: Tensor = self._module.get_submodule(layer)(x)
        return found

    def dropout(self, x: Tensor) -> Tensor:
        """See `HeadOperators`."""
        found: Tensor = self._module.dropout(x)
        return found

    def gelu(self, x: Tensor) -> Tensor:
        """See `HeadOperators`."""
        return functional.gelu(x)

    def pool(self, hidden: Tensor, pooling: str) -> Tensor:
        """See `HeadOperators`."""
        return pooled(hidden, self._mask, pooling)

    def words(self, logits: Tensor) -> Tensor:
        """See `HeadOperators`.

        While the head learns they say nothing: they know the training rows by heart already, and would leave a backbone
        nothing to learn from.
        """
        if self._module.training:
            return logits
        assert self._tokens is not None  # whoever asks a head with words has them
        found: Tensor = self._module.get_submodule(WORDS)(self._tokens)
        return logits + found


def pooled(hidden: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """One state for each text, (B, T, D) and mask (B, T) -> (B, D): `mean` or `max` over real tokens, the `first` or
    `last` one."""
    if pooling == "mean":
        real = mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * real).sum(1) / real.sum(1).clamp(min=1.0)
    if pooling == "max":
        return hidden.masked_fill(~mask.unsqueeze(-1), torch.finfo(hidden.dtype).min).amax(1)
    places = torch.arange(mask.shape[1], device=mask.device)
    place = (
        torch.where(mask, places, -1).amax(1) if pooling == "last" else torch.where(mask, places, mask.shape[1]).amin(1)
    ).clamp(0, mask.shape[1] - 1)
    index = place[:, None, None].expand(-1, 1, hidden.shape[-1])
    return hidden.gather(1, index).squeeze(1)


def build_head(spec: HeadSpec, *, width: int) -> HeadModule | None:
    """The module of a head, freshly initialised; None for a head without weights.

    Raises:
        UsageError: no such kind of head.
    """
    head = HEADS.line(spec.kind)
    return HeadModule(head, spec, width=width) if head.predicts else None
