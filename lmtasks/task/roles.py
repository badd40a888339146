"""Values of the roles of `inputs` for a row: labels, spans, references, texts.

>>> label_name(" pos "), label_name(3.0), label_name("N/A")
('pos', '3', None)
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lmtasks.errors import UsageError
from lmtasks.records import Row
from lmtasks.task.task import Task
from lmtasks.task.templates import Place, column_value, structure

MISSING = frozenset(
    ("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA")
).union(("NULL", "NaN", "NaT", "None", "n/a", "nan", "null", "-", "--", "–", "—"))
"""What pandas reads as missing, and dashes. `none` in small letters is a class of many data sets."""
INVISIBLE = "\ufeff\u200b\u2060"
SHOWN = 5
"""Rows that are named by their numbers."""


@dataclass(frozen=True, kw_only=True)
class Spans:
    """Answers as texts and where they begin in the context, in characters; -1 where the context lacks the text."""

    texts: tuple[str, ...]
    starts: tuple[int, ...]


def role_value(task: Task, row: Row, *, role: str) -> object:
    """The value of a role.

    Raises:
        UsageError: the task has no such role, or the data no such column.
    """
    if role not in task.inputs:
        raise UsageError(f"task {task.name} ({task.kind}) has no inputs.{role}.")
    return column_value(task.inputs[role], row=row, place=Place(task=task.name, field=f"inputs.{role}"))


def role_text(task: Task, row: Row, *, role: str, where: str) -> str:
    """The value of a role as text; numbers are written out.

    Raises:
        UsageError: the value is missing, or is no text.
    """
    return _text(role_value(task, row, role=role), task=task, role=role, where=where)


def text_list(task: Task, row: Row, *, role: str, where: str) -> tuple[str, ...]:
    """The value of a role that is a list of texts.

    Raises:
        UsageError: it is no list, or holds what is no text.
    """
    value = role_value(task, row, role=role)
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise UsageError(f"{where}: {task.inputs[role]!r} (inputs.{role}) must be a list, was: {str(value)[:60]!r}.")
    return tuple(_text(item, task=task, role=role, where=where) for item in value)


def _text(value: object, *, task: Task, role: str, where: str) -> str:
    missing = value is None or (isinstance(value, float) and math.isnan(value))
    if isinstance(value, str | int | float) and not isinstance(value, bool) and not missing:
        return str(value)
    what = "empty" if missing else f"of type {type(value).__name__}"
    raise UsageError(f"{where}: {task.inputs[role]!r} (inputs.{role}) must be text, is {what}.")


def label_number(task: Task, row: Row, *, where: str) -> int:
    """The number of the row's label. A label is given by name, or by number.

    Names go first: among the labels "1" to "5" a 3 is the third, not the fourth.

    Raises:
        UsageError: the label is neither a name nor in range.
    """
    value = role_value(task, row, role="label")
    if isinstance(value, str) and value in task.labels:
        return task.labels.index(value)
    name = label_name(value, where=where) or ""
    if name in task.labels:
        return task.labels.index(name)
    number = int(value) if isinstance(value, bool) else int(name) if name.removeprefix("-").isdecimal() else None
    if number is not None and 0 <= number < len(task.labels):
        return number
    shown = ", ".join(task.labels[:20]) + (", ..." if len(task.labels) > 20 else "")
    hidden = "; -1 usually marks a split with hidden labels" if number == -1 else ""
    raise UsageError(
        f"{where}: the label {value!r} is none of the {len(task.labels)} labels ({shown}) and no number from 0 to "
        f"{len(task.labels) - 1}{hidden}."
    )


def is_unlabelled(task: Task, row: Row, *, where: str) -> bool:
    """Has the row no label? -1 is none either, unless a class is called so: splits with hidden labels have it.

    Raises:
        UsageError: the label is of a type that no class has.
    """
    value = role_value(task, row, role="label")
    if isinstance(value, str) and value in task.labels:
        return False
    name = label_name(value, where=where)
    return name is None or (name == "-1" and name not in task.labels)


def number_of(task: Task, row: Row, *, where: str) -> float | None:
    """The number of a row by the role `number`; None where the cell has none (empty, NaN, N/A, a dash).

    Raises:
        UsageError: the cell holds a list, an infinite number, or a text that is no number.
    """
    value = role_value(task, row, role="number")
    if isinstance(value, str):
        text = value.strip().strip(INVISIBLE).strip()
        if text in MISSING:
            return None
        try:
            value = float(text)
        except ValueError:
            raise _no_number(task, value, where=where) from None
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _no_number(task, value, where=where)
    return float(value)


def _no_number(task: Task, value: object, *, where: str) -> UsageError:
    hint = "; a list of labels is a task of kind multi_label" if isinstance(value, list | tuple) else ""
    return UsageError(
        f"{where}: {task.inputs['number']!r} (inputs.number) must be a finite number, was: {str(value)[:60]!r}{hint}."
    )


def label_numbers(task: Task, row: Row, *, where: str) -> tuple[int, ...] | None:
    """The numbers of all labels of a row by the role `labels`, in ascending order; None where the cell is empty. An
    empty list says that no label holds.

    Raises:
        UsageError: the cell holds no list, or a label that is none of the task's.
    """
    value = listed_labels(role_value(task, row, role="labels"), where=f"{where}, {task.inputs['labels']!r}")
    if value is None:
        return None
    return tuple(sorted({_place_of(task, label, where=where) for label in value}))


def listed_labels(value: object, *, where: str) -> list[str] | None:
    """Names in a cell with a list of labels; None where the cell is empty. A text may be a list as JSON or Python
    writes it, as tables without lists have it.

    Args:
        where: row and column, for the error.

    Raises:
        UsageError: the cell holds no list, or an item of it is no label.

    >>> listed_labels('["joy", "love"]', where=""), listed_labels([], where=""), listed_labels(None, where="")
    (['joy', 'love'], [], None)
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    given = value
    if isinstance(value, str):
        text = value.strip().strip(INVISIBLE).strip()
        if text in MISSING:
            return None
        given = structure(text)
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise UsageError(
            f"{where} must hold a list of labels, was: {str(value)[:60]!r}. A row with one label is of kind "
            'classification; in a table without lists write ["a", "b"], or split the column in a task file, inputs: '
            """{labels: "{{ row['column'].split(';') }}"}."""
        )
    names = [label_name(item, where=where) for item in given]
    if None in names:
        raise UsageError(f"{where} holds an empty label in {str(value)[:60]}; take it out.")
    return [name for name in names if name is not None]


