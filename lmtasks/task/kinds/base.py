"""A kind of task: everything that it means before a model is there."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from lmtasks.records import HeadInput, OutcomeKind, Row
from lmtasks.tag_scheme import SchemeName
from lmtasks.task.prompt import build_prompt
from lmtasks.task.roles import role_text
from lmtasks.task.task import OutputType, Task
from lmtasks.task.templates import question_of

AnswerForm = Literal["label", "labels", "number", "tags", "choice", "ranks", "text", "likelihood", "hypothesis", "pair"]
"""label: one of the task's labels a row, by the role `label`; labels: any number of them; number: a number; tags: a
label for each word; choice: one of the row's own choices; ranks: the texts of a corpus in order; text: a text;
likelihood: none, a given text is scored; hypothesis: one of the row's own texts, by scores that it brings along and a
model's; pair: nothing is right, the answers to two texts are held against each other."""

OUTCOME_OF_FORM: Mapping[AnswerForm, OutcomeKind] = {
    "label": "choice",
    "labels": "labels",
    "number": "number",
    "tags": "text",
    "choice": "choice",
    "ranks": "ranks",
    "text": "text",
    "likelihood": "likelihood",
    "hypothesis": "text",
    "pair": "made",
}


@dataclass(frozen=True, kw_only=True)
class TaskKind(ABC):
    """One kind of task. Its facts are the fields of a value, its behaviour the methods of its class."""

    name: str
    about: str
    """One line for people."""
    answer: AnswerForm
    head: str
    """The kind of head that answers it; `generation` answers by the task's own prompts."""
    output_types: tuple[OutputType, ...]
    """How it may be prompted, in lm-evaluation-harness' words; the first one is the default."""
    implied_by: tuple[OutputType, ...] = ()
    """A file that names one of these output types and no kind is of this kind."""
    roles: tuple[str, ...] = ()
    """Roles of `inputs` that it cannot do without; a kind with roles is answered by a head without any prompt."""
    optional_roles: tuple[str, ...] = ()
    prompted_roles: tuple[str, ...] = ()
    """Roles of `inputs` that a kind which is prompted cannot do without; nothing need be asked before its texts."""
    answer_role: str = ""
    """The role of the right answer, where that is read off one; the others of `roles` are read."""
    source_role: str = ""
    """The role that baselines copy from, where a task names no role `source`."""
    metrics: tuple[str, ...] = ()
    """Default metrics of a file that names the kind; empty: those of its output type."""
    baselines: tuple[str, ...] = ()
    """Trivial and classical answers that suit it, by their names in `lmtasks.evaluation.baselines`."""
    wording: tuple[str, str, str] | None = None
    """The roles that question, choices and right answer of a prompt are read off where the file has no wording of its
    own."""
    prompted: bool = True
    """May it be asked by a prompt? Else a head alone answers it."""
    in_words: bool = False
    """Does a head read a list of words, not a text?"""
    keeps_white_space: bool = False
    """Is white space around a prompted answer left to filters, as in lm-evaluation-harness?"""
    written_characters: int | None = None
    """From so many characters on a target is a text of its own, which a model could have learned by heart; None: it is
    a label, a span or a choice however long it is."""
    changed_roles: tuple[str, ...] | None = ()
    """Roles that changes of rows are made in (`changes`); none: the columns of its question. None: what is read is also
    what is scored, so that nothing may be changed."""
    chooses: bool = False
    """Is something chosen on validation rows whenever it is answered (weights of scores)?"""
    told_apart: bool = True
    """Can its rows stand among training rows?"""
    reads_source: bool = False
    """Does the role `source` hold what is read, and so tell rows apart?"""

    @property
    def labelled(self) -> bool:
        """Has such a task labels, which its metrics look at?"""
        return self.answer in ("label", "labels", "tags")

    @property
    def outcome(self) -> OutcomeKind:
        """The outcome of answering a row, by a head, a prompt or a baseline."""
        return OUTCOME_OF_FORM[self.answer]

    @property
    def read_roles(self) -> tuple[str, ...]:
        """Roles of what is read, not of what is answered."""
        known = (*self.roles, *self.prompted_roles, *self.optional_roles)
        return tuple(role for role in known if role not in (self.answer_role, "references"))

    @abstractmethod
    def read(self, task: Task, row: Row, *, where: str, labelled: bool) -> HeadInput:
        """The input of a head for one row.

        Args:
            where: the row, for messages.
            labelled: read the right answer too; without it, rows need no column for it.

        Raises:
            UsageError: a column is missing, a value is no text, or an answer is out of range.
        """

    def is_unanswered(self, task: Task, row: Row, *, where: str) -> bool:
        """Has the row no right answer, so that it can neither teach nor be scored?

        Raises:
            UsageError: the answer is of a type that no right answer has.
        """
        del task, row, where
        return False

    def metrics_for(self, language: str) -> tuple[str, ...]:
        """Default metrics of a file that names the kind, for answers in a language."""
        del language
        return self.metrics

    def target(self, task: Task, row: Row) -> str | None:
        """The right answer as a text by which rows are told apart; None: the references of the row's prompt are."""
        del task, row
        return None

    def blank_answer(self, task: Task, row: Row) -> object:
        """A value of the column of `answer_role` for a row whose right answer nobody knows; it is never shown. The
        first label, where there are labels."""
        del row
        return task.labels[0] if task.labels else ""

    def candidates(self, task: Task, row: Row) -> tuple[str, ...]:
        """Texts of the row's own that a model scores one by one; none where its prompt says what is asked."""
        del task, row
        return ()

    def remarks(self, task: Task, rows: Sequence[Row], *, where: str) -> Sequence[str]:
        """Sentences on rows of a split that can be used, and that not everybody would take for right.

        Args:
            where: the data.
        """
        del task, rows, where
        return ()

    def scheme(self, task: Task, rows: Sequence[Row]) -> SchemeName | None:
        """The scheme that the tags of training rows keep to, a line of `tag_scheme.RULES`; None where there are no
        tags."""
        del task, rows
        return None

    def asked_rows(self, task: Task, row: Row) -> Sequence[Row]:
        """The questions of a row that somebody typed: one, but where a kind asks several things about one text."""
        del task
        return (row,)

    def answer_of(self, task: Task, row: Row, answers: Sequence[str]) -> str:
        """The answer to a row that somebody typed, from those to its questions (`asked_rows`)."""
        del task, row
        return answers[0]

    def source(self, task: Task, row: Row) -> str:
        """The text that the baselines `copy` and `lead-3` answer with.

        The role `source` if the task has one, else the text that a head reads, else the question of the prompt.
        """
        role = next((role for role in ("source", self.source_role) if role in task.inputs), "")
        if role:
            return role_text(task, row, role=role, where=f"task {task.name}")
        asked = task.templates.asked
        return "" if asked.question is None else str(question_of(asked, row=row, task=task.name))

    def learned_texts(self, task: Task, row: Row, *, row_number: int) -> tuple[str, ...]:
        """The texts of a training row that a model will read or write: what a tokenizer is learned from."""
        prompt = build_prompt(task, row, row_number=row_number)
        return (prompt.context, prompt.delimiter + prompt.target)

    def shown(self, task: Task, row: Row, *, row_number: int) -> tuple[str, tuple[str, ...]]:
        """The question of a row as a baseline's answer is stored with it, and the right texts."""
        prompt = build_prompt(task, row, row_number=row_number)
        return prompt.context, prompt.references


class HeadTaskKind(TaskKind):
    """A kind whose rows are read by their roles, without a prompt."""

    def learned_texts(self, task: Task, row: Row, *, row_number: int) -> tuple[str, ...]:
        """The texts that the head reads."""
        given = self.read(task, row, where=f"task {task.name}, row {row_number}", labelled=True)
        return (given.first,) if given.second is None else (given.first, given.second)

    def shown(self, task: Task, row: Row, *, row_number: int) -> tuple[str, tuple[str, ...]]:
        """The texts that the head reads, and the right ones."""
        given = self.read(task, row, where=f"task {task.name}, row {row_number}", labelled=True)
        return given.shown, given.answers
