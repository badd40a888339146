"""Rows without a label are no rows to learn from or to be scored on: left out, counted and said.

A file in which more than 5 % have none is refused, unless somebody says that they are to be left out: the column may be
another one, or empty cells may mean something.
"""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lmtasks.data.decoding import Notify, log_notice
from lmtasks.data.table import LazyRows, PickedRows
from lmtasks.errors import UsageError
from lmtasks.records import Row
from lmtasks.task.kinds import kind_of
from lmtasks.task.roles import label_name, listed_labels, role_text, role_value, row_list
from lmtasks.task.task import Task
from lmtasks.task.templates import structure

MOST_UNLABELLED = 0.05
MOST_LABELS = 200
ANSWERS: Mapping[str, str] = {"label": "label", "labels": "list of labels", "number": "number"}
"""Forms of answers without which a row is left out, as people call them."""
CALLED_SO = "; a class that is called so must be named in the labels of a task file"
SHOWN = 5
"""Values that are shown."""


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Rows that have a label each."""

    rows: Sequence[Row]
    left_out: int = 0
    """How many had none."""


def labelled_rows(
    task: Task, rows: Sequence[Row], *, where: str, drop: bool = False, notify: Notify = log_notice
) -> Labelled:
    """The rows of a split that have a right answer, where a task's labels or numbers stand in a column of their own;
    else all. What the kind of the task remarks in its rows is told.

    Args:
        where: the data, for messages.
        drop: leave out any number of rows.
        notify: called with how many were left out, how many labels were trimmed, and how many texts are empty.

    Raises:
        UsageError: more than 5 % have none, or all; an answer or a text is of a wrong type.
    """
    kind = kind_of(task)
    for sentence in kind.remarks(task, rows, where=where):
        notify(sentence)
    what = ANSWERS.get(kind.answer)
    if what is None or kind.answer_role not in task.inputs:
        return Labelled(rows=rows)
    missing, trimmed, empty = [], [], []
    spelled: Counter[str] = Counter()
    for number, row in enumerate(rows):
        place = f"task {task.name}, row {number}"
        value = role_value(task, row, role=kind.answer_role)
        if kind.is_unanswered(task, row, where=place):
            missing.append(number)
            spelled[repr(value)] += 1
            continue
        if (
            kind.answer == "label"
            and isinstance(value, str)
            and value not in task.labels
            and value != label_name(value)
        ):
            trimmed.append(number)
        texts = [role_text(task, row, role=role, where=place) for role in ("text", "pair") if role in task.inputs]
        if not all(text.strip() for text in texts):
            empty.append(number)
    if trimmed:
        notify(f"{where}: blanks around the label were taken off in {row_list(trimmed)}.")
    if empty:
        notify(f"{where}: {row_list(empty)} {_has(empty)} no text, and {_is(empty)} asked as {_it(empty)}.")
    if not missing:
        return Labelled(rows=rows)
    written = ", ".join(f"{value} {count} times" if count > 1 else value for value, count in spelled.most_common(SHOWN))
    message = f"{where}: {len(missing)} of {len(rows)} rows {_has(missing)} no {what} ({written})"
    if len(missing) == len(rows):
        raise UsageError(f"{message}; a split with hidden answers cannot be scored, and another column may hold them.")
    if len(missing) > MOST_UNLABELLED * len(rows) and not drop:
        raise UsageError(
            f"{message}, more than {MOST_UNLABELLED:.0%}: {row_list(missing)}. Fill them in, or leave them out with "
            f"--drop-unlabelled{CALLED_SO if kind.answer == 'label' else ''}."
        )
    notify(f"{message}, and {_is(missing)} left out: {row_list(missing)}.")
    places = np.setdiff1d(np.arange(len(rows)), np.asarray(missing))
    if isinstance(rows, LazyRows):
        return Labelled(rows=LazyRows(PickedRows(rows=rows, places=places)), left_out=len(missing))
    return Labelled(rows=[rows[place] for place in places.tolist()], left_out=len(missing))


def read_labels(rows: Sequence[Row], *, column: str, where: str, notify: Notify = log_notice) -> tuple[str, ...]:
    """The classes of one's own data: numbers by size, texts by spelling.

    Raises:
        UsageError: fewer than two or more than 200, two that differ in case or spacing alone, or a cell that is no
            label, with its row.
    """
    kinds: dict[str, set[str]] = defaultdict(set)
    counts: Counter[str] = Counter()
    for number, row in enumerate(rows):
        value = row[column]
        name = label_name(value, where=f"{where}, {row_list([number])}, column {column!r}")
        if name is not None:
            kinds[name].add("text" if isinstance(value, str) else "bool" if isinstance(value, bool) else "number")
            counts[name] += 1
    what = f"column {column!r} of {where}"
    if counts and all(isinstance(structure(name), list) for name in counts):
        raise UsageError(
            f"{what} holds lists of labels ({next(iter(counts))!r} and the like); a row has one label, and rows with "
            "several are of kind multi_label (--kind multi_label)."
        )
    _check_classes(counts, rows=len(rows), what=what)
    found = set().union(*kinds.values())
    if "bool" in found and len(found) > 1:
        raise UsageError(f"{what} holds truth values beside others ({', '.join(sorted(counts)[:5])}); write all alike.")
    both = sorted(name for name, seen in kinds.items() if len(seen) > 1)
    if both:
        notify(f"{what}: {', '.join(both[:SHOWN])} as a number and as a text were taken as one class.")
    return tuple(sorted(counts, key=lambda name: (int(name) if found == {"number"} else 0, name)))


def read_label_lists(rows: Sequence[Row], *, column: str, where: str) -> tuple[str, ...]:
    """The labels of one's own data whose column holds lists of them, by spelling.

    Raises:
        UsageError: fewer than two or more than 200, two that differ in case or spacing alone, or a cell that is no
            list of labels, with its row.
    """
    counts: Counter[str] = Counter()
    for number, row in enumerate(rows):
        place = f"{where}, {row_list([number])}, column {column!r}"
        counts.update(listed_labels(row[column], where=place) or ())
    _check_classes(counts, rows=None, what=f"column {column!r} of {where}")
    return tuple(sorted(counts))


def _check_classes(counts: Counter[str], *, rows: int | None, what: str) -> None:
    if len(counts) > MOST_LABELS:
        some = ", ".join(map(repr, sorted(counts)[:3]))
        raise UsageError(
            f"{what} holds {len(counts)} different values ({some}, ...); a label column has at most {MOST_LABELS}."
        )
    if len(counts) < 2:
        none = 0 if rows is None else rows - counts.total()
        less = f" ({none} of {rows} rows {'has' if none == 1 else 'have'} no label)" if none else ""
        raise UsageError(f"{what} holds {len(counts)} value{less}; a label column has at least two.")
    _refuse_likeness(counts, what)


def _refuse_likeness(counts: Counter[str], what: str) -> None:
    alike: dict[str, list[str]] = defaultdict(list)
    for name in sorted(counts):
        alike["".join(unicodedata.normalize("NFKC", name).casefold().split())].append(name)
    for names in alike.values():
        if len(names) > 1:
            same = ", ".join(f"{name!r} ({counts[name]} rows)" for name in names)
            raise UsageError(
                f"{what} has labels that differ in case, spacing or form alone: {same}; write them alike, or, if they "
                "are classes of their own, name them in the labels of a task file."
            )


def _has(numbers: Sequence[int]) -> str:
    return "has" if len(numbers) == 1 else "have"


def _is(numbers: Sequence[int]) -> str:
    return "is" if len(numbers) == 1 else "are"


def _it(numbers: Sequence[int]) -> str:
    return "it is" if len(numbers) == 1 else "they are"
