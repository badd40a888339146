"""How well each of several candidates goes with a text.

A candidate is read with the text before it, a row each, and gets one logit: how much more likely it is right than not.
Each row is learned by itself, so that batches need not keep a text's candidates together (Nogueira and Cho 2019,
https://arxiv.org/abs/1901.04085, rank passages so).

Axes: B batch, C outputs, here one; K candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lmtasks.errors import UsageError
from lmtasks.head.base import EncodedInput, EncodedRow, HeadTokenizer, PooledHead, Targets, beside_zero
from lmtasks.records import Bools, Choice, Floats32, HeadInput, HeadSpec, softmax_log

if TYPE_CHECKING:
    from torch import Tensor


class RankingHead(PooledHead):
    """A pooled hidden state of a text with a candidate to one logit."""

    def outputs(self, spec: HeadSpec) -> int:
        """One."""
        return 1

    def choices(self, logits: Floats32, mask: Bools) -> tuple[Floats32, ...]:
        """Each candidate beside 0, a wrong one, (B, 2)."""
        return (beside_zero(logits),)

    def loss(self, logits: Tensor, targets: Tensor, *, smoothing: float = 0.0) -> Tensor:
        """Mean binary cross-entropy of candidates (B, 1), one for the right one and zero for the others."""
        from torch.nn import functional

        wanted = targets.float() * (1 - smoothing) + smoothing / 2
        return functional.binary_cross_entropy_with_logits(logits.float(), wanted)

    def judged(self, logits: Tensor, targets: Tensor) -> tuple[float, int]:
        """Sum of nats, and candidates."""
        return float(self.loss(logits, targets)) * len(targets), len(targets)

    def score(self, right: float, count: int) -> float:
        """The geometric mean of the probabilities of what is right of each candidate."""
        return float(np.exp(-right / max(1, count)))

    def encode(
        self, given: HeadInput, *, tokenizer: HeadTokenizer, max_length: int, causal: bool = False
    ) -> EncodedInput:
        """A row for each candidate. Where both are too long, the text loses its beginning, which is farthest from what
        is to follow it; then the candidate its end.

        Raises:
            UsageError: `max_length` holds nothing of the text, or there are no candidates.
        """
        if not given.candidates:
            raise UsageError("a text without candidates cannot be answered by a ranking head.")
        rows = [_pair(given.first, each, tokenizer=tokenizer, max_length=max_length) for each in given.candidates]
        return RankedCandidates(given=given, rows=rows)


@dataclass(frozen=True, kw_only=True)
class RankedCandidates(EncodedInput):
    """A text with each of its candidates, and the number of the right one."""

    rows: Sequence[EncodedRow]

    def targets(self) -> Sequence[tuple[EncodedRow, Targets]]:
        """One for the right candidate, zero for the others; nothing where none is known to be right."""
        if self.given.label is None:
            return ()
        return [(row, (int(place == self.given.label),)) for place, row in enumerate(self.rows)]

    def outcome(self, logits: Sequence[Floats32], *, labels: Sequence[str], order: Sequence[int]) -> Choice:
        """How likely each candidate is the right one, from logits (1,) of each."""
        scores = softmax_log(np.array([row[0] for row in logits], dtype=np.float64))
        return Choice(
            gold=() if self.given.label is None else (self.given.label,),
            scores=tuple(scores.tolist()),
            chars=tuple(map(len, self.given.candidates)),
            bytes=tuple(len(each.encode()) for each in self.given.candidates),
        )


def _pair(first: str, second: str, *, tokenizer: HeadTokenizer, max_length: int) -> EncodedRow:
    encoded = tokenizer.encode_for_head(first, second)
    before, behind = ([place for place, text in enumerate(encoded.sequences) if text == number] for number in (0, 1))
    room = max_length - (len(encoded.ids) - len(before) - len(behind))
    if room < 0:
        raise UsageError(f"a length of {max_length} tokens holds no text besides the tokenizer's own tokens.")
    stays = min(len(behind), max(room - len(before), room // 2))
    dropped = {*behind[stays:], *before[: max(0, len(before) + stays - room)]}
    kept = [place for place in range(len(encoded.ids)) if place not in dropped]
    return EncodedRow(
        ids=tuple(encoded.ids[place] for place in kept),
        types=tuple(encoded.types[place] for place in kept),
        truncated=bool(dropped),
    )


RANKING = RankingHead(name="ranking", about="how well each of several texts goes with a text", labelled=False)
