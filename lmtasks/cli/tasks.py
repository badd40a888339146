"""Which tasks a command is about: those that `--tasks` names, or the one that `--data` is."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lmtasks.errors import UsageError, missing, unknown

if TYPE_CHECKING:
    from lmtasks.data.options import DataOptions
    from lmtasks.records import Row
    from lmtasks.task.groups import Group
    from lmtasks.task.task import Task

Use = Literal["score", "train", "both"]
"""What the rows of one's own data are for. Of a single file, `both` sets a part aside to be scored."""
GUESS_ROWS = 50
"""Rows that the language of one's own data is guessed from."""


@dataclass(frozen=True, kw_only=True)
class OwnData:
    """`--data FILE --text COLUMN --label COLUMN`, and what goes with it."""

    file: Path
    text: str
    label: str | None
    pair: str | None = None
    name: str | None = None
    language: str | None = None
    encoding: str | None = None


def asked_again(
    *,
    tasks: str = "",
    data: Path | None = None,
    text: str = "text",
    label: str | None = None,
    pair: str | None = None,
    name: str | None = None,
    language: str | None = None,
    encoding: str | None = None,
    drop_unlabelled: bool = False,
    data_root: Path | None = None,
    offline: bool = False,
    trust_code: bool = False,
) -> str:
    """The options that say the same of tasks or data in another command, ready to be pasted.

    >>> asked_again(data=Path("my reviews.csv"), label="stars")
    "--data 'my reviews.csv' --label stars"
    """
    given: dict[str, object] = {
        "--tasks": tasks or None,
        "--data": data,
        "--text": text if data is not None and text != "text" else None,
        "--label": label,
        "--pair": pair,
        "--name": name,
        "--language": language,
        "--encoding": encoding,
        "--data-root": data_root,
    }
    words = [word for option, value in given.items() if value is not None for word in (option, str(value))]
    flags = {"--drop-unlabelled": drop_unlabelled, "--offline": offline, "--trust-code": trust_code}
    return shlex.join([*words, *(flag for flag, is_given in flags.items() if is_given)])


def data_options(
    *, data_root: Path | None, offline: bool, token: str | None, drop_unlabelled: bool = False
) -> DataOptions:
    """The options as `data/` takes them. `--offline` is also told to the libraries, before they are imported."""
    from lmtasks.data.options import DataOptions

    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
        os.environ["HF_DATASETS_OFFLINE"] = "1"
    if data_root is not None and not data_root.is_dir():
        raise UsageError(f"--data-root {data_root} is no folder; give the folder of a local mirror of the Hub.")
    return DataOptions(data_root=data_root, offline=offline, token=token, drop_unlabelled=drop_unlabelled)


def chosen_tasks(
    *,
    tasks: str,
    data: Path | None,
    text: str,
    label: str | None,
    pair: str | None = None,
    name: str | None = None,
    language: str | None = None,
    encoding: str | None = None,
    trust_code: bool = False,
    use: Use = "score",
    include: Sequence[Path] = (),
) -> tuple[Task, ...]:
    """The tasks of a command line.

    Raises:
        UsageError: neither or both of --tasks and --data, a name that is not known, or data that makes no task.
    """
    if data is not None:
        if tasks:
            raise UsageError("--tasks and --data both say what the task is; give one of them.")
        own = OwnData(file=data, text=text, label=label, pair=pair, name=name, language=language, encoding=encoding)
        return (own_data_task(own, use=use),)
    if any(given is not None for given in (label, pair, name)):
        raise UsageError("--label, --pair and --name describe --data, which is not given.")
    if encoding is not None:
        raise UsageError(
            "--encoding describes --data, which is not given; a task file has dataset_kwargs: {encoding: NAME}."
        )
    if not tasks:
        raise UsageError(
            "give --tasks (names, globs or files; see `lmtasks list tasks`), or --data with a file of yours."
        )
    from lmtasks.task.index import default_index

    return default_index(include=include).find(tasks, trust_code=trust_code)


def chosen_groups(tasks: str, *, include: Sequence[Path] = ()) -> tuple[Group, ...]:
    """The groups among what `--tasks` names: their values are printed and written beside those of their tasks."""
    from lmtasks.task.index import default_index

    return default_index(include=include).find_groups(tasks)


def own_data_task(own: OwnData, *, use: Use = "score") -> Task:
    """A task from one's own file or folder; labels are read off the label column, the language off the texts.

    Raises:
        UsageError: no such data or column, or a label column that holds no labels.
    """
    from lmtasks.data.decoding import say
    from lmtasks.data.labelled import read_labels
    from lmtasks.task.load import own_task

    files = _files(own.file)
    rows = _rows(files, own)
    for column in (own.text, own.label, own.pair):
        if column is not None and column not in rows[0]:
            hint = "" if own.text != "text" or column != "text" else "Name the column of the texts by --text."
            raise unknown(f"column of {own.file}", column, rows[0], hint=hint)
    if own.label is None and len(rows[0]) > 1:
        say(
            f"{own.file}: without --label the likelihood of the texts in column {own.text!r} is asked, nothing is "
            f"classified; its columns: {', '.join(rows[0])}."
        )
    stored = () if own.label is None else _stored_names(files, own.label)
    labels = stored or (() if own.label is None else read_labels(rows, column=own.label, where=str(own.file)))
    return own_task(
        data=own.file,
        text=own.text,
        label=own.label,
        labels=labels,
        numbered=bool(stored),
        pair=own.pair,
        name=own.name,
        language=own.language or _language([str(row[own.text]) for row in rows[:GUESS_ROWS]]),
        encoding=own.encoding,
        use=use,
    )


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


def _rows(files: Sequence[Path], own: OwnData) -> Sequence[Row]:
    from lmtasks.data.local import open_file
    from lmtasks.data.table import joined
    from lmtasks.task.task import ReaderOptions

    rows = joined([open_file(file, reading=ReaderOptions(encoding=own.encoding), tell=_later) for file in files])
    if not rows:
        raise UsageError(f"{own.file} holds no rows.")
    return rows


def _stored_names(files: Sequence[Path], label: str) -> tuple[str, ...]:
    """What the classes are called, where parquet files hold their numbers and say so."""
    from lmtasks.data.table import class_names

    found = {file: class_names(file, label) for file in files if file.suffix.lower() == ".parquet"}
    if len(set(found.values())) > 1:
        told = "; ".join(f"{file.name}: {', '.join(names) or 'none'}" for file, names in found.items())
        raise UsageError(f"the files name the classes of column {label!r} differently ({told}); write them alike.")
    return next(iter(found.values()), ())


def _later(sentence: str) -> None:
    """What is found out about the files is told when they are read to be scored, or learned from."""


def _language(texts: Sequence[str]) -> str:
    """`zh` where every fifth mark or more is a Chinese character, else `en`.

    >>> _language(["很好看的电影", "ok"]), _language(["a good film"])
    ('zh', 'en')
    """
    marks = "".join(texts)
    chinese = sum("\u4e00" <= mark <= "\u9fff" for mark in marks)
    return "zh" if marks and chinese * 5 >= len(marks) else "en"
