"""Objectives of learning from plain text. One line of the table each.

A row is a window of token ids; what stands in it is hidden and asked for as the row's own random stream says, so that
a row is the same whenever and wherever it is made. Every row of a length hides equally many tokens: the mean over a
batch is then the mean over its parts, on however many processes they lie.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from lmtasks.data.tokenizer import MASK, Tokenizer
from lmtasks.errors import UsageError, unknown
from lmtasks.model.create import Backbone
from lmtasks.records import Ints
from lmtasks.settings.training import HIDDEN
from lmtasks.training.stepping import Batch
from lmtasks.training.teacher import TARGETS, TeacherModule

NOT_ASKED = -100
"""Label of a position that nothing is predicted for."""
SPAN_TOKENS = 3
"""Mean length of a hidden span."""
SHARE_HIDDEN = 0.15
"""Share of the tokens that are hidden, where nobody says another one (Devlin et al. 2019; Raffel et al. 2020)."""


@dataclass(frozen=True, kw_only=True)
class Marks:
    """The tokens that stand for what is hidden, and those that never are."""

    vocabulary: int
    share: float
    """Share of a row's tokens that are hidden."""
    end: int
    start: int
    """The token that a decoder reads first."""
    mask: int
    spans: tuple[int, ...]
    """One for each hidden span, in their order."""
    kept: tuple[int, ...]
    """Special tokens, which are not hidden."""


@dataclass(frozen=True, kw_only=True)
class Objective:
    """One way to learn from text."""

    about: str
    kind: Literal["causal", "encoder", "encoder-decoder"]
    """The kind of backbone that learns so."""
    marks: Callable[[int, float], tuple[str, ...]]
    """Special tokens that windows of so many tokens, of which a share is hidden, need in the vocabulary."""
    row: Callable[[Ints, Marks, np.random.Generator], Mapping[str, Ints]]
    """A window of T + 1 ids -> what the module reads and is asked."""
    loss: Callable[[Backbone, Batch], Tensor]
    """Mean cross-entropy in nats of what is asked."""
    asked: Callable[[Mapping[str, Ints]], int]
    """Number of tokens of a row that are asked for."""
    turns: tuple["Objective", ...] = ()
    """Those that the parts of a step take in turn, over one set of weights; empty: all parts learn this one."""

    @property
    def both_ways(self) -> bool:
        """Does a token see those behind it while this is learned? Not where parts take turns: each says it itself."""
        return self.loss in {masked_loss, span_loss}

    @property
    def hides(self) -> bool:
        """Does it ask for tokens that are hidden?"""
        return self.marks is not _no_marks

    def for_part(self, part: int) -> "Objective":
        """The objective of a part of a step."""
        return self.turns[part % len(self.turns)] if self.turns else self


def objective_for(name: str | None, *, kind: str, family: str) -> tuple[str, Objective]:
    """The objective of that name, or the one that suits the kind of backbone.

    Raises:
        UsageError: no such objective, or the family cannot learn it.
    """
    if name is None:
        name = next((key for key, item in OBJECTIVES.items() if item.kind == kind), "")
    if name not in OBJECTIVES:
        raise unknown("objective", name, OBJECTIVES)
    if OBJECTIVES[name].kind != kind:
        fitting = ", ".join(key for key, item in OBJECTIVES.items() if item.kind == kind)
        raise UsageError(
            f"{family} is a backbone of kind {kind}: it cannot learn the objective {name!r}; use {fitting}."
        )
    return name, OBJECTIVES[name]


def share_hidden(given: float | None, name: str) -> float:
    """The share of the tokens that an objective hides; one that hides none never looks at it.

    Raises:
        UsageError: a share that is none, or one for an objective that hides nothing.
    """
    if given is not None and not HIDDEN.holds(given):
        raise UsageError(f"--hide {HIDDEN.complaint(given, given=given)}.")
    if given is not None and not OBJECTIVES[name].hides:
        hiding = ", ".join(key for key, item in OBJECTIVES.items() if item.hides)
        raise UsageError(f"--hide goes with {hiding}; {name} hides nothing.")
    return SHARE_HIDDEN if given is None else given


