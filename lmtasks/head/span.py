"""An answer that stands in the text: logits of its first and its last token (extractive question answering).

Contexts of any length become windows of tokens:

    [CLS] question [SEP] part of the context [SEP]      an encoder
    question <|sep|> part of the context <|endoftext|>  a causal model; only the last token has seen everything

Axes: B batch, T time (tokens of a window), L tokens of an answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lmtasks.errors import UsageError
from lmtasks.head.base import EncodedInput, EncodedRow, Head, HeadOperators, HeadTokenizer, Targets, Value, first_tokens
from lmtasks.records import Bools, EncodedText, Floats, Floats32, HeadInput, HeadSpec, Text

if TYPE_CHECKING:
    from torch import Tensor

LONGEST_QUESTION = 3
"""A question may take one part in this many of a window."""
MAX_ANSWER_TOKENS = 30
"""Longest answer, as in the SQuAD script of transformers."""


class SpanHead(Head):
    """Hidden states to start and end logits."""

    def outputs(self, spec: HeadSpec) -> int:
        """Start and end."""
        return 2

    def layers(self, spec: HeadSpec, *, width: int) -> Mapping[str, tuple[int, int]]:
        """Two, D -> D -> 2."""
        return {"inner": (width, width), "output": (width, 2)}

    def logits(self, operators: HeadOperators[Value], hidden: Value, spec: HeadSpec) -> Value:
        """(B, T, D) -> (B, T, 2)"""
        return operators.dense("output", operators.dropout(operators.gelu(operators.dense("inner", hidden))))

    def loss(self, logits: Tensor, targets: Tensor, *, smoothing: float = 0.0) -> Tensor:
        """Mean of those of start and end, of logits (B, T, 2) and positions (B, 2). It is not smoothed: places that no
        answer can have would get a share."""
        from torch.nn import functional

        start, end = logits.float().unbind(-1)
        return (functional.cross_entropy(start, targets[:, 0]) + functional.cross_entropy(end, targets[:, 1])) / 2

    def judged(self, logits: Tensor, targets: Tensor) -> tuple[float, int]:
        """Windows with both ends right, and windows."""
        return float((logits.argmax(1) == targets).all(-1).sum()), len(targets)

    def encode(
        self, given: HeadInput, *, tokenizer: HeadTokenizer, max_length: int, causal: bool = False
    ) -> EncodedInput:
        """Windows over the context."""
        windows = span_windows(given, tokenizer=tokenizer, max_length=max_length, null_at_end=causal)
        return QuestionWindows(given=given, rows=windows)


@dataclass(frozen=True, kw_only=True)
class QuestionWindows(EncodedInput):
    """A question over the windows of its context."""

    rows: Sequence[SpanWindow]

    def targets(self) -> Sequence[tuple[EncodedRow, Targets]]:
        """First and last token of the answer; the null position twice in windows without it."""
        return [
            (
                window,
                (
                    window.null if window.start is None else window.start,
                    window.null if window.end is None else window.end,
                ),
            )
            for window in self.rows
            if window.trainable
        ]

    def unaligned(self) -> tuple[str, ...]:
        """The answer, where it does not begin and end with a token, or no window holds all of it."""
        context = self.given.second or ""
        answer = self.given.answers[0].strip() if self.given.answers else ""
        if not answer or not self.rows[0].trainable:
            return ()
        exact = any(
            window.start is not None
            and window.end is not None
            and context[window.offsets[window.start][0] : window.offsets[window.end][1]] == answer
            for window in self.rows
        )
        return () if exact else (answer,)

    def outcome(self, logits: Sequence[Floats32], *, labels: Sequence[str], order: Sequence[int]) -> Text:
        """The best piece of the context over all windows, from logits (T, 2) of each."""
        context = self.given.second or ""
        span = best_span(logits, self.rows, source=context)
        return Text(references=self.given.answers, prediction=span.text, source=context)


@dataclass(frozen=True, kw_only=True)
class SpanWindow(EncodedRow):
    """A question and a part of its context, long contexts having several such windows. `truncated`: the question was
    cut; the context never is."""

    offsets: tuple[tuple[int, int], ...]
    """(T,) characters of the context that each token covers, without white space around them, end exclusive;
    (0, 0) outside the context."""
    context: tuple[bool, ...]
    """(T,) does the position belong to the context?"""
    start: int | None
    """Position of the first token of the right answer; None where this window does not hold it."""
    end: int | None
    """Position of its last token, inclusive."""
    null: int
    """The position that means `no answer here`: what both ends are trained to point at where `start` is None."""
    trainable: bool
    """False: the question has an answer, but its text is nowhere in the context, so there is nothing to learn."""


def span_windows(
    given: HeadInput, *, tokenizer: HeadTokenizer, max_length: int, stride: int = 128, null_at_end: bool = False
) -> tuple[SpanWindow, ...]:
    """Question (`given.first`) and context (`given.second`), in windows of at most `max_length` tokens.

    Args:
        given: `answers` and `starts` (characters) give the gold positions; the first answer counts. Where the text at
            its start is another (some public data is wrong there) the nearest place with the answer's text is taken.
        tokenizer: how to encode.
        max_length: tokens a window holds.
        stride: tokens of context that two neighbours share.
        null_at_end: point at the last token, not the first, for `no answer`. A causal model must: its first token has
            seen neither question nor context.

    Raises:
        UsageError: a window holds no context besides the question, or `null_at_end` and there is no end token.
    """
    context = given.second or ""
    encoded = tokenizer.encode_for_head(given.first, context)
    question = encoded.sequences.count(0)
    kept_question = min(question, max_length // LONGEST_QUESTION)
    keep = first_tokens(encoded, [kept_question, len(encoded.ids)])
    inside = [position for position in keep if encoded.sequences[position] == 1]
    first = keep.index(inside[0]) if inside else _end_of_head(encoded, keep)
    head, tail = keep[:first], keep[first + len(inside) :]
    ids, types = encoded.ids, encoded.types
    if null_at_end and not tail:
        ids, types, tail = _with_end(encoded, tokenizer)
    room = max_length - len(head) - len(tail)
    if room < 1:
        raise UsageError(
            f"a window of {max_length} tokens holds no context besides the question; give a length of 16 or more."
        )
    offsets = _trimmed_offsets(encoded, context)
    span = _find_answer(given, context)
    step = max(1, room - min(stride, room // 2))
    windows: list[SpanWindow] = []
    for begin in range(0, max(1, len(inside)), step):
        part = inside[begin : begin + room]
        positions = [*head, *part, *tail]
        flags = (False,) * len(head) + (True,) * len(part) + (False,) * len(tail)
        start, end = _gold([offsets[position] for position in part], span)
        windows.append(
            SpanWindow(
                ids=tuple(ids[position] for position in positions),
                types=tuple(types[position] for position in positions),
                offsets=tuple(
                    offsets[position] if flag else (0, 0) for position, flag in zip(positions, flags, strict=True)
                ),
                context=flags,
                start=None if start is None else start + len(head),
                end=None if end is None else end + len(head),
                null=len(positions) - 1 if null_at_end else 0,
                trainable=span is not None or not given.answers,
                truncated=kept_question < question,
            )
        )
        if begin + room >= len(inside):
            break
    return tuple(windows)


def _end_of_head(encoded: EncodedText, keep: Sequence[int]) -> int:
    """Where the context would stand if it had a token: before the added tokens at the end, but behind one separator."""
    last = max((index for index, position in enumerate(keep) if encoded.sequences[position] == 0), default=-1)
    return min(last + 2, len(keep))


def _with_end(encoded: EncodedText, tokenizer: HeadTokenizer) -> tuple[tuple[int, ...], tuple[int, ...], list[int]]:
    """Ids and types with the end token behind them, and its position: some tokenizers add only a first token."""
    if tokenizer.eos is None:
        raise UsageError("the tokenizer has no end token, which a causal model needs to point at for `no answer`.")
    last = encoded.types[-1] if encoded.types else 0
    return (*encoded.ids, tokenizer.eos), (*encoded.types, last), [len(encoded.ids)]


def _trimmed_offsets(encoded: EncodedText, context: str) -> list[tuple[int, int]]:
    """Offsets without the white space that byte-level tokens hold (` word`), so that answers come out without it."""
    trimmed: list[tuple[int, int]] = []
    for (start, end), sequence in zip(encoded.offsets, encoded.sequences, strict=True):
        text = context[start:end] if sequence == 1 else ""
        if text.strip():
            start, end = start + len(text) - len(text.lstrip()), end - len(text) + len(text.rstrip())
        trimmed.append((start, end))
    return trimmed


def _find_answer(given: HeadInput, context: str) -> tuple[int, int] | None:
    """The first answer's characters in the context: at its given start, or at the nearest place where it stands."""
    answer = given.answers[0].strip() if given.answers else ""
    if not answer:
        return None
    wanted = given.starts[0] if given.starts else 0
    wanted += len(given.answers[0]) - len(given.answers[0].lstrip())
    before, after = context.rfind(answer, 0, max(0, wanted) + len(answer)), context.find(answer, max(0, wanted))
    places = [place for place in (before, after) if place >= 0]
    if not places:
        return None
    place = min(places, key=lambda place: abs(place - wanted))
    return place, place + len(answer)


