"""Text that a backbone was never trained on: how well it predicts it, source by source, and a line that it writes of it
now and then while it learns."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lmtasks.data.corpus import TokenizedCorpus
from lmtasks.data.tokenizer import Tokenizer
from lmtasks.errors import UsageError
from lmtasks.model.create import Backbone
from lmtasks.model.store import read_provenance
from lmtasks.records import Ints
from lmtasks.training.objectives import Marks, Objective, make_batch

LEAST_ASKED_OF = 16
"""A last window with fewer tokens than this hides too few of them to be asked."""
READ_TOKENS = 24
WRITTEN_TOKENS = 32
TEMPERATURE = 0.8


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Scores of a backbone on the held-out documents of one source."""

    source: str
    bytes: int
    tokens: int
    """That were asked for."""
    token_perplexity: float
    bits_per_byte: float | None
    """None where only some of the tokens are asked for, or where unknown ones do not say their text."""


@dataclass(frozen=True, kw_only=True)
class ReferenceScores:
    """A counted model of the same text, to compare with."""

    family: str
    held_out: tuple[HeldOut, ...]


def read_reference_scores(folder: Path) -> ReferenceScores:
    """The held-out scores that `lmtasks pretrain --backbone ngram:...` left in its folder.

    Raises:
        UsageError: it holds none.
    """
    told = read_provenance(folder)
    scores = told.get("held_out")
    if not isinstance(scores, list):
        raise UsageError(
            f"{folder} holds no held-out scores to compare with; "
            "make it by lmtasks pretrain --backbone ngram:order=5, of the same --data."
        )
    return ReferenceScores(family=str(told["backbone"]), held_out=tuple(HeldOut(**score) for score in scores))


@torch.no_grad()
def held_out_scores(
    backbone: Backbone,
    corpora: Sequence[TokenizedCorpus],
    *,
    objective: Objective,
    marks: Marks,
    window: int,
    limit: int | None = None,
    unknown: int | None = None,
) -> tuple[HeldOut, ...]:
    """Scores over disjoint windows, the first `limit` of each source (None: all). What is hidden is always the same.

    Args:
        unknown: the tokenizer's token of whatever it lacks.
    """
    backbone.eval()
    return tuple(
        _score(backbone, source, size, np.asarray(tokens, dtype=np.int64), objective, marks, window, limit, unknown)
        for corpus in corpora
        for source, size, tokens in corpus.held_out
    )


def overall(scores: Sequence[HeldOut]) -> float:
    """Bits per byte over all text; or nats per token, where only some of the tokens are asked for."""
    per_byte = [score for score in scores if score.bits_per_byte is not None]
    if per_byte:
        bits = sum((score.bits_per_byte or 0.0) * score.bytes for score in per_byte)
        return bits / max(1, sum(score.bytes for score in per_byte))
    nats = sum(math.log(score.token_perplexity) * score.tokens for score in scores)
    return nats / max(1, sum(score.tokens for score in scores))


@torch.no_grad()
def sample_text(backbone: Backbone, text: Ints, *, objective: Objective, marks: Marks, tokenizer: Tokenizer) -> str:
    """A line: what was read, an arrow, what was written. The same weights give the same line."""
    backbone.eval()
    device = next(backbone.parameters()).device
    row = objective.row(text[: READ_TOKENS + 1], marks, np.random.default_rng(0))
    batch = {name: tensor.to(device) for name, tensor in make_batch([row]).items()}
    read, written = WRITERS[objective.kind](backbone, batch, marks)
    shown = [tokenizer.decode(ids, skip_special=False) for ids in (read, written)]
    return " -> ".join(" ".join(part.split()) for part in shown)


def _score(
    backbone: Backbone,
    source: str,
    size: int,
    ids: np.ndarray[tuple[int], np.dtype[np.int64]],
    objective: Objective,
    marks: Marks,
    window: int,
    limit: int | None,
    unknown: int | None,
) -> HeldOut:
    device = next(backbone.parameters()).device
    nats, asked, read = 0.0, 0, 0
    for number, start in enumerate(range(0, len(ids) - 1, window)):
        text = ids[start : start + window + 1]
        short = objective.kind != "causal" and len(text) < LEAST_ASKED_OF
        if short or (limit is not None and number >= limit):
            break
        row = objective.row(text, marks, np.random.default_rng(number))
        batch = {name: tensor.to(device) for name, tensor in make_batch([row]).items()}
        count = objective.asked(row)
        nats += float(objective.loss(backbone, batch)) * count
        asked, read = asked + count, read + len(text) - 1
    share = size * read / max(1, len(ids) - 1)
    whole = objective.kind == "causal" and (unknown is None or not bool((ids == unknown).any()))
    return HeldOut(
        source=source,
        bytes=round(share),
        tokens=asked,
        token_perplexity=math.exp(nats / max(1, asked)),
        bits_per_byte=nats / math.log(2) / max(1.0, share) if whole else None,
    )


def _continue(backbone: Backbone, batch: Mapping[str, Tensor], marks: Marks) -> tuple[list[int], list[int]]:
    generator = torch.Generator().manual_seed(0)
    ids = batch["ids"][:, :READ_TOKENS]
    start = ids.shape[1]
    while ids.shape[1] < start + WRITTEN_TOKENS:
        scores = backbone(ids)[0, -1].float().cpu() / TEMPERATURE
        token = int(torch.multinomial(scores.softmax(-1), 1, generator=generator))
        if token == marks.end:
            break
        ids = torch.cat([ids, ids.new_tensor([[token]])], dim=1)
    return ids[0, :start].tolist(), ids[0, start:].tolist()


def _fill(backbone: Backbone, batch: Mapping[str, Tensor], marks: Marks) -> tuple[list[int], list[int]]:
    del marks
    best = backbone.fill(batch["ids"], batch["places"]).argmax(-1)
    filled = batch["ids"].scatter(1, batch["places"], best)
    return batch["ids"][0].tolist(), filled[0].tolist()


def _write(backbone: Backbone, batch: Mapping[str, Tensor], marks: Marks) -> tuple[list[int], list[int]]:
    ids = batch["ids"]
    written = ids.new_tensor([[marks.start]])
    while written.shape[1] <= WRITTEN_TOKENS:
        token = backbone.decode(ids, torch.ones_like(ids, dtype=torch.bool), written)[:, -1:].argmax(-1)
        if int(token) == marks.end:
            break
        written = torch.cat([written, token], dim=1)
    return ids[0].tolist(), written[0, 1:].tolist()


WRITERS = {"causal": _continue, "encoder": _fill, "encoder-decoder": _write}
