"""A text that is written behind a prompt: a translation, a summary, any other one."""

from lmtasks.records import HeadInput, Row
from lmtasks.task.kinds.base import TaskKind
from lmtasks.task.prompt import build_prompt
from lmtasks.task.task import Task
from lmtasks.task.templates import question_of


class WritingKind(TaskKind):
    """Rows that are prompted, and answered by a text."""

    def read(self, task: Task, row: Row, *, where: str, labelled: bool) -> HeadInput:
        """`first` is the question of the prompt, `answers` are the right texts."""
        return HeadInput(
            first=str(question_of(task.templates.asked, row=row, task=task.name)),
            answers=build_prompt(task, row).references if labelled else (),
        )


TRANSLATION = WritingKind(
    name="translation",
    about="a text in another language",
    answer="text",
    head="generation",
    output_types=("generate_until",),
    baselines=("copy", "empty", "nearest"),
    written_characters=0,
    reads_source=True,
    changed_roles=("source",),
)
SUMMARIZATION = WritingKind(
    name="summarization",
    about="a shorter text that says the same",
    answer="text",
    head="generation",
    output_types=("generate_until",),
    metrics=("rouge1", "rouge2", "rougeL"),
    baselines=("copy", "lead-3", "lead-chars", "empty", "nearest"),
    written_characters=0,
    reads_source=True,
    changed_roles=("source",),
)
GENERATION = WritingKind(
    name="generation",
    about="any other text",
    answer="text",
    head="generation",
    output_types=("generate_until",),
    implied_by=("generate_until",),
    baselines=("copy", "lead-chars", "empty", "nearest"),
    keeps_white_space=True,
    written_characters=40,  # shorter ones are numbers, names, yes and no
)
