"""Answers from logits: a span of a text, a label, a choice.

Axes: T tokens of a window, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lmtasks.data.encode import SpanWindow
from lmtasks.engine.requests import Scored
from lmtasks.records import Bools, Choice, Floats, Floats32, softmax_log

MAX_ANSWER_TOKENS = 30
"""Longest answer, as in the SQuAD script of transformers."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """A piece of a text."""

    text: str
    """Without white space around it; empty: the text has no answer."""
    start: int
    """In characters of the text, before white space was stripped."""
    end: int
    """Exclusive."""
    score: float
    """Start logit + end logit; of "no answer" its least over all windows."""


NO_ANSWER = Span(text="", start=0, end=0, score=float("-inf"))


def best_span(
    logits: Sequence[Floats32],
    windows: Sequence[SpanWindow],
    *,
    source: str,
    max_answer_tokens: int = MAX_ANSWER_TOKENS,
    null_margin: float = 0.0,
) -> Span:
    """The answer that the windows over one text yield together.

    The text has no answer where every window points to its null position by more than `null_margin` over the best
    span: a window without the answer always does so, hence the least such score counts.

    Args:
        logits: of each window, (T, 2): start, end.
        windows: as they were encoded.
        source: the text in which the answer stands.
        max_answer_tokens: longest answer.
        null_margin: how much better than the best span "no answer" must be.
    """
    found = spans(logits, windows, source=source, max_answer_tokens=max_answer_tokens, count=1)
    null = null_score(logits, windows)
    best = found[0] if found else NO_ANSWER
    if null > best.score + null_margin or not found:
        return Span(text="", start=0, end=0, score=null)
    return best


def null_score(logits: Sequence[Floats32], windows: Sequence[SpanWindow]) -> float:
    """How much the windows of a text, (T, 2) each, say together that it holds no answer."""
    pairs = zip(logits, windows, strict=True)
    return min((float(table[window.null].sum(dtype=np.float64)) for table, window in pairs), default=float("inf"))


def spans(
    logits: Sequence[Floats32],
    windows: Sequence[SpanWindow],
    *,
    source: str,
    max_answer_tokens: int = MAX_ANSWER_TOKENS,
    count: int = 20,
) -> tuple[Span, ...]:
    """The `count` best answers, the best first, over all windows; a piece of text stands once, with its best score.

    Every pair of start and end inside the context is looked at, not only those among the n best of each.
    """
    best: dict[tuple[int, int], float] = {}
    for window_logits, window in zip(logits, windows, strict=True):
        table = _pairs(window_logits, np.array(window.context, dtype=bool), max_answer_tokens=max_answer_tokens)
        flat = table.reshape(-1)
        # A piece may stand in a window once only, so `count` pairs of each window are enough.
        top = np.argsort(-flat, kind="stable")[:count] if count > 1 else np.array([int(flat.argmax())])
        for place in top.tolist():
            if flat[place] == -np.inf:
                break
            start, length = divmod(place, table.shape[1])
            piece = (window.offsets[start][0], window.offsets[start + length][1])
            best[piece] = max(best.get(piece, -np.inf), float(flat[place]))
    ordered = sorted(best.items(), key=lambda item: (-item[1], item[0]))[:count]
    return tuple(
        Span(text=source[start:end].strip(), start=start, end=end, score=score) for (start, end), score in ordered
    )


def head_choice(logits: Floats32, *, order: Sequence[int], labels: Sequence[str], gold: Sequence[int]) -> Choice:
    """The outcome of a classification head.

    Args:
        logits: (C,)
        order: for each label of the task, its place among the logits.
        labels: the task's labels.
        gold: those that are right.
    """
    return Choice(
        gold=tuple(gold),
        scores=tuple(softmax_log(logits)[list(order)].tolist()),
        chars=tuple(len(label) for label in labels),
        bytes=tuple(len(label.encode()) for label in labels),
    )


def likelihood_choice(
    scored: Sequence[Scored], *, choices: Sequence[str], gold: Sequence[int], unconditional: Sequence[float] = ()
) -> Choice:
    """The outcome of continuations whose log-probabilities compete.

    Args:
        scored: of each choice.
        choices: their texts, without the delimiter before them.
        gold: those that are right.
        unconditional: log-probability of each choice behind no context, where it was asked for.
    """
    return Choice(
        gold=tuple(gold),
        scores=tuple(each.logprob for each in scored),
        chars=tuple(len(choice) for choice in choices),
        bytes=tuple(len(choice.encode()) for choice in choices),
        greedy=tuple(each.greedy for each in scored),
        unconditional=tuple(unconditional),
    )


def _pairs(logits: Floats32, inside: Bools, *, max_answer_tokens: int) -> Floats:
    """(T, 2) -> (T, L): score of the span from t to t + l; minus infinity where one of both is outside."""
    length = len(logits)
    scores = np.where(inside[:, None], logits.astype(np.float64), -np.inf)
    table = np.full((length, min(max_answer_tokens, length)), -np.inf)
    for extra in range(table.shape[1]):
        table[: length - extra, extra] = scores[: length - extra, 0] + scores[extra:, 1]
    return table
