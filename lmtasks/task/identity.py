"""Questions and right answers of rows, as texts by which rows are told apart.

An id, a note or another column that nobody reads makes no other row, nor does white space: two rows are one where what
is read of them is the same text.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lmtasks.errors import LmtasksError
from lmtasks.records import Row
from lmtasks.task.kinds import kind_of
from lmtasks.task.prompt import Prompt, build_prompt
from lmtasks.task.roles import role_value
from lmtasks.task.task import Task
from lmtasks.task.templates import Wording, choices_of, question_of, target_of


@dataclass(frozen=True, kw_only=True)
class Question:
    """The question of a prompt, without the answer."""

    text: str
    choices: frozenset[str] = frozenset()
    """In any order; empty where there is nothing to choose from, or all rows have the same."""

    def same_as(self, other: "Question") -> bool:
        """Does an answer to the one answer the other? The same choices in another order are the same question, and so
        is a question that shares some of them."""
        return self.text == other.text and (self.choices == other.choices or bool(self.choices & other.choices))


def folded(text: str) -> str:
    """The text with runs of white space as one blank.

    >>> folded(" a\\n\\tb ")
    'a b'
    """
    return " ".join(text.split())


def document_of(task: Task, row: Row) -> str:
    """The question of a row, without its answer: what a head reads, else the text that is translated or summarized,
    else the question as it is prompted, with its choices in any order.

    Raises:
        UsageError: the row does not fit the task.
    """
    read = _read(task, row)
    return _prompted(task, build_prompt(task, row)) if read is None else read


@dataclass(frozen=True, kw_only=True)
class RowTexts:
    """A row as texts."""

    document: str
    """What it asks."""
    target: str
    """What is right; empty where that is part of the document, as in language modelling."""
    written: str
    """The target, where it is a text of its own that a model could have learned by heart: not a label, a span or a
    number. Empty elsewhere."""


def texts_of(task: Task, row: Row) -> RowTexts:
    """The question and the right answer of a row.

    Raises:
        UsageError: the row does not fit the task.
    """
    kind = kind_of(task)
    target = kind.target(task, row)
    if target is not None:
        return RowTexts(document=document_of(task, row), target=target, written="")
    read, prompt = _read(task, row), build_prompt(task, row)
    least = kind.written_characters
    return RowTexts(
        document=_prompted(task, prompt) if read is None else read,
        target="\x1f".join(sorted(set(prompt.references))),
        written=prompt.target if least is not None and len(prompt.target) >= least else "",
    )


def asked_question(task: Task, row: Row) -> Question:
    """The question of a row that is asked.

    Raises:
        UsageError: the row does not fit the task.
    """
    return _question(task, row, task.templates.asked)


def shown_question(task: Task, shot: Row) -> Question:
    """The question of a worked example, in the words of asked rows where it has their columns, else in its own.

    Raises:
        UsageError: the row does not fit the task.
    """
    try:
        return _question(task, shot, task.templates.asked)
    except LmtasksError:
        if task.templates.shot == task.templates.asked:
            raise
        return _question(task, shot, task.templates.shot)


def holds_own_answer(task: Task, row: Row, shots: Sequence[Row]) -> bool:
    """Is one of the worked examples before a row the answer to it?

    Raises:
        UsageError: a row does not fit the task.
    """
    asked = asked_question(task, row)
    return any(shown_question(task, shot).same_as(asked) for shot in shots)


def _read(task: Task, row: Row) -> str | None:
    """What a head or a baseline reads of a row; None where that is a prompt."""
    kind = kind_of(task)
    roles = [role for role in kind.read_roles if role in task.inputs]
    if not roles and kind.reads_source and "source" in task.inputs and task.inputs["source"] in row:
        roles = ["source"]
    return "\x1f".join(str(role_value(task, row, role=role)) for role in roles) if roles else None


def _prompted(task: Task, prompt: Prompt) -> str:
    if task.output_type == "loglikelihood_rolling":
        return prompt.target
    # A text whose likelihood is asked for is all there is to it: a question alone may be empty.
    asked = (prompt.delimiter + prompt.target,) if task.output_type == "loglikelihood" else sorted(prompt.choices)
    return "\x1f".join((prompt.context, *asked))


def _question(task: Task, row: Row, wording: Wording) -> Question:
    read = _read(task, row)
    if read is not None:
        return Question(text=folded(read))
    asked = question_of(wording, row=row, task=task.name)
    choices = frozenset(map(folded, choices_of(wording, row=row, task=task.name)))
    text = "" if isinstance(asked, int) and choices else folded(str(asked))  # the choices are the questions
    if not text and not choices and wording.target is not None:
        # A text of which nothing is given: all there is to tell rows apart.
        text = folded(str(target_of(wording, row=row, task=task.name)))
    return Question(text=text, choices=choices)
