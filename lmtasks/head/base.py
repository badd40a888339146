"""A kind of head: everything that it means behind a model.

A head is linear layers over hidden states, and a few operators between them. `Head.logits` writes them down once, and
both torch (`module.py`) and the graphs of a package (`lmtasks/export/emitters/heads.py`) carry the operators out.
Nothing here loads torch: a package answers without it.

Axes: B batch, T time (tokens), D width, C outputs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from lmtasks.records import Bools, Choice, EncodedText, Floats32, HeadInput, HeadSpec, LabelSet, Quantity, Text

if TYPE_CHECKING:
    from torch import Tensor

IGNORED = -100
"""Target of a position that is not learned: a prompt, padding, the later pieces of a word."""
SHUT_OUT = -1e4
"""Logit of a padded position where the tokens of a text compete; no softmax sees it."""

HeadOutcome = Choice | Text | LabelSet | Quantity
Targets = tuple[int, ...] | tuple[float, ...]
"""A fixed number of them a row, or one a token; `IGNORED` where nothing is learned."""

Value = TypeVar("Value")
"""A tensor, or a value of a graph."""


class HeadOperators(Protocol[Value]):
    """The operators that heads are built of."""

    def dense(self, layer: str, x: Value) -> Value:
        """One of the head's linear layers: (..., in) -> (..., out)."""
        ...

    def dropout(self, x: Value) -> Value:
        """Leaves some numbers out while the head learns; else nothing."""
        ...

    def gelu(self, x: Value) -> Value:
        """The exact one, by the error function."""
        ...

    def pool(self, hidden: Value, pooling: str) -> Value:
        """One state for each text, (B, T, D) -> (B, D): `mean` or `max` over real tokens, the `first` or `last` one."""
        ...

    def words(self, logits: Value) -> Value:
        """Adds what the n-grams of each text say of it (`words.WordTable`), (B, C)."""
        ...


class HeadTokenizer(Protocol):
    """The part of `lmtasks.data.tokenizer.Tokenizer` that heads need."""

    @property
    def eos(self) -> int | None:
        """The end token."""
        ...

    def encode_for_head(self, first: str, second: str | None = None) -> EncodedText:
        """One text or two with what the tokenizer adds."""
        ...


@dataclass(frozen=True, kw_only=True)
class EncodedRow:
    """Tokens that a head reads at once."""

    ids: tuple[int, ...]
    """(T,)"""
    types: tuple[int, ...]
    """(T,) segment ids."""
    truncated: bool
    """Was something cut off?"""
    apart: EncodedRow | None = None
    """A text that is read apart from this one while both are learned from."""


@dataclass(frozen=True, kw_only=True)
class EncodedInput(ABC):
    """One example as a head reads it, which knows what to learn from its rows, and what logits of them mean."""

    given: HeadInput
    rows: Sequence[EncodedRow]

    @abstractmethod
    def targets(self) -> Sequence[tuple[EncodedRow, Targets]]:
        """The rows that can be learned from, each with its targets in the task's own unit."""

    def unaligned(self) -> tuple[str, ...]:
        """Pieces of the right answer that no tokens stand for exactly, so that it is never given as it is; `targets`
        has the nearest ones, or nothing."""
        return ()

    @abstractmethod
    def outcome(self, logits: Sequence[Floats32], *, labels: Sequence[str], order: Sequence[int]) -> HeadOutcome:
        """The answer.

        Args:
            logits: of each row, in the shape of `Head.shape`, as `Head.answers` has them.
            labels: those of the task.
            order: for each of them its place among the logits.
        """


