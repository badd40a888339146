"""How likely a given text is."""

from lmtasks.errors import UsageError
from lmtasks.records import HeadInput, Row
from lmtasks.task.kinds.base import TaskKind
from lmtasks.task.roles import role_text
from lmtasks.task.task import Task
from lmtasks.task.templates import question_of, target_of


class LanguageModellingKind(TaskKind):
    """Rows with the role text, or with a target behind a prompt."""

    def read(self, task: Task, row: Row, *, where: str, labelled: bool) -> HeadInput:
        """`first` is the text."""
        return HeadInput(first=scored_text(task, row))

    def target(self, task: Task, row: Row) -> str:
        """Nothing: the text itself is what is asked."""
        return ""

    def learned_texts(self, task: Task, row: Row, *, row_number: int) -> tuple[str, ...]:
        """The text."""
        return (scored_text(task, row),)


def scored_text(task: Task, row: Row) -> str:
    """The text whose likelihood a language-modelling task asks for, the context before it included.

    Raises:
        UsageError: a column is missing, or the task asks for no likelihood.
    """
    if task.output_type not in LANGUAGE_MODELLING.output_types:
        raise UsageError(f"task {task.name} is of kind {task.kind}; only language_modelling scores a text.")
    if "text" in task.inputs:
        return role_text(task, row, role="text", where=f"task {task.name}")
    asked = task.templates.asked
    target = str(target_of(asked, row=row, task=task.name))
    if task.output_type == "loglikelihood":
        return str(question_of(asked, row=row, task=task.name)) + target
    return target


LANGUAGE_MODELLING = LanguageModellingKind(
    name="language_modelling",
    about="how likely a given text is",
    answer="likelihood",
    head="generation",
    output_types=("loglikelihood_rolling", "loglikelihood"),
    implied_by=("loglikelihood", "loglikelihood_rolling"),
    optional_roles=("text",),
    source_role="text",
    changed_roles=None,
    baselines=("ngram",),
)
