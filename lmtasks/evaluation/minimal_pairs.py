"""Minimal pairs asked of language models, of classifiers and of baselines: how do the answers to two texts differ that
differ in one thing?

    preference      1 where the first text is likelier, 0 where the second is, 1/2 where both are alike
    preference_gap  log p(first) - log p(second)
    label_gap       P(label | first) - P(label | second), of the task's last label
    distance        half the sum of the differences of all labels' probabilities, without their signs (total variation)
    answers_differ  1 where the most likely label is another one

A model without a preference has a preference of 1/2 and gaps of 0. The first text of a pair is a man's, or has a name,
a place or an age that is more often met with sympathy (`tasks/bias/`). A rare word makes a text less likely whatever is
thought of it, so that a preference says most beside that of other models of the same text, n-grams among them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from lmtasks.engine.requests import ScoreRequest
from lmtasks.errors import UsageError
from lmtasks.evaluation.outcome import Answered, AnswerRows, best_choice
from lmtasks.evaluation.prompt_requests import Prompted
from lmtasks.evaluation.protocols import Finished, Pending, PromptContext, Replies, RequestBuilder, ScoredExample
from lmtasks.records import Choice, CustomValues, Json, Row, softmax_log
from lmtasks.task.changes import changed_columns
from lmtasks.task.kinds import kind_of
from lmtasks.task.roles import role_value
from lmtasks.task.task import Task

LABEL = "label of a pair"
"""The column in which rows of pairs have a label that nobody reads."""


def classifying_task(task: Task) -> Task:
    """The classification task that pairs are asked of, as it reads a single text without a label.

    Raises:
        UsageError: the pairs are of no classifier.
    """
    if task.clean is None:
        raise UsageError(f"task {task.name}: pairs are asked of a classifier as TASK@bias.")
    asked = replace(task.clean.templates.asked, target=None)
    return replace(
        task.clean,
        inputs={**task.clean.inputs, "label": LABEL},
        templates=replace(task.clean.templates, asked=asked),
        process_results=None,
    )


def labelled_row(task: Task, row: Row) -> Row:
    """A row of the classification task as `classifying_task` reads it: its label in the column of its own."""
    assert task.clean is not None
    return {**row, LABEL: role_value(task.clean, row, role="label")}


def with_labels(task: Task, prompt_context: PromptContext) -> PromptContext:
    """The same with worked examples as `classifying_task` reads them."""
    return replace(
        prompt_context,
        shot_pool=[labelled_row(task, row) for row in prompt_context.shot_pool],
        drawn=[tuple(labelled_row(task, row) for row in rows) for rows in prompt_context.drawn],
    )


def rows_of(task: Task, row: Row, *, where: str) -> tuple[Row, Row]:
    """Both texts of a pair as rows of the classification task.

    Raises:
        UsageError: a text is missing.
    """
    given = kind_of(task).read(task, row, where=where, labelled=False)
    assert task.clean is not None
    assert given.second is not None
    (column,) = changed_columns(task.clean)
    return {column: given.first, LABEL: task.labels[0]}, {column: given.second, LABEL: task.labels[0]}


def answered_pair(task: Task, first: Answered, second: Answered) -> Answered:
    """The answers of a classifier to both texts as one."""
    one, two = first.outcome, second.outcome
    assert isinstance(one, Choice)
    assert isinstance(two, Choice)
    p, q = (np.exp(softmax_log(np.array(each.scores))) for each in (one, two))
    values: dict[str, object] = {
        "label_gap": float(p[-1] - q[-1]),
        "distance": float(np.abs(p - q).sum() / 2),
        "answers_differ": float(best_choice(one) != best_choice(two)),
    }
    return _answered(
        prompts=(str(first.prompt), str(second.prompt)),
        raw=[list(one.scores), list(two.scores)],
        answer=f"{first.answer} / {second.answer}",
        values=values,
    )


def in_pairs(task: Task, answer: AnswerRows) -> AnswerRows:
    """A classical or trivial classifier's answers to pairs."""

    def answers(rows: Sequence[Row]) -> Sequence[Answered]:
        pairs = [rows_of(task, row, where=f"task {task.name}, row {number}") for number, row in enumerate(rows)]
        found = answer([row for pair in pairs for row in pair])
        return [answered_pair(task, found[2 * place], found[2 * place + 1]) for place in range(len(rows))]

    return answers


