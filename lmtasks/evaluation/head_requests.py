"""Tasks asked of a head: labels from logits, spans of a text."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lmtasks.data.encode import classification_row, span_windows, tagging_row
from lmtasks.engine.answers import best_span, head_choice
from lmtasks.evaluation.custom_results import with_made
from lmtasks.evaluation.filtering import with_filters
from lmtasks.evaluation.outcome import answered_choice, answered_text
from lmtasks.evaluation.pending import Finished, Pending, Replies, RequestBuilder, ScoredExample
from lmtasks.evaluation.protocols import InferenceEngine
from lmtasks.records import HeadSpec, Json
from lmtasks.task.kinds import head_input
from lmtasks.task.task import Task

OUTSIDE = "O"
"""What a word is that was cut off, where the task has such a tag."""


@dataclass(frozen=True, kw_only=True)
class FittingHead:
    """A head that can answer a task."""

    spec: HeadSpec
    order: tuple[int, ...] = ()
    """For each label of the task, its place among the head's logits; empty where there are no labels."""


class LabelAsker:
    """A text, or a pair of texts, to a head with labels."""

    decoding: Json | None = None

    def __init__(self, engine: InferenceEngine, task: Task, head: FittingHead) -> None:
        self._engine = engine
        self._task = task
        self._head = head

    def ask(self, examples: Sequence[ScoredExample]) -> Sequence[Pending]:
        """One row of tokens each."""
        return [self._pending(example) for example in examples]

    def end(self) -> Sequence[Pending]:
        """Nothing waits."""
        return ()

    def _pending(self, example: ScoredExample) -> Pending:
        task, head = self._task, self._head
        given = head_input(task, example.row, row_number=example.doc_id)
        row = classification_row(given, tokenizer=self._engine.tokenizer, max_length=self._engine.max_length_tokens)

        def finish(replies: Replies) -> Sequence[Finished]:
            gold = () if given.label is None else (given.label,)
            outcome = head_choice(replies.logits[0], order=head.order, labels=task.labels, gold=gold)
            answered = answered_choice(outcome, prompt=given.shown, choices=task.labels)
            best = max(outcome.scores)
            results = {"": [(score, score == best) for score in outcome.scores]}
            made = with_made(answered, task, example=example, results=results)
            return [Finished(example=example, answered=made, truncated=row.truncated)]

        return Pending(doc_id=example.doc_id, predict=[row], head=head.spec.name, cut=int(row.truncated), finish=finish)


class SpanAsker:
    """A question and a text to a head that points at the answer."""

    decoding: Json | None = None

    def __init__(self, engine: InferenceEngine, task: Task, head: FittingHead) -> None:
        self._engine = engine
        self._task = task
        self._head = head

    def ask(self, examples: Sequence[ScoredExample]) -> Sequence[Pending]:
        """One row of tokens for each window over the text."""
        return [self._pending(example) for example in examples]

    def end(self) -> Sequence[Pending]:
        """Nothing waits."""
        return ()

    def _pending(self, example: ScoredExample) -> Pending:
        given = head_input(self._task, example.row, row_number=example.doc_id)
        windows = span_windows(
            given,
            tokenizer=self._engine.tokenizer,
            max_length=self._engine.max_length_tokens,
            null_at_end=self._engine.model.kind == "causal",
        )
        cut = sum(window.truncated for window in windows)
        context = given.second or ""

        def finish(replies: Replies) -> Sequence[Finished]:
            span = best_span(replies.logits, windows, source=context)
            answered = answered_text(
                span.text, prediction=span.text, prompt=given.shown, references=given.answers, source=context
            )
            found = with_filters(self._task, answered, example=example, texts=[span.text], trained=True)
            return [Finished(example=example, answered=found, truncated=cut > 0)]

        return Pending(doc_id=example.doc_id, predict=windows, head=self._head.spec.name, cut=cut, finish=finish)


class TagAsker:
    """The words of a sentence to a head that gives each a tag. The answer is the tags with blanks between."""

    decoding: Json | None = None

    def __init__(self, engine: InferenceEngine, task: Task, head: FittingHead) -> None:
        self._engine = engine
        self._task = task
        self._head = head

    def ask(self, examples: Sequence[ScoredExample]) -> Sequence[Pending]:
        """One row of tokens each."""
        return [self._pending(example) for example in examples]

    def end(self) -> Sequence[Pending]:
        """Nothing waits."""
        return ()

    def _pending(self, example: ScoredExample) -> Pending:
        task, head = self._task, self._head
        given = head_input(task, example.row, row_number=example.doc_id)
        row = tagging_row(given, tokenizer=self._engine.tokenizer, max_length=self._engine.max_length_tokens)

        def finish(replies: Replies) -> Sequence[Finished]:
            best = replies.logits[0][:, list(head.order)].argmax(axis=1)
            outside = OUTSIDE if OUTSIDE in task.labels else task.labels[0]
            tags = [outside if place is None else task.labels[int(best[place])] for place in row.places]
            answered = answered_text(
                " ".join(tags),
                prediction=" ".join(tags),
                prompt=given.first,
                references=(" ".join(task.labels[tag] for tag in given.tags),),
                source=given.first,
            )
            found = with_filters(task, answered, example=example, texts=[" ".join(tags)], trained=True)
            return [Finished(example=example, answered=found, truncated=row.truncated)]

        return Pending(doc_id=example.doc_id, predict=[row], head=head.spec.name, finish=finish)


ASKERS: Mapping[str, Callable[[InferenceEngine, Task, FittingHead], RequestBuilder]] = {
    "classification": LabelAsker,
    "span": SpanAsker,
    "tagging": TagAsker,
}
"""How each kind of head is asked."""
