"""Which tasks a command is about: those that `--tasks` names, or the one that `--data` is."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lmtasks.errors import UsageError, unknown

if TYPE_CHECKING:
    from lmtasks.data.options import DataOptions
    from lmtasks.records import Row
    from lmtasks.task.groups import Group
    from lmtasks.task.task import Task

MOST_LABELS = 200
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
    flags = {"--offline": offline, "--trust-code": trust_code}
    return shlex.join([*words, *(flag for flag, is_given in flags.items() if is_given)])


def data_options(*, data_root: Path | None, offline: bool, token: str | None) -> DataOptions:
    """The options as `data/` takes them. `--offline` is also told to the libraries, before they are imported."""
    from lmtasks.data.options import DataOptions

    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
        os.environ["HF_DATASETS_OFFLINE"] = "1"
    if data_root is not None and not data_root.is_dir():
        raise UsageError(f"--data-root {data_root} is no folder; give the folder of a local mirror of the Hub.")
    return DataOptions(data_root=data_root, offline=offline, token=token)


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
    from lmtasks.task.load import own_task

    rows = _rows(own.file, encoding=own.encoding)
    for column in (own.text, own.label, own.pair):
        if column is not None and column not in rows[0]:
            raise unknown(f"column of {own.file}", column, rows[0])
    return own_task(
        data=own.file,
        text=own.text,
        label=own.label,
        labels=() if own.label is None else _labels(rows, own.label, own.file),
        pair=own.pair,
        name=own.name,
        language=own.language or _language([str(row[own.text]) for row in rows[:GUESS_ROWS]]),
        encoding=own.encoding,
        use=use,
    )


def _rows(data: Path, *, encoding: str | None) -> Sequence[Row]:
    from lmtasks.data.large import open_file
    from lmtasks.data.table import joined
    from lmtasks.task.formats import SUFFIXES
    from lmtasks.task.task import Reading

    if not data.exists():
        raise UsageError(f"there is no data file {data}; check --data.")
    files = [data]
    if data.is_dir():
        files = sorted(
            file
            for file in data.iterdir()
            if file.suffix.lower() in SUFFIXES and file.stem in ("train", "validation", "test")
        )
        if not files:
            raise UsageError(f"{data} holds no train, validation or test file ({', '.join(SUFFIXES)}).")
    rows = joined([open_file(file, reading=Reading(encoding=encoding)) for file in files])
    if not rows:
        raise UsageError(f"{data} holds no rows.")
    return rows


def _labels(rows: Sequence[Row], column: str, data: Path) -> tuple[str, ...]:
    """The label column's values as names: numbers by size, texts by spelling."""
    values = {row[column] for row in rows if row[column] is not None}
    if len(values) > MOST_LABELS:
        some = ", ".join(repr(value) for value in sorted(map(str, values))[:3])
        raise UsageError(
            f"column {column!r} of {data} holds {len(values)} different values ({some}, ...); a label column has at "
            f"most {MOST_LABELS}."
        )
    if len(values) < 2:
        raise UsageError(f"column {column!r} of {data} holds {len(values)} value; a label column has at least two.")
    numbers = all(isinstance(value, int | float) for value in values)
    ordered = sorted(values, key=lambda value: (float(str(value)) if numbers else 0.0, str(value)))
    return tuple(
        str(int(value)) if isinstance(value, float) and value.is_integer() else str(value) for value in ordered
    )


def _language(texts: Sequence[str]) -> str:
    """`zh` where every fifth mark or more is a Chinese character, else `en`.

    >>> _language(["很好看的电影", "ok"]), _language(["a good film"])
    ('zh', 'en')
    """
    marks = "".join(texts)
    chinese = sum("\u4e00" <= mark <= "\u9fff" for mark in marks)
    return "zh" if marks and chinese * 5 >= len(marks) else "en"
