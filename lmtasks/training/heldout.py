"""How well a backbone predicts text that it was never trained on, source by source."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from lmtasks.data.corpus import TokenizedCorpus
from lmtasks.errors import UsageError
from lmtasks.model.create import Backbone
from lmtasks.model.store import read_provenance
from lmtasks.training.objectives import Marks, Objective, make_batch

LEAST_ASKED_OF = 16
"""A last window with fewer tokens than this hides too few of them to be asked."""


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """How well the backbone predicts the held-out documents of one source."""

    source: str
    bytes: int
    tokens: int
    """That were asked for."""
    token_perplexity: float
    bits_per_byte: float | None
    """None where only some of the tokens are asked for, or where unknown ones do not say their text."""


@dataclass(frozen=True, kw_only=True)
class Beside:
    """A counted model of the same text, to compare with."""

    family: str
    held_out: tuple[HeldOut, ...]


def read_beside(folder: Path) -> Beside:
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
    return Beside(family=str(told["backbone"]), held_out=tuple(HeldOut(**score) for score in scores))


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
