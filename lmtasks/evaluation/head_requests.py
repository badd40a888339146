"""Tasks asked of a head: each example becomes rows of tokens, and its logits become an answer."""

from collections.abc import Sequence
from dataclasses import dataclass

from lmtasks.evaluation.custom_results import with_made
from lmtasks.evaluation.filtering import with_filters
from lmtasks.evaluation.outcome import Answered, answered_choice, answered_text
from lmtasks.evaluation.pending import Finished, Pending, Replies, ScoredExample
from lmtasks.evaluation.protocols import InferenceEngine
from lmtasks.head import head_of
from lmtasks.records import Choice, HeadInput, HeadSpec, Json, Text
from lmtasks.task.kinds import head_input
from lmtasks.task.task import Task


@dataclass(frozen=True, kw_only=True)
class FittingHead:
    """A head that can answer a task."""

    spec: HeadSpec
    order: tuple[int, ...] = ()
    """For each label of the task, its place among the head's logits; empty where there are no labels."""


class HeadRequests:
    """Builds the requests of a task that a head answers."""

    decoding: Json | None = None

    def __init__(self, engine: InferenceEngine, task: Task, head: FittingHead) -> None:
        self._engine = engine
        self._task = task
        self._head = head

    def ask(self, examples: Sequence[ScoredExample]) -> Sequence[Pending]:
        """One row of tokens for each, or several windows."""
        return [self._pending(example) for example in examples]

    def end(self) -> Sequence[Pending]:
        """Nothing waits."""
        return ()

    def _pending(self, example: ScoredExample) -> Pending:
        given = head_input(self._task, example.row, row_number=example.doc_id)
        encoded = head_of(self._head.spec).encode(
            given,
            tokenizer=self._engine.tokenizer,
            max_length=self._engine.max_length_tokens,
            causal=self._engine.model.kind == "causal",
        )
        cut = sum(row.truncated for row in encoded.rows)

        def finish(replies: Replies) -> Sequence[Finished]:
            outcome = encoded.outcome(replies.logits, labels=self._task.labels, order=self._head.order)
            answered = _answered(self._task, outcome, given=given, example=example)
            return [Finished(example=example, answered=answered, truncated=cut > 0)]

        return Pending(doc_id=example.doc_id, predict=encoded.rows, head=self._head.spec.name, cut=cut, finish=finish)


def _answered(task: Task, outcome: Choice | Text, *, given: HeadInput, example: ScoredExample) -> Answered:
    if isinstance(outcome, Text):
        text = outcome.prediction
        answered = answered_text(
            text, prediction=text, prompt=given.shown, references=outcome.references, source=outcome.source
        )
        return with_filters(task, answered, example=example, texts=[text], trained=True)
    answered = answered_choice(outcome, prompt=given.shown, choices=task.labels)
    best = max(outcome.scores)
    results = {"": [(score, score == best) for score in outcome.scores]}
    return with_made(answered, task, example=example, results=results)