def _gold(offsets: Sequence[tuple[int, int]], span: tuple[int, int] | None) -> tuple[int | None, int | None]:
    """First and last token that overlap the answer, if this part of the context holds all of it."""
    if span is None or not offsets or offsets[0][0] > span[0] or offsets[-1][1] < span[1]:
        return None, None
    touching = [index for index, (start, end) in enumerate(offsets) if start < span[1] and end > span[0]]
    return (touching[0], touching[-1]) if touching else (None, None)


@dataclass(frozen=True, kw_only=True)
class AnswerSpan:
    """A piece of a text."""

    text: str
    """Without white space around it; empty: the text has no answer."""
    start: int
    """In characters of the text, before white space was stripped."""
    end: int
    """Exclusive."""
    score: float
    """Start logit + end logit; of "no answer" its least over all windows."""


NO_ANSWER = AnswerSpan(text="", start=0, end=0, score=float("-inf"))


def best_span(
    logits: Sequence[Floats32],
    windows: Sequence[SpanWindow],
    *,
    source: str,
    max_answer_tokens: int = MAX_ANSWER_TOKENS,
    null_margin: float = 0.0,
) -> AnswerSpan:
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
        return AnswerSpan(text="", start=0, end=0, score=null)
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
) -> tuple[AnswerSpan, ...]:
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
        AnswerSpan(text=source[start:end].strip(), start=start, end=end, score=score) for (start, end), score in ordered
    )


def _pairs(logits: Floats32, inside: Bools, *, max_answer_tokens: int) -> Floats:
    """(T, 2) -> (T, L): score of the span from t to t + l; minus infinity where one of both is outside."""
    length = len(logits)
    scores = np.where(inside[:, None], logits.astype(np.float64), -np.inf)
    table = np.full((length, min(max_answer_tokens, length)), -np.inf)
    for extra in range(table.shape[1]):
        table[: length - extra, extra] = scores[: length - extra, 0] + scores[extra:, 1]
    return table


SPAN = SpanHead(
    name="span", about="an answer that stands in the text", per_token=True, over_tokens=True, labelled=False
)
