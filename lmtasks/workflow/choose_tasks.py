"""Which tasks a use case is about: named ones, or the one that somebody's own rows make.

>>> TaskRequest(tasks="starter_*").is_single, TaskRequest(data=HeldRows(rows=({"text": "a"},)), label="stars").is_single
(False, True)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from lmtasks.errors import UsageError, missing, unknown
from lmtasks.task.task import HeldRows, Task

if TYPE_CHECKING:
    from lmtasks.records import Row
    from lmtasks.settings.data import OwnKind, TaskChoice
    from lmtasks.task.groups import Group
    from lmtasks.task.index import TaskIndex

Use = Literal["score", "train", "both"]
"""Purpose of the rows of one's own data. Of a single file, `both` sets a part aside to be scored."""
LOOKED_AT, MOST_CLASSES = 2000, 30
"""Rows of which a column's different values are counted, and values of a column that may be a label."""
GUESS_ROWS = 50
"""Rows that the language of one's own data is guessed from."""


@dataclass(frozen=True, kw_only=True)
class TaskRequest:
    """`--tasks TASKS`, or `--data FILE --text COLUMN --label COLUMN` and what goes with it."""

    tasks: str | tuple[Task, ...] = ""
    """Names, globs or files with commas between; or tasks that are loaded."""
    include: tuple[Path, ...] = ()
    """Folders whose task files go by name, too."""
    data: Path | HeldRows | None = None
    """A file, a folder with `train.*` and `test.*`, or rows in memory."""
    text: str = "text"
    label: str | None = None
    pair: str | None = None
    kind: OwnKind = "classification"
    name: str | None = None
    language: str | None = None
    encoding: str | None = None
    trust_code: bool = False

    @classmethod
    def of(cls, choice: TaskChoice) -> Self:
        """The request that options or a plan's keys make."""
        given = dict(choice)
        return cls(include=given.pop("include_path"), **{key: given[key] for key in given if key != "drop_unlabelled"})

    @property
    def is_single(self) -> bool:
        """One's own rows, not yet divided into splits."""
        return self.data.is_single if isinstance(self.data, HeldRows) else self.data is not None and self.data.is_file()

    @property
    def index(self) -> TaskIndex:
        """Tasks that go by name."""
        from lmtasks.task.index import default_index

        return default_index(include=self.include)


def checked_root(data_root: Path | None) -> Path | None:
    """The folder of a local mirror of the Hub.

    Raises:
        UsageError: there is no such folder.
    """
    if data_root is not None and not data_root.is_dir():
        raise UsageError(f"--data-root {data_root} is no folder; give the folder of a local mirror of the Hub.")
    return data_root


def chosen_tasks(choice: TaskRequest, *, use: Use = "score") -> tuple[Task, ...]:
    """The tasks that were chosen.

    Raises:
        UsageError: neither or both of --tasks and --data, a name that is not known, or data that makes no task.
    """
    if choice.data is not None:
        if choice.tasks:
            raise UsageError("--tasks and --data both say what the task is; give one of them.")
        return (own_data_task(choice, data=choice.data, use=use),)
    if any(given is not None for given in (choice.label, choice.pair, choice.name)) or choice.kind != "classification":
        raise UsageError("--label, --pair, --kind and --name describe --data, which is not given.")
    if choice.encoding is not None:
        raise UsageError(
            "--encoding describes --data, which is not given; a task file has dataset_kwargs: {encoding: NAME}."
        )
    if not choice.tasks:
        raise UsageError(
            "give --tasks (names, globs or files; see `lmtasks list tasks`), or --data with a file of yours."
        )
    if isinstance(choice.tasks, tuple):
        return choice.tasks
    return choice.index.find(choice.tasks, trust_code=choice.trust_code)


def chosen_groups(choice: TaskRequest) -> tuple[Group, ...]:
    """The groups among the names that were chosen: their values stand beside those of their tasks."""
    return choice.index.find_groups(choice.tasks) if choice.tasks and isinstance(choice.tasks, str) else ()


