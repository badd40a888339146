"""One of several choices that a row brings along."""

from lmtasks.records import HeadInput, Row
from lmtasks.task.kinds.base import TaskKind
from lmtasks.task.prompt import build_prompt
from lmtasks.task.task import Task


class MultipleChoiceKind(TaskKind):
    """Rows that are prompted, and answered by the most likely choice."""

    def read(self, task: Task, row: Row, *, where: str, labelled: bool) -> HeadInput:
        """`first` is the prompt, `label` the number of the right choice, `answers` the right texts."""
        prompt = build_prompt(task, row)
        return HeadInput(
            first=prompt.context,
            label=prompt.gold[0] if labelled else None,
            answers=prompt.references if labelled else (),
        )


MULTIPLE_CHOICE = MultipleChoiceKind(
    name="multiple_choice",
    about="one of the choices that each row has",
    answer="choice",
    head="generation",
    output_types=("multiple_choice",),
    implied_by=("multiple_choice",),
    baselines=("majority", "random", "longest-choice"),
)
