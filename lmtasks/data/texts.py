"""The texts of a training row that a model will read or write: what a tokenizer is learned from."""

from lmtasks.records import Row
from lmtasks.task.head_input import head_input, scored_text
from lmtasks.task.prompt import build_prompt
from lmtasks.task.task import Kind, Task

BY_HEAD: tuple[Kind, ...] = ("classification", "span", "tagging")
"""Kinds that are answered by a head, which reads columns and no prompt."""


def learned_texts(task: Task, row: Row, *, row_number: int) -> tuple[str, ...]:
    """The texts of one row.

    Raises:
        UsageError: the row does not fit the task.
    """
    if task.kind == "language_modelling":
        return (scored_text(task, row),)
    if task.kind in BY_HEAD:
        given = head_input(task, row, row_number=row_number)
        return (given.first,) if given.second is None else (given.first, given.second)
    prompt = build_prompt(task, row, row_number=row_number)
    return (prompt.context, prompt.delimiter + prompt.target)
