"""How likely given targets are, batch by batch.

Causal models read context and target as one row; encoder-decoders read the context with the encoder, and the target
behind their start token with the decoder. What is too long loses its left end, and says so.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from lmtasks.data.batches import pad
from lmtasks.engine.requests import OnAnswers, OnProgress, Scored, ScoreRequest
from lmtasks.engine.schedule import Answers, Limits, schedule
from lmtasks.records import Floats, TokenScores
from lmtasks.runtime.base import Runtime

State = TypeVar("State")


def score_rows(
    runtime: Runtime[State],
    requests: Sequence[ScoreRequest],
    *,
    limits: Limits,
    pad_id: int,
    on_progress: OnProgress | None,
    on_answers: OnAnswers[Scored] | None,
) -> list[Scored]:
    """Causal: a row's last token is scored but never read, so a row may be one token longer than the model's input."""
    longest = runtime.model.max_length_tokens + 1
    rows = [(*request.context_ids, *request.target_ids)[-longest:] for request in requests]
    counts = [min(len(request.target_ids), len(row) - 1) for request, row in zip(requests, rows, strict=True)]
    plan = schedule(list(zip(rows, counts, strict=True)), costs=[len(row) for row in rows], limits=limits)

    def finish(index: int, answer: Scored) -> Scored:
        return replace(answer, truncated=len(requests[index].context_ids) + len(requests[index].target_ids) > longest)

    answers = Answers[Scored, Scored](
        plan, count=len(requests), finish=finish, on_progress=on_progress, on_answers=on_answers
    )
    for batch in plan.batches:
        scores = runtime.score(pad([rows[index] for index in batch], pad_id=pad_id))
        ends = [len(rows[index]) - 1 for index in batch]
        answers.give(
            [
                (index, _scored(scores, place, slice(end - counts[index], end)))
                for place, (index, end) in enumerate(zip(batch, ends, strict=True))
            ]
        )
    return answers.all()


def score_pairs(
    runtime: Runtime[State],
    requests: Sequence[ScoreRequest],
    *,
    limits: Limits,
    pad_id: int,
    start: int,
    on_progress: OnProgress | None,
    on_answers: OnAnswers[Scored] | None,
) -> list[Scored]:
    """Encoder-decoder: the encoder reads the context, the decoder `start` and the target."""
    longest = runtime.model.max_length_tokens
    sources = [request.context_ids[-longest:] for request in requests]
    targets = [request.target_ids[-longest:] for request in requests]
    keys = list(zip(sources, targets, strict=True))
    costs = [max(len(source), len(target) + 1) for source, target in keys]
    plan = schedule(keys, costs=costs, limits=limits)

    def finish(index: int, answer: Scored) -> Scored:
        return replace(
            answer, truncated=max(len(requests[index].context_ids), len(requests[index].target_ids)) > longest
        )

    answers = Answers[Scored, Scored](
        plan, count=len(requests), finish=finish, on_progress=on_progress, on_answers=on_answers
    )
    for batch in plan.batches:
        decoder = pad([(start, *targets[index]) for index in batch], pad_id=pad_id)
        encoder = pad([sources[index] for index in batch], pad_id=pad_id)
        scores = runtime.score(decoder, source=encoder)
        answers.give(
            [(index, _scored(scores, place, slice(0, len(targets[index])))) for place, index in enumerate(batch)]
        )
    return answers.all()


def _scored(scores: TokenScores, row: int, positions: slice) -> Scored:
    logprobs: Floats = scores.logprobs[row, positions].astype(np.float64)
    return Scored(
        logprob=float(logprobs.sum()),
        greedy=bool(scores.greedy[row, positions].all()),
        token_logprobs=tuple(logprobs.tolist()),
    )
