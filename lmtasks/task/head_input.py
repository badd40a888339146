"""What a head reads of one row, and what it should answer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lmtasks.errors import UsageError
from lmtasks.records import Row
from lmtasks.task.prompt import build_prompt
from lmtasks.task.roles import label_number, role_text, role_value, span_answers, text_list
from lmtasks.task.task import Kind, Task
from lmtasks.task.templates import question_of, target_of


@dataclass(frozen=True, kw_only=True)
class HeadInput:
    """One row for a head. Classification: `first` (and `second`), `label`. Span: question, context, answers.
    Tagging: tokens, tags. Generation, translation, summarization: `first` is the question of the prompt, `answers` are
    the right texts. Language modelling: `first` is the text."""

    first: str
    second: str | None
    label: int | None
    answers: tuple[str, ...]
    starts: tuple[int, ...]
    """Where each answer begins in `second`, in characters; -1 where it is not in there."""
    source: str
    """What a baseline copies from."""
    tokens: tuple[str, ...] = ()
    tags: tuple[int, ...] = ()


def head_input(task: Task, row: Row, *, row_number: int, labelled: bool = True) -> HeadInput:
    """The input of a head for one row.

    Args:
        row_number: for messages.
        labelled: read the right answer too; without it, rows need no label column.

    Raises:
        UsageError: a column is missing, a value is no text, or a label is out of range.
    """
    where = f"task {task.name}, row {row_number}"
    return READERS[task.kind](task, row, where, labelled)


def scored_text(task: Task, row: Row) -> str:
    """The text whose likelihood a language-modelling task asks for, the context before it included.

    Raises:
        UsageError: a column is missing, or the task is of another kind.
    """
    if task.kind != "language_modelling":
        raise UsageError(f"task {task.name} is of kind {task.kind}; only language_modelling scores a text.")
    if "text" in task.inputs:
        return role_text(task, row, role="text", where=f"task {task.name}")
    asked = task.templates.asked
    target = str(target_of(asked, row=row, task=task.name))
    if task.output_type == "loglikelihood":
        return str(question_of(asked, row=row, task=task.name)) + target
    return target


def baseline_source(task: Task, row: Row) -> str:
    """The text that the baselines `copy` and `lead-3` answer with.

    The role `source` if the task has one, else the text that a head reads, else the question of the prompt.
    """
    where = f"task {task.name}"
    if "source" in task.inputs:
        return role_text(task, row, role="source", where=where)
    role = {"classification": "text", "span": "context", "language_modelling": "text"}.get(task.kind, "")
    if role in task.inputs:
        return role_text(task, row, role=role, where=where)
    asked = task.templates.asked
    return "" if asked.question is None else str(question_of(asked, row=row, task=task.name))


def _classification(task: Task, row: Row, where: str, labelled: bool) -> HeadInput:
    return HeadInput(
        first=role_text(task, row, role="text", where=where),
        second=role_text(task, row, role="pair", where=where) if "pair" in task.inputs else None,
        label=label_number(task, row, where=where) if labelled else None,
        answers=(),
        starts=(),
        source=baseline_source(task, row),
    )


def _span(task: Task, row: Row, where: str, labelled: bool) -> HeadInput:
    spans = span_answers(task, row) if labelled else None
    return HeadInput(
        first=role_text(task, row, role="question", where=where),
        second=role_text(task, row, role="context", where=where),
        label=None,
        answers=spans.texts if spans else (),
        starts=spans.starts if spans else (),
        source=baseline_source(task, row),
    )


def _tagging(task: Task, row: Row, where: str, labelled: bool) -> HeadInput:
    tokens = text_list(task, row, role="tokens", where=where)
    tags = _tags(task, row, where=where) if labelled else ()
    if labelled and len(tags) != len(tokens):
        raise UsageError(f"{where}: {len(tokens)} tokens but {len(tags)} tags.")
    text = " ".join(tokens)
    return HeadInput(first=text, second=None, label=None, answers=(), starts=(), source=text, tokens=tokens, tags=tags)


def _tags(task: Task, row: Row, *, where: str) -> tuple[int, ...]:
    value = role_value(task, row, role="tags")
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise UsageError(f"{where}: {task.inputs['tags']!r} (inputs.tags) must be a list, was: {str(value)[:60]!r}.")
    return tuple(_tag(task, tag, where=where) for tag in value)


def _tag(task: Task, tag: object, *, where: str) -> int:
    if isinstance(tag, str) and tag in task.labels:
        return task.labels.index(tag)
    number = int(tag) if isinstance(tag, float) and tag.is_integer() else tag
    if isinstance(number, int) and not isinstance(number, bool) and 0 <= number < len(task.labels):
        return number
    raise UsageError(f"{where}: the tag {tag!r} is none of the labels of the task ({', '.join(task.labels[:20])}).")


def _generated(task: Task, row: Row, where: str, labelled: bool) -> HeadInput:
    answers: tuple[str, ...] = build_prompt(task, row).references if labelled else ()
    return HeadInput(
        first=str(question_of(task.templates.asked, row=row, task=task.name)),
        second=None,
        label=None,
        answers=answers,
        starts=(),
        source=baseline_source(task, row),
    )


def _choice(task: Task, row: Row, where: str, labelled: bool) -> HeadInput:
    prompt = build_prompt(task, row)
    return HeadInput(
        first=prompt.context,
        second=None,
        label=prompt.gold[0] if labelled else None,
        answers=prompt.references if labelled else (),
        starts=(),
        source=prompt.context,
    )


def _text(task: Task, row: Row, where: str, labelled: bool) -> HeadInput:
    text = scored_text(task, row)
    return HeadInput(first=text, second=None, label=None, answers=(), starts=(), source=text)


READERS: Mapping[Kind, Callable[[Task, Row, str, bool], HeadInput]] = {
    "classification": _classification,
    "span": _span,
    "tagging": _tagging,
    "translation": _generated,
    "summarization": _generated,
    "generation": _generated,
    "multiple_choice": _choice,
    "language_modelling": _text,
}