class ClassifiedPairs:
    """Builds the requests of pairs that a classifier answers, by head or prompt: both texts, each as a row of its task.

    Args:
        inner: builds the requests of single rows of `classifying_task`.
    """

    def __init__(self, inner: RequestBuilder, task: Task) -> None:
        self._inner = inner
        self._task = task

    @property
    def decoding(self) -> Json | None:
        """As the inner one has it."""
        return self._inner.decoding

    def build(self, examples: Sequence[ScoredExample]) -> Sequence[Pending]:
        """The requests of both texts together."""
        found: list[Pending] = []
        for example in examples:
            where = f"task {self._task.name}, row {example.doc_id}"
            rows = rows_of(self._task, example.row, where=where)
            first, second = self._inner.build([ScoredExample(doc_id=example.doc_id, row=row) for row in rows])
            found.append(self._pending(example, first, second))
        return found

    def end(self) -> Sequence[Pending]:
        """Nothing waits."""
        return ()

    def _pending(self, example: ScoredExample, first: Pending, second: Pending) -> Pending:
        def finish(replies: Replies) -> Sequence[Finished]:
            cut = len(first.score), len(first.predict)
            (one,) = first.finish(Replies(scored=replies.scored[: cut[0]], logits=replies.logits[: cut[1]]))
            (two,) = second.finish(Replies(scored=replies.scored[cut[0] :], logits=replies.logits[cut[1] :]))
            label = self._task.labels[-1]
            return [
                Finished(
                    example=example,
                    answered=answered_pair(self._task, one.answered, two.answered),
                    truncated=one.truncated or two.truncated,
                    remarks=(f"label_gap is of the label {label!r}: above 0 where first texts have more of it",),
                )
            ]

        return Pending(
            doc_id=example.doc_id,
            score=[*first.score, *second.score],
            predict=[*first.predict, *second.predict],
            head=first.head,
            cut=first.cut + second.cut,
            finish=finish,
        )


class TextPairs:
    """Builds the requests of pairs that a language model answers: how likely is each text?"""

    decoding: Json | None = None

    def __init__(self, asked: Prompted) -> None:
        self._asked = asked

    def build(self, examples: Sequence[ScoredExample]) -> Sequence[Pending]:
        """Two requests each."""
        return [self._pending(example) for example in examples]

    def end(self) -> Sequence[Pending]:
        """Nothing waits."""
        return ()

    def _pending(self, example: ScoredExample) -> Pending:
        task = self._asked.task
        given = kind_of(task).read(task, example.row, where=f"task {task.name}, row {example.doc_id}", labelled=False)
        context = self._asked.prompts.of(example).context
        texts = (given.first, str(given.second))
        requests: list[ScoreRequest] = [
            self._asked.request(pair, example=example, what=f"the text {text!r}")
            for pair, text in zip(self._asked.pairs([(context, text) for text in texts]), texts, strict=True)
        ]

        def finish(replies: Replies) -> Sequence[Finished]:
            first, second = (each.logprob for each in replies.scored)
            values: dict[str, object] = {
                "preference": 0.5 if first == second else float(first > second),
                "preference_gap": first - second,
            }
            answered = _answered(prompts=texts, raw=[first, second], answer=texts[int(second > first)], values=values)
            truncated = any(each.truncated for each in replies.scored)
            return [Finished(example=example, answered=answered, truncated=truncated)]

        return Pending(doc_id=example.doc_id, score=requests, finish=finish)


def _answered(*, prompts: tuple[str, str], raw: object, answer: str, values: Mapping[str, object]) -> Answered:
    return Answered(outcome=CustomValues(values=values), prompt=prompts, target=(), raw=raw, answer=answer)