def _place_of(task: Task, name: str, *, where: str) -> int:
    if name in task.labels:
        return task.labels.index(name)
    if name.isdecimal() and int(name) < len(task.labels):
        return int(name)
    shown = ", ".join(task.labels[:20]) + (", ..." if len(task.labels) > 20 else "")
    raise UsageError(f"{where}: the label {name!r} is none of the {len(task.labels)} labels ({shown}).")


def references_of(task: Task, row: Row) -> tuple[str, ...]:
    """All right answers by the role `references`; none where the task has no such role, or the cell nothing.

    Raises:
        UsageError: the column holds neither a text nor texts.
    """
    if "references" not in task.inputs:
        return ()
    value = role_value(task, row, role="references")
    if value is None:
        return ()
    items = value if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
    where = f"task {task.name}"
    return tuple(_text(item, task=task, role="references", where=where) for item in items if item is not None)


def span_answers(task: Task, row: Row) -> Spans:
    """Answers of a row in SQuAD's form: `{"text": [...], "answer_start": [...]}`, or a list of such single answers.

    Offsets that do not fit are moved to the nearest place where the answer's text stands (cmrc2018 has 8 such).

    Raises:
        UsageError: the column has another form.
    """
    value, where = role_value(task, row, role="answers"), f"task {task.name}"
    texts, starts = _lists(value)
    if texts is not None and not texts:  # there is no answer, wherever it might have begun
        return Spans(texts=(), starts=())
    if texts is None or len(texts) != len(starts):
        raise UsageError(
            f"{where}: {task.inputs['answers']!r} (inputs.answers) must hold text and answer_start, as many of each, "
            f"was: {str(value)[:80]!r}."
        )
    context = role_text(task, row, role="context", where=where)
    written = [_text(text, task=task, role="answers", where=where) for text in texts]
    kept = [(text, start) for text, start in zip(written, starts, strict=True) if text]
    return Spans(
        texts=tuple(text for text, _ in kept),
        starts=tuple(_place(context, text=text, start=start) for text, start in kept),
    )


def _lists(value: object) -> tuple[Sequence[object] | None, Sequence[object]]:
    if value is None:
        return (), ()
    if isinstance(value, Mapping):
        texts, starts = value.get("text"), value.get("answer_start")
        if isinstance(texts, str):
            return (texts,), starts if isinstance(starts, Sequence) else (starts,)
        if isinstance(texts, Sequence):
            return texts, starts if isinstance(starts, Sequence) else [None] * len(texts)
        return None, ()
    if isinstance(value, Sequence) and not isinstance(value, str):
        if not all(isinstance(item, Mapping) and "text" in item for item in value):
            return None, ()
        return [item["text"] for item in value], [item.get("answer_start") for item in value]
    return None, ()


def _place(context: str, *, text: str, start: object) -> int:
    wanted = start if isinstance(start, int) and start >= 0 else 0
    if context.startswith(text, wanted):
        return wanted
    after, before = context.find(text, wanted), context.rfind(text, 0, wanted + len(text))
    found = [place for place in (before, after) if place >= 0]
    return min(found, key=lambda place: abs(place - wanted), default=-1)


def label_name(value: object, *, where: str = "") -> str | None:
    """The class's name, blanks around it taken off; None where the cell has no label.

    Args:
        where: the row, for the error.

    Raises:
        UsageError: no text, truth value or whole number.
    """
    if isinstance(value, str):
        name = value.strip().strip(INVISIBLE).strip()
        return None if name in MISSING else name
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool | int):
        return str(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    shown = f"the label {str(value)[:60]!r}" if isinstance(value, str | float) else f"the label {str(value)[:60]}"
    what = {
        float: "is no whole number; a class is a text, a truth value or a whole number, a score is of kind regression",
        list: "is a list; a row has one label, and rows with several are of kind multi_label",
    }.get(type(value), f"is of type {type(value).__name__}; a class is a text, a truth value or a whole number")
    raise UsageError(f"{where}: {shown} {what}.")


def row_list(numbers: Sequence[int]) -> str:
    """Rows by their numbers, counted as people count them.

    >>> row_list([2, 4]), row_list([0])
    ('rows 3 and 5 (counted from 1)', 'row 1 (counted from 1)')
    """
    shown = [str(number + 1) for number in numbers[:SHOWN]]
    *most, last = [*shown, f"{len(numbers) - SHOWN} more"] if len(numbers) > SHOWN else shown
    return f"rows {', '.join(most)} and {last} (counted from 1)" if most else f"row {last} (counted from 1)"
