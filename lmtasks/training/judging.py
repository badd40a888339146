"""Heads judged by validation rows while they train: their scores, their losses, and at the end how far their
probabilities are to be believed."""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from lmtasks.data.batches import plan_batches
from lmtasks.data.examples import HeadExamples
from lmtasks.head import head_of
from lmtasks.model.model import Model
from lmtasks.training.calibrate import LEAST, Calibration, calibrate_layer
from lmtasks.training.features import collate
from lmtasks.training.pace import MOST_JUDGED, judged_rows
from lmtasks.training.stepping import Batch
from lmtasks.training.tbptt import score_text
from lmtasks.training.validation import JudgedRows, Validation

log = logging.getLogger(__name__)

VALIDATION_TOKENS = 4096
"""Tokens of a batch of validation rows."""


def score_heads(model: Model, heads: Sequence[HeadExamples], *, pad_id: int, judged: int = MOST_JUDGED) -> float:
    """The mean over heads of a 0-1 score on validation rows, as `judge_heads` has it."""
    return judge_heads(model, heads, pad_id=pad_id, judged=judged).value


@torch.no_grad()
def judge_heads(model: Model, heads: Sequence[HeadExamples], *, pad_id: int, judged: int = MOST_JUDGED) -> Validation:
    """Mean over heads of a 0-1 score on validation rows, answered with the right prefix given (teacher forcing); and
    each head's loss on them.

    Each kind of head says what is right (`Head.judged`, `Head.score`): the share of right labels, tags or spans; of a
    generation head the geometric mean of the probabilities of the right tokens.

    Args:
        judged: rows of each head at most.
    """
    scores: list[float] = []
    losses: dict[str, float] = {}
    by_row: dict[str, Sequence[float]] = {}
    for head in heads:
        name = head.head.name
        if head.validation_text:
            nats, count = score_text(model, head.validation_text)
            scores.append(math.exp(-nats / count))
            losses[name], by_row[name] = nats / count, ()
            continue
        rows = JudgedRows(head_of(head.head))
        scores.append(rows.head.scored(rows.over(validation_logits(model, head, pad_id=pad_id, most=judged))))
        losses[name], by_row[name] = rows.loss, rows.scores
    return Validation(value=sum(scores) / max(1, len(scores)), rows=by_row, losses=losses)


def validation_logits(
    model: Model, head: HeadExamples, *, pad_id: int, most: int = MOST_JUDGED
) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits and targets of a head's validation rows, in batches."""
    device = next(model.parameters()).device
    rows = judged_rows(head.validation, most)
    lengths = [len(row.ids) + len(row.decoder_ids) for row in rows]
    for places in plan_batches(lengths, tokens_per_batch=VALIDATION_TOKENS):
        collated = collate([rows[place] for place in places], pad_id=pad_id)
        batch = {name: tensor.to(device) for name, tensor in collated.items()}
        yield _logits(model, batch, head.head.name), batch["targets"]


@torch.no_grad()
def calibrate_heads(model: Model, heads: Sequence[HeadExamples]) -> Mapping[str, Calibration]:
    """Bring the probabilities of heads into line with their validation rows; those with too few stay as they are."""
    model.eval()
    able = [head for head in heads if head_of(head.head).softmax]
    found: dict[str, Calibration] = {}
    for head in able:
        layer = model.head(head.head.name).last_layers
        judged = list(validation_logits(model, head, pad_id=model.backbone.traits.pad))
        targets = [(logits, each if each.shape == logits.shape[:-1] else each[:, 0]) for logits, each in judged]
        calibration = calibrate_layer(layer, targets)
        if calibration is None:
            log.warning(
                "task %s has fewer than %d validation rows: its probabilities are left as they are.",
                head.head.name,
                LEAST,
            )
        else:
            found[head.head.name] = calibration
    return found


def _logits(model: Model, batch: Batch, head: str) -> Tensor:
    logits: Tensor = model(
        batch["ids"],
        batch["mask"],
        head,
        types=batch.get("types"),
        decoder_ids=batch.get("decoder_ids"),
        decoder_mask=batch.get("decoder_mask"),
    )
    return logits