def marks_of(tokenizer: Tokenizer, objective: Objective, *, window: int, share: float) -> Marks:
    """The special tokens of an objective in a vocabulary that has them."""
    vocabulary = tokenizer.raw.get_vocab(with_added_tokens=True)
    ids = [vocabulary[token] for token in objective.marks(window, share)]
    end = tokenizer.eos if tokenizer.eos is not None else tokenizer.pad
    special = {end, tokenizer.pad, *ids, *([tokenizer.bos] if tokenizer.bos is not None else [])}
    return Marks(
        vocabulary=tokenizer.vocabulary,
        share=share,
        end=end,
        start=tokenizer.pad,
        mask=ids[0] if ids else end,
        spans=tuple(ids),
        kept=tuple(sorted(special)),
    )


def make_batch(rows: Sequence[Mapping[str, Ints]]) -> dict[str, Tensor]:
    """Rows of equal lengths as tensors, (B, ...)."""
    return {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}


class ObjectiveModule(nn.Module):
    """A backbone whose forward pass is the loss of its objective: what the loop trains, compiles and wraps.

    Args:
        teacher: what batches that hold a teacher's targets are held against.
        weight: of that, beside the objective's nats.
    """

    def __init__(
        self, backbone: Backbone, objective: Objective, teacher: TeacherModule | None = None, *, weight: float = 1.0
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.objective = objective
        self.teacher = teacher
        self.weight = weight

    def forward(self, batch: Batch) -> Tensor:
        """Mean loss of a batch: nats, and the teacher's part."""
        loss = self.objective.loss(self.backbone, batch)
        if self.teacher is None or TARGETS not in batch:
            return loss
        taught: Tensor = self.teacher(self.backbone, batch)
        return loss + self.weight * taught


def objective_loss(runner: nn.Module, batch: Batch) -> Tensor:
    """Loss as the loop calls it: the runner is an `ObjectiveModule`, perhaps wrapped."""
    loss: Tensor = runner(batch)
    return loss


def next_token_loss(backbone: Backbone, batch: Batch) -> Tensor:
    """`ids` is (B, T + 1): of each token the next."""
    ids = batch["ids"]
    logits = backbone(ids[:, :-1])
    return functional.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten())


def masked_loss(backbone: Backbone, batch: Batch) -> Tensor:
    """`ids` and `labels` are (B, T), `places` (B, N): where something is asked."""
    logits = backbone.fill(batch["ids"], batch["places"])
    asked = batch["labels"].gather(1, batch["places"])
    return functional.cross_entropy(logits.flatten(0, 1).float(), asked.flatten())


def mixed_loss(backbone: Backbone, batch: Batch) -> Tensor:
    """A part of a step whose rows hide tokens, or one whose rows do not."""
    return masked_loss(backbone, batch) if "places" in batch else next_token_loss(backbone, batch)


def span_loss(backbone: Backbone, batch: Batch) -> Tensor:
    """`ids` is (B, S) for the encoder, `decoder_ids` and `labels` are (B, T)."""
    ids = batch["ids"]
    logits = backbone.decode(ids, torch.ones_like(ids, dtype=torch.bool), batch["decoder_ids"])
    return functional.cross_entropy(logits.flatten(0, 1).float(), batch["labels"].flatten())


def next_token_row(ids: Ints, marks: Marks, random: np.random.Generator) -> Mapping[str, Ints]:
    """The window as it is."""
    del marks, random
    return {"ids": ids}


def masked_row(ids: Ints, marks: Marks, random: np.random.Generator) -> Mapping[str, Ints]:
    """Hide a share of the tokens: of ten eight by the mask, one by any token, one not at all (Devlin et al., 2019)."""
    return _masked(ids[:-1], marks, random, first=0)


def masked_next_row(ids: Ints, marks: Marks, random: np.random.Generator) -> Mapping[str, Ints]:
    """The same for a causal backbone, which answers for a token at the place before it: the first is never hidden."""
    return _masked(ids[:-1], marks, random, first=1)


def _masked(ids: Ints, marks: Marks, random: np.random.Generator, *, first: int) -> Mapping[str, Ints]:
    count = max(1, round(marks.share * len(ids)))
    # Special tokens come last, and are hidden only where there is nothing else.
    chosen = (
        first + np.argsort(random.random(len(ids) - first) + np.isin(ids[first:], marks.kept), kind="stable")[:count]
    )
    labels = np.full(len(ids), NOT_ASKED, dtype=np.int64)
    labels[chosen] = ids[chosen]
    how = random.random(count)
    shown = np.where(
        how < 0.8, marks.mask, np.where(how < 0.9, random.integers(0, marks.vocabulary, count), ids[chosen])
    )
    hidden = ids.copy()
    hidden[chosen] = shown
    return {"ids": hidden, "labels": labels, "places": np.sort(chosen)}


