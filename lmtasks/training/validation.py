"""Validation rows while a training goes on: its quality on them at a look, and which look's weights are kept.

Kept are the latest weights that no earlier ones are shown to be better than: their value lies within one standard error
of the difference to the highest (the rule of one standard error of Breiman et al. 1984, *Classification and regression
trees*, section 3.4.3, taken in pairs). Where validation rows are few, the highest value is mostly luck, and a training
whose rate has come down has learned most at its end; where they are many, the error is small and the rule is the
highest value.

>>> few = Validation(value=0.75, rows={"mood": (1.0, 1.0, 1.0, 0.0)})
>>> few.beats(Validation(value=0.5, rows={"mood": (1.0, 1.0, 0.0, 0.0)}))
False
>>> many = Validation(value=0.75, rows={"mood": few.rows["mood"] * 10})
>>> many.beats(Validation(value=0.5, rows={"mood": (1.0, 1.0, 0.0, 0.0) * 10}))
True
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from lmtasks.head.base import Head

ROUNDING = 1e-6
"""One row more that is right is one standard error, and no more."""


@dataclass(frozen=True, kw_only=True)
class Validation:
    """Quality of the module on data that is never trained on."""

    value: float
    """The number that the kept weights are chosen by."""
    rows: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """The score of every row, 0-1, by what is learned, always in the same order: the noise of the value. Empty: any
    difference counts."""
    parts: Mapping[str, float] = field(default_factory=dict)
    """Its parts by name, for the log."""
    losses: Mapping[str, float] = field(default_factory=dict)
    """The loss on the same rows, by what is learned, for the log: beside that of training it tells of overfitting."""

    def beats(self, other: "Validation", *, higher_is_better: bool = True) -> bool:
        """Is its value better by more than the standard error of the difference, were there none? Every part has an
        equal share in the value."""
        squares = 0.0
        for name, own in self.rows.items():
            differences = [one - two for one, two in zip(own, other.rows.get(name, own), strict=True)]
            squares += sum(each * each for each in differences) / max(1, len(differences)) ** 2
        noise = math.sqrt(squares) / max(1, len(self.rows))
        ahead = self.value - other.value if higher_is_better else other.value - self.value
        return ahead > noise * (1 + ROUNDING)


class JudgedRows:
    """The mean loss of a head and the score of each row, while batches are judged."""

    def __init__(self, head: Head) -> None:
        self.head = head
        self._sum, self._count = 0.0, 0
        self._scores: list[float] = []

    def over(self, batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
        """The same logits and targets, counted."""
        for logits, targets in batches:
            there = targets.to(logits.device)
            self._sum += float(self.head.loss(logits, there)) * len(targets)
            self._count += len(targets)
            self._scores += self.head.row_scores(logits, there)
            yield logits, targets

    @property
    def loss(self) -> float:
        """In nats, or as the head's loss counts."""
        return self._sum / max(1, self._count)

    @property
    def scores(self) -> Sequence[float]:
        """Scores in the order of the rows; empty where a row alone has none."""
        return [round(score, 5) for score in self._scores]
