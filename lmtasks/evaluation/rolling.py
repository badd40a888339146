"""Whole texts scored window by window, each token once: row by row, or all rows as one text."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from lmtasks.data.continuation import ContinuationRow, encode_texts, prefix_token, rolling_windows
from lmtasks.data.tokenizer import Tokenizer
from lmtasks.engine.requests import ScoreRequest
from lmtasks.errors import UsageError
from lmtasks.evaluation.custom_results import with_custom_values
from lmtasks.evaluation.outcome import answered_likelihood
from lmtasks.evaluation.protocols import Finished, InferenceEngine, Pending, Replies, ScoredExample
from lmtasks.records import Json, Likelihood
from lmtasks.task.kinds import scored_text
from lmtasks.task.task import Task


def likelihood_of(
    text: str, ids: Sequence[int], *, tokenizer: Tokenizer, logprob: float, tokens: int, greedy: bool
) -> Likelihood:
    """The outcome of a text that was scored.

    Args:
        ids: the text's tokens. Where some are unknown, whoever writes them has not written the text: it is not greedy.
        tokens: how many were scored.
    """
    unknown = tokenizer.unknown_in(text, ids)
    return Likelihood(
        logprob=logprob,
        tokens=tokens,
        words=words_in(text),
        bytes=len(text.encode()),
        greedy=greedy and not unknown,
        unknown=unknown,
        altered=tokenizer.alters(text),
    )


def words_in(text: str) -> int:
    """Words as lm-evaluation-harness counts them: the pieces of a split on white space, empty ones included."""
    return len(re.split(r"\s+", text))


class RollingRequests:
    """Each row by itself; nothing is cut off. An encoder-decoder reads a window's context with its encoder."""

    decoding: Json | None = None

    def __init__(self, engine: InferenceEngine, task: Task) -> None:
        self._engine = engine
        self._task = task
        self._prefix, self._context = _prefix_of(engine, task), context_of(engine, task)

    def build(self, examples: Sequence[ScoredExample]) -> Sequence[Pending]:
        """One request a window."""
        texts = [scored_text(self._task, example.row) for example in examples]
        encoded = encode_texts(texts, tokenizer=self._engine.tokenizer)
        return [self._pending(example, text, ids) for example, text, ids in zip(examples, texts, encoded, strict=True)]

    def end(self) -> Sequence[Pending]:
        """Nothing waits."""
        return ()

    def _pending(self, example: ScoredExample, text: str, ids: Sequence[int]) -> Pending:
        windows = rolling_windows(
            ids, prefix=self._prefix, max_length=self._engine.max_length_tokens, context=self._context
        )

        def finish(replies: Replies) -> Sequence[Finished]:
            outcome = likelihood_of(
                text,
                ids,
                tokenizer=self._engine.tokenizer,
                logprob=sum(each.logprob for each in replies.scored),
                tokens=sum(len(each.token_logprobs) for each in replies.scored),
                greedy=all(each.greedy for each in replies.scored),
            )
            return [_finished(self._task, example, outcome, text)]

        return Pending(doc_id=example.doc_id, score=[_request(window) for window in windows], finish=finish)


@dataclass(kw_only=True)
class _Part:
    """A row's part of the one text, while its tokens are scored."""

    example: ScoredExample
    text: str
    ids: Sequence[int]
    """Of its text, without what stands before it."""
    left: int
    """Tokens that are not scored yet."""
    tokens: int
    logprob: float = 0.0


@dataclass(kw_only=True)
class _Windows:
    """Windows over tokens that come bit by bit: the same as `rolling_windows` over all of them."""

    prefix: int
    longest: int
    context: int
    kept: list[int] = field(default_factory=list)
    """The last tokens: those that the next window may read, then those that are not predicted yet."""
    predicted: int = 0
    """How many of `kept` are predicted already."""
    begun: bool = False

    def add(self, ids: Sequence[int], *, last: bool) -> list[ContinuationRow]:
        """The windows that are certain now; with `last`, all."""
        self.kept += ids
        found: list[ContinuationRow] = []
        while (waiting := len(self.kept) - self.predicted) > 0:
            room = self.longest - self.context + 1 if self.begun else self.longest
            if waiting < room and not last:
                break
            found.append(self._cut(min(waiting, room)))
        return found

    def _cut(self, count: int) -> ContinuationRow:
        target = tuple(self.kept[self.predicted : self.predicted + count])
        if self.begun:
            read = self.kept[max(0, self.predicted + count - self.longest - 1) : self.predicted]
        else:
            read = [self.prefix]
        self.begun = True
        self.predicted += count
        surplus = max(0, self.predicted - self.longest - 1)
        self.kept, self.predicted = self.kept[surplus:], self.predicted - surplus
        return ContinuationRow(context_ids=tuple(read), target_ids=target, truncated=False)