def own_data_task(own: TaskRequest, *, data: Path | HeldRows, use: Use = "score") -> Task:
    """A task from one's own file, folder or rows; labels are read off the label column, the language off the texts.

    Raises:
        UsageError: no such data or column, or a label column that holds no labels.
    """
    from lmtasks.data.decoding import log_notice
    from lmtasks.task.load import own_task

    files = () if isinstance(data, HeldRows) else _files(data)
    rows = data.all_rows if isinstance(data, HeldRows) else _rows(files, encoding=own.encoding)
    if not rows:
        raise UsageError(f"{data} holds no rows.")
    for column in (own.text, own.label, own.pair):
        if column is not None and column not in rows[0]:
            hint = "" if own.text != "text" or column != "text" else "Name the column of the texts by --text."
            raise unknown(f"column of {data}", column, rows[0], hint=hint)
    if own.label is None and len(rows[0]) > 1:
        log_notice(
            f"{data}: without --label the likelihood of the texts in column {own.text!r} is asked, nothing is "
            f"classified; its columns: {', '.join(rows[0])}."
        )
    if own.label is None and own.kind != "classification":
        raise UsageError(f"--kind {own.kind} is about the column of --label, which is not given.")
    stored, labels = _labels(own, rows, files=files, where=str(data))
    return own_task(
        data=data,
        text=own.text,
        label=own.label,
        labels=labels,
        numbered=stored,
        kind=own.kind,
        pair=own.pair,
        name=own.name,
        language=own.language or _language([str(row[own.text]) for row in rows[:GUESS_ROWS]]),
        encoding=own.encoding,
        use=use,
    )


def own_rows(own: TaskRequest) -> Sequence[Row]:
    """The rows of one's own data, of all splits.

    Raises:
        UsageError: there is no such data, or it holds no rows.
    """
    data = own.data
    assert data is not None  # the caller looked
    rows = data.all_rows if isinstance(data, HeldRows) else _rows(_files(data), encoding=own.encoding)
    if not rows:
        raise UsageError(f"{data} holds no rows.")
    return rows


def own_columns(own: TaskRequest) -> str:
    """A sentence on the columns of one's own data; those with few different values may hold a label.

    Raises:
        UsageError: there is no such data, or it holds no rows.
    """
    rows = own_rows(own)
    few = {
        column: len(values)
        for column in rows[0]
        if 2 <= len(values := {str(row.get(column)) for row in rows[:LOOKED_AT]}) <= MOST_CLASSES
    }
    likely = [f"{column} ({count} different values)" for column, count in few.items() if column != own.text]
    it_may_be = f"; it may be {' or '.join(likely)}" if likely else ""
    return f"Its columns: {', '.join(rows[0])}{it_may_be}."


def _files(data: Path) -> Sequence[Path]:
    from lmtasks.task.formats import SUFFIXES

    if not data.exists():
        raise missing("data file", data, hint="check --data")
    if not data.is_dir():
        return [data]
    files = sorted(
        file
        for file in data.iterdir()
        if file.suffix.lower() in SUFFIXES and file.stem in ("train", "validation", "test")
    )
    if not files:
        raise UsageError(f"{data} holds no train, validation or test file ({', '.join(SUFFIXES)}).")
    return files


def _rows(files: Sequence[Path], *, encoding: str | None) -> Sequence[Row]:
    from lmtasks.data.local import open_file
    from lmtasks.data.table import joined
    from lmtasks.task.task import ReaderOptions

    return joined([open_file(file, reading=ReaderOptions(encoding=encoding), notify=_later) for file in files])


def _labels(
    own: TaskRequest, rows: Sequence[Row], *, files: Sequence[Path], where: str
) -> tuple[bool, tuple[str, ...]]:
    """The labels in the label column, and whether the files hold their numbers in place of them."""
    from lmtasks.data.labelled import read_label_lists, read_labels

    if own.label is None or own.kind == "regression":
        return False, ()
    if own.kind == "multi_label":
        return False, read_label_lists(rows, column=own.label, where=where)
    stored = _stored_names(files, own.label)
    return bool(stored), stored or read_labels(rows, column=own.label, where=where)


def _stored_names(files: Sequence[Path], label: str) -> tuple[str, ...]:
    """Names of the classes, where parquet files hold their numbers and say so."""
    from lmtasks.data.table import class_names

    found = {file: class_names(file, label) for file in files if file.suffix.lower() == ".parquet"}
    if len(set(found.values())) > 1:
        told = "; ".join(f"{file.name}: {', '.join(names) or 'none'}" for file, names in found.items())
        raise UsageError(f"the files name the classes of column {label!r} differently ({told}); write them alike.")
    return next(iter(found.values()), ())


def _later(sentence: str) -> None:
    """Drop what is found out about files here: it is told when they are read to be scored, or learned from."""


def _language(texts: Sequence[str]) -> str:
    """`zh` where every fifth mark or more is a Chinese character, else `en`.

    >>> _language(["很好看的电影", "ok"]), _language(["a good film"])
    ('zh', 'en')
    """
    marks = "".join(texts)
    chinese = sum("\u4e00" <= mark <= "\u9fff" for mark in marks)
    return "zh" if marks and chinese * 5 >= len(marks) else "en"
