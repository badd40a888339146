"""A vector for a text: the backbone's own states, pooled.

The head has no weights, so that a model answers before anything is adapted, and an adapted one has one way to read any
text. What is trained through it is the backbone, or adapters in it: two texts of a row are read apart from each other,
and their vectors are held against those of the other rows of the batch.

    right text of a query   cross-entropy of its cosine among those of all right texts of the batch, both ways round
                            (van den Oord et al. 2018, https://arxiv.org/abs/1807.03748); an equal text is none of them
    how alike two texts are log(1 + sum of exp(20 (cos_j - cos_i)) over pairs of rows of which i is more alike than j),
                            which asks for the order alone, on whatever scale the numbers are (Su 2022, CoSENT)

Axes: B batch, D width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from lmtasks.head.base import EncodedInput, EncodedRow, Head, HeadOperators, HeadTokenizer, Targets, Value
from lmtasks.head.classification import classification_row
from lmtasks.records import Floats, Floats32, HeadInput, HeadSpec, Quantity

if TYPE_CHECKING:
    from torch import Tensor

SHARPNESS = 20.0
"""By which cosines are multiplied before they are compared: a temperature of 0.05 (Gao et al. 2021, SimCSE)."""
NAME_BYTES = 7
"""Of the hash that stands for a text among the targets."""


class EmbeddingHead(Head):
    """A pooled hidden state as it is."""

    def outputs(self, spec: HeadSpec) -> int:
        """D."""
        return spec.width

    def layers(self, spec: HeadSpec, *, width: int) -> Mapping[str, tuple[int, int]]:
        """None."""
        return {}

    def logits(self, operators: HeadOperators[Value], hidden: Value, spec: HeadSpec) -> Value:
        """(B, T, D) -> (B, D)."""
        return operators.pool(hidden, spec.pooling)

    def loss(self, logits: Tensor, targets: Tensor, *, smoothing: float = 0.0) -> Tensor:
        """Loss of both texts of each row (B, 2, D), by a number for each row, how alike they are, or by the name of its
        second text, where that is the right one; targets (B, 1)."""
        import torch
        from torch.nn import functional

        first, second = functional.normalize(logits.float(), dim=-1).unbind(1)
        named = targets[:, 0]
        if named.is_floating_point():
            cosines = SHARPNESS * (first * second).sum(-1)
            more = named[:, None] > named[None, :]  # i is more alike than j
            apart = (cosines[None, :] - cosines[:, None])[more]
            return torch.cat([apart.new_zeros(1), apart]).logsumexp(0)
        table = SHARPNESS * first @ second.T
        equal = (named[:, None] == named[None, :]) & ~torch.eye(len(named), dtype=torch.bool, device=named.device)
        table = table.masked_fill(equal, torch.finfo(table.dtype).min)
        right = torch.arange(len(named), device=named.device)
        ways = [functional.cross_entropy(way, right, label_smoothing=smoothing) for way in (table, table.T)]
        return (ways[0] + ways[1]) / 2

    def judged(self, logits: Tensor, targets: Tensor) -> tuple[float, int]:
        """Sum of the loss, and rows."""
        return float(self.loss(logits, targets)) * len(targets), len(targets)

    def score(self, right: float, count: int) -> float:
        """exp(-loss)."""
        return float(np.exp(-right / max(1, count)))

    def row_scores(self, logits: Tensor, targets: Tensor) -> list[float]:
        """None: a text is right or wrong among others, and a likeness in their order."""
        return []

    def scored(self, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
        """Over all rows together: of numbers (1 + Spearman's correlation) / 2, of right texts the mean of one over the
        rank among those of all rows."""
        import torch

        parts = [(logits.float().cpu(), targets.cpu()) for logits, targets in batches]
        if not parts:
            return 0.0
        vectors = torch.cat([logits for logits, _ in parts]).numpy()
        targets = torch.cat([each for _, each in parts])
        first, second = unit(vectors[:, 0]), unit(vectors[:, 1])
        if targets.is_floating_point():
            return (1 + _rank_correlation((first * second).sum(axis=1), targets[:, 0].numpy())) / 2
        _, kept, own = np.unique(targets[:, 0].numpy(), return_index=True, return_inverse=True)
        table = first @ second[kept].T
        return float((1 / (table >= table[np.arange(len(own)), own][:, None]).sum(axis=1)).mean())

    def encode(
        self, given: HeadInput, *, tokenizer: HeadTokenizer, max_length: int, causal: bool = False
    ) -> EncodedInput:
        """A row for the text, and one for the other of a pair, or for the right one, each behind its prefix. A text
        that is too long loses its end."""
        query, found = given.prefixes
        texts = [query + given.first]
        if given.second is not None:  # neither of a pair is looked for
            texts.append(query + given.second)
        elif given.answers:
            texts.append(found + given.answers[0])
        rows = [classification_row(HeadInput(first=text), tokenizer=tokenizer, max_length=max_length) for text in texts]
        return TextVectors(given=given, rows=rows)


@dataclass(frozen=True, kw_only=True)
class TextVectors(EncodedInput):
    """A text, perhaps with another that is read apart from it."""

    rows: Sequence[EncodedRow]

    def targets(self) -> Sequence[tuple[EncodedRow, Targets]]:
        """Both texts as one row to learn from, with their number, or the name of the right text; nothing where neither
        is known."""
        if len(self.rows) < 2:
            return ()
        both = replace(self.rows[0], apart=self.rows[1])
        if self.given.number is not None:
            return [(both, (float(self.given.number),))]
        return [(both, (text_name(self.given.answers[0]),))] if self.given.answers else ()

    def outcome(self, logits: Sequence[Floats32], *, labels: Sequence[str], order: Sequence[int]) -> Quantity:
        """The cosine of two vectors (D,)."""
        first, second = unit(np.stack(logits[:2]).astype(np.float64))
        gold = self.given.number
        return Quantity(gold=float("nan") if gold is None else gold, prediction=float(first @ second))


def text_name(text: str) -> int:
    """A number that stands for a text: the beginning of the sha256 of its UTF-8."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:NAME_BYTES], "big")


def unit(vectors: Floats) -> Floats:
    """Vectors (N, D) at a length of one; those of no length stay as they are."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    found: Floats = vectors / np.where(lengths > 0, lengths, 1)
    return found


def _rank_correlation(one: Floats, two: Floats) -> float:
    """Spearman's; 0 where one side never changes."""
    from scipy.stats import rankdata

    left, right = (rankdata(side) - (len(side) + 1) / 2 for side in (one, two))
    size = float(np.sqrt((left @ left) * (right @ right)))
    return float(left @ right) / size if size else 0.0


EMBEDDING = EmbeddingHead(name="embedding", about="a vector for a text", labelled=False, vectors=True)