class JoinedRequests:
    """All rows as one text, `windows.between` between them; each row's numbers are those of its own tokens.

    What stands between two rows counts to the one behind. Windows reach over rows, so a row is finished when the window
    with its last token is.
    """

    decoding: Json | None = None

    def __init__(self, engine: InferenceEngine, task: Task) -> None:
        self._engine = engine
        self._task = task
        self._between = engine.tokenizer.encode(task.windows.between)
        self._windows = _Windows(
            prefix=_prefix_of(engine, task), longest=engine.max_length_tokens, context=context_of(engine, task)
        )
        self._parts: list[_Part] = []
        self._begun = False

    def build(self, examples: Sequence[ScoredExample]) -> Sequence[Pending]:
        """The windows that these rows complete."""
        texts = [scored_text(self._task, example.row) for example in examples]
        found: list[Pending] = []
        for example, text, ids in zip(examples, texts, self._engine.tokenizer.encode_many(texts), strict=True):
            own = [*self._between, *ids] if self._begun else ids
            self._begun = True
            self._parts.append(_Part(example=example, text=text, ids=ids, left=len(own), tokens=len(own)))
            found += self._pendings(self._windows.add(own, last=False), example=example)
        return found

    def end(self) -> Sequence[Pending]:
        """The last windows; and rows without a token."""
        if not self._parts:
            return ()
        last = self._parts[-1].example
        return [
            *self._pendings(self._windows.add((), last=True), example=last),
            Pending(doc_id=last.doc_id, finish=lambda replies: self._complete()),
        ]

    def _pendings(self, windows: Sequence[ContinuationRow], *, example: ScoredExample) -> list[Pending]:
        return [
            Pending(doc_id=example.doc_id, score=[_request(window)], shared=True, finish=self._finish)
            for window in windows
        ]

    def _finish(self, replies: Replies) -> Sequence[Finished]:
        """Give each token to the row that it is of; windows come in their order."""
        finished: list[Finished] = []
        for logprob in replies.scored[0].token_logprobs:
            finished += self._complete()
            part = self._parts[0]
            part.logprob += logprob
            part.left -= 1
        return finished

    def _complete(self) -> list[Finished]:
        """Rows at the front that have all their numbers."""
        finished: list[Finished] = []
        while self._parts and self._parts[0].left == 0:
            part = self._parts.pop(0)
            outcome = likelihood_of(
                part.text,
                part.ids,
                tokenizer=self._engine.tokenizer,
                logprob=part.logprob,
                tokens=part.tokens,
                greedy=False,
            )
            finished.append(_finished(self._task, part.example, outcome, part.text))
        return finished


def context_of(engine: InferenceEngine, task: Task) -> int:
    """Tokens that a window has before what it predicts, at least.

    Raises:
        UsageError: the task's stride is longer than what the model reads.
    """
    stride, longest = task.windows.stride, engine.max_length_tokens
    if stride is None:
        return 1
    if stride > longest:
        raise UsageError(
            f"task {task.name} wants windows that predict {stride} tokens (windows.stride), but {engine.model.name} "
            f"reads {longest}; write a stride of at most {longest}."
        )
    return longest - stride + 1


def _prefix_of(engine: InferenceEngine, task: Task) -> int:
    try:
        return prefix_token(engine.tokenizer)
    except UsageError as error:
        raise UsageError(f"task {task.name}, {engine.model.name}: {error}") from error


def _request(window: ContinuationRow) -> ScoreRequest:
    return ScoreRequest(context_ids=window.context_ids, target_ids=window.target_ids)


def _finished(task: Task, example: ScoredExample, outcome: Likelihood, text: str) -> Finished:
    answered = answered_likelihood(outcome, prompt="", text=text)
    made = with_custom_values(answered, task, example=example, results={"": [outcome.logprob]})
    return Finished(example=example, answered=made, truncated=False)