@dataclass(frozen=True, kw_only=True)
class Head(ABC):
    """One kind of head. Its facts are the fields of a value, its behaviour the methods of its class."""

    name: str
    about: str
    """One line for people."""
    per_token: bool = False
    """One answer a token, (B, T, C)? Else one a text, (B, C)."""
    over_tokens: bool = False
    """Do the tokens of a text compete for each output? Else the outputs do, for each text or token."""
    labelled: bool = True
    """Has it one output for each label?"""
    linear_layer: str = ""
    """The one layer that its logits are a product of pooled or single states with, so that logistic regression finds
    its weights; empty: there is more to it."""
    softmax: bool = False
    """Is the softmax of its logits a share of right answers, which a temperature can bring into line?"""
    predicts: bool = True
    """Has it logits of its own? Else the backbone's projection writes its answers."""
    vectors: bool = False
    """Are its logits the backbone's own states, pooled? Then it has no weights, and answers before it has learned."""

    @property
    def takes_words(self) -> bool:
        """May the n-grams of a text have weights beside those of its pooled state?"""
        return bool(self.linear_layer) and not self.per_token

    @property
    def padding(self) -> float:
        """Logit of a padded position."""
        return SHUT_OUT if self.over_tokens else 0.0

    def outputs(self, spec: HeadSpec) -> int:
        """C."""
        return len(spec.labels)

    def shape(self, spec: HeadSpec, *, tokens: int) -> tuple[int, ...]:
        """Shape of the logits of a row: (C,), or (T, C)."""
        return (tokens, self.outputs(spec)) if self.per_token else (self.outputs(spec),)

    def choices(self, logits: Floats32, mask: Bools) -> tuple[Floats32, ...]:
        """Logits of a batch as tables, (choices to make, what is chosen from): a softmax over the last axis of each
        says how likely an answer is. Padded positions are left out.

        Args:
            logits: (B, C), or (B, T, C).
            mask: (B, T)
        """
        if not self.per_token:
            return (logits,)
        real = [row[seen] for row, seen in zip(logits, mask, strict=True)]  # (tokens, C) each
        return tuple(np.ascontiguousarray(row.T) if self.over_tokens else row for row in real)

    def fitted(self, spec: HeadSpec, targets: Sequence[Targets]) -> HeadSpec:
        """The head with what it must know of its training rows beforehand: nothing, but for one that answers with
        numbers.

        Args:
            targets: of the training rows, in the task's own unit.

        Raises:
            UsageError: rows that teach it nothing.
        """
        del targets
        return spec

    def learned(self, spec: HeadSpec, targets: Targets) -> Targets:
        """The targets in the unit of the logits, from those in the task's own."""
        del spec
        return targets

    def answers(self, spec: HeadSpec, logits: Floats32) -> Floats32:
        """The logits of a row in the task's own unit."""
        del spec
        return logits

    @abstractmethod
    def layers(self, spec: HeadSpec, *, width: int) -> Mapping[str, tuple[int, int]]:
        """Its linear layers, each with the numbers that it reads and yields; freshly initialised in this order."""

    @abstractmethod
    def logits(self, operators: HeadOperators[Value], hidden: Value, spec: HeadSpec) -> Value:
        """Hidden states (B, T, D) to logits (B, C) or (B, T, C), whatever stands at padded positions."""

    @abstractmethod
    def loss(self, logits: Tensor, targets: Tensor, *, smoothing: float = 0.0) -> Tensor:
        """Mean cross-entropy in nats.

        Args:
            targets: (B, number of targets), `IGNORED` where nothing is learned.
            smoothing: share of a target that all answers divide among themselves (Szegedy et al. 2016).
        """

    @abstractmethod
    def judged(self, logits: Tensor, targets: Tensor) -> tuple[float, int]:
        """How much of the targets is right, and how many are judged; sums, so that batches can be added up."""

    def score(self, right: float, count: int) -> float:
        """The 0-1 score of validation rows by the sums of `judged`; higher is better."""
        return right / max(1, count)

    def row_scores(self, logits: Tensor, targets: Tensor) -> list[float]:
        """The score of every row of a batch alone; empty where a row alone has none."""
        return [self.score(*self.judged(logits[row : row + 1], targets[row : row + 1])) for row in range(len(targets))]

    def scored(self, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
        """The score of validation rows by the logits and targets of their batches."""
        right, total = 0.0, 0
        for logits, targets in batches:
            good, count = self.judged(logits, targets.to(logits.device))
            right, total = right + good, total + count
        return self.score(right, total)

    @abstractmethod
    def encode(
        self, given: HeadInput, *, tokenizer: HeadTokenizer, max_length: int, causal: bool = False
    ) -> EncodedInput:
        """The rows of tokens of one example.

        Args:
            max_length: longest row in tokens.
            causal: does the model see the past only?

        Raises:
            UsageError: `max_length` holds nothing of the text.
        """


class PooledHead(Head):
    """A head of one layer over one pooled state of a text."""

    def layers(self, spec: HeadSpec, *, width: int) -> Mapping[str, tuple[int, int]]:
        """One, D -> C."""
        return {"output": (width, self.outputs(spec))}

    def logits(self, operators: HeadOperators[Value], hidden: Value, spec: HeadSpec) -> Value:
        """(B, T, D) -> (B, C); dropout on the pooled state."""
        logits = operators.dense("output", operators.dropout(operators.pool(hidden, spec.pooling)))
        return operators.words(logits) if spec.words else logits


def beside_zero(logits: Floats32) -> Floats32:
    """Each logit as a choice between it and 0, (B, C) -> (B x C, 2)."""
    alone = logits.reshape(-1, 1)
    return np.concatenate([alone, np.zeros_like(alone)], axis=1)


def first_tokens(encoded: EncodedText, counts: Sequence[int]) -> list[int]:
    """Positions that stay when of each text only its first so many tokens do, and of added tokens all."""
    left = list(counts)
    keep: list[int] = []
    for position, sequence in enumerate(encoded.sequences):
        if sequence >= 0:
            left[sequence] -= 1
        if sequence < 0 or left[sequence] >= 0:
            keep.append(position)
    return keep