def span_row(ids: Ints, marks: Marks, random: np.random.Generator) -> Mapping[str, Ints]:
    """Hide a share of the tokens in spans of 3 on average; the decoder writes them, each behind its span's mark.

    As in T5 (Raffel et al., 2020, section 3.1.4): the spans that are kept and those that are hidden take turns, cut
    at random places; a mark stands for each hidden one, and an end token behind both sides.
    """
    ids = ids[:-1]
    hidden_tokens, spans = _hidden(len(ids), marks.share)
    kept_lengths = _cut(len(ids) - hidden_tokens, spans, random)
    hidden_lengths = _cut(hidden_tokens, spans, random)
    encoder: list[Ints] = []
    decoder: list[Ints] = []
    place = 0
    for number in range(spans):
        mark = np.asarray([marks.spans[number]])
        hidden_from = place + kept_lengths[number]
        encoder += [ids[place:hidden_from], mark]
        place = hidden_from + hidden_lengths[number]
        decoder += [mark, ids[hidden_from:place]]
    end = np.asarray([marks.end])
    labels = np.concatenate([*decoder, end])
    return {
        "ids": np.concatenate([*encoder, end]),
        "decoder_ids": np.concatenate([[marks.start], labels[:-1]]),
        "labels": labels,
    }


def _hidden(length: int, share: float) -> tuple[int, int]:
    """Tokens and spans that a row of `length` tokens hides; there is always something hidden and something kept."""
    tokens = min(max(1, round(share * length)), length - 1)
    return tokens, min(max(1, round(tokens / SPAN_TOKENS)), length - tokens)


def _cut(total: int, parts: int, random: np.random.Generator) -> list[int]:
    """`total` as a sum of `parts` positive numbers, every such sum equally likely."""
    cuts = np.sort(random.choice(np.arange(1, total), size=parts - 1, replace=False)) if parts > 1 else np.empty(0, int)
    return [int(length) for length in np.diff(np.concatenate([[0], cuts, [total]]))]


def _no_marks(window: int, share: float) -> tuple[str, ...]:
    del window, share
    return ()


def _mask(window: int, share: float) -> tuple[str, ...]:
    del window, share
    return (MASK,)


def _span_marks(window: int, share: float) -> tuple[str, ...]:
    return tuple(f"<extra_id_{number}>" for number in range(_hidden(window, share)[1]))


def _labels(row: Mapping[str, Ints]) -> int:
    return int((row["labels"] != NOT_ASKED).sum())


CAUSAL = Objective(
    about="of each token the next",
    kind="causal",
    marks=_no_marks,
    row=next_token_row,
    loss=next_token_loss,
    asked=lambda row: len(row["ids"]) - 1,
)
MASKED_NEXT = Objective(
    about="hidden tokens, each at the place before it, over a causal backbone that reads both ways",
    kind="causal",
    marks=_mask,
    row=masked_next_row,
    loss=masked_loss,
    asked=_labels,
)
"""A part of `mixed`."""
OBJECTIVES: Mapping[str, Objective] = {
    "causal": CAUSAL,
    "masked": Objective(
        about="a share of the tokens, hidden by a mask (BERT)",
        kind="encoder",
        marks=_mask,
        row=masked_row,
        loss=masked_loss,
        asked=_labels,
    ),
    "mixed": Objective(
        about="of each token the next, and in every other part of a step tokens hidden by a mask, read both ways "
        "(Charpentier and Samuel 2024)",
        kind="causal",
        marks=_mask,
        row=next_token_row,
        loss=mixed_loss,
        asked=lambda row: len(row["ids"]) - 1,
        turns=(CAUSAL, MASKED_NEXT),
    ),
    "span-corruption": Objective(
        about="hidden spans, written by the decoder (T5)",
        kind="encoder-decoder",
        marks=_span_marks,
        row=span_row,
        loss=span_loss,
        asked=_labels,
    ),
}
