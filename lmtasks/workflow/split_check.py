"""One split held against its task, row by row; and the documents that it shares with other splits.

Two documents are one where their inputs are the same text, white space aside. Of each only 8 bytes are kept, so a set
of a million rows takes 8 MB.
"""

import hashlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lmtasks.data.labelled import labelled_rows
from lmtasks.data.local import split_parts
from lmtasks.data.mirror import LocalSet, find_local
from lmtasks.data.rows import read_rows
from lmtasks.data.splits import ONLY_SCORED, with_corpus
from lmtasks.errors import UsageError
from lmtasks.records import Progress, Report, Row
from lmtasks.settings.data import DataAccess
from lmtasks.task.changes import changed_rows
from lmtasks.task.formats import BUILDERS
from lmtasks.task.hooks import is_made_whole, process_rows, shot_pool
from lmtasks.task.identity import folded, texts_of
from lmtasks.task.kinds import head_input, kind_of
from lmtasks.task.prompt import build_prompt
from lmtasks.task.task import Source, Task

PEEK_ROWS = 20
"""Rows that are fetched from the Hub to look at; of local data every row is checked."""
EVERY = 500
"""Rows between two reports of progress."""
WORTH_TELLING = 5000
"""Rows of a split, from which on its progress is reported at all."""
SCORED = "scored"
POOL = "few-shot pool"


@dataclass(frozen=True, kw_only=True)
class CheckOptions:
    """Settings of checking a split."""

    data: DataAccess
    limit: int | None = None
    """Scored rows at most."""
    num_fewshot: int | None = None
    seed: int = 1234
    show: int = 1
    """Prompts that are kept to be shown."""


@dataclass(frozen=True, kw_only=True)
class SplitCheck:
    """Findings in one split."""

    role: str
    """`train`, `validation`, `scored`, or `few-shot pool`."""
    source: Source
    where: str
    """Where the rows came from; empty where they were not looked at."""
    rows: int
    whole: bool
    """Were all rows looked at?"""
    columns: tuple[str, ...]
    wrong: int
    """Rows that do not fit the task."""
    first_wrong: str
    lacking: str = ""
    """Why the local mirror has not got it, where nothing that is asked needs it."""


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Rows that a split shares with the scored one."""

    split: str
    rows: int
    """Scored rows whose document stands in the other split too."""
    first: int
    """The first of them; -1 where there is none."""
    targets: int = 0
    """Scored rows whose right text is one there, where right answers are texts of their own."""


class DocumentHashes:
    """Hashes of the documents of one split, in their order."""

    def __init__(self) -> None:
        self._hashes = array("Q")
        self._targets = array("Q")

    def add(self, text: str, *, target: str = "") -> None:
        """The next document, and its right answer where that is a text; runs of white space count as one blank."""
        self._hashes.append(_hash(text))
        if target:
            self._targets.append(_hash(target))

    def shared_with(self, others: Sequence["tuple[str, DocumentHashes]"]) -> tuple[Overlap, ...]:
        """Count the rows that the scored split shares with each other one."""
        mine, targets = np.array(self._hashes, dtype=np.uint64), np.array(self._targets, dtype=np.uint64)
        found = []
        for split, other in others:
            shared = np.flatnonzero(np.isin(mine, np.array(other._hashes, dtype=np.uint64)))
            first = int(shared[0]) if len(shared) else -1
            texts = int(np.isin(targets, np.array(other._targets, dtype=np.uint64)).sum())
            found.append(Overlap(split=split, rows=len(shared), first=first, targets=texts))
        return tuple(found)


def check_split(
    task: Task,
    role: str,
    source: Source,
    *,
    options: CheckOptions,
    report: Report,
    documents: DocumentHashes,
    each: Callable[[Row, int], None] = lambda row, number: None,
    count: Callable[[int], None] = lambda rows: None,
    may_lack: bool = False,
) -> SplitCheck:
    """Read one split.

    Args:
        documents: is told of every document.
        each: sees every row that fits, and its number.
        count: is told before how many rows there are.
        may_lack: a mirror of the Hub need not have this split.

    Raises:
        UsageError: the split cannot be read.
        WorkError: the Hub cannot be reached, or the task's own code failed.
    """
    task = task if role == SCORED else task.clean or task
    found = find_local(source, options=options.data)
    lacking = _lacking(source, found, options=options.data) if may_lack else ""
    if lacking or (found is None and options.data.offline):
        return SplitCheck(
            role=role,
            source=source,
            where="",
            rows=0,
            whole=False,
            columns=(),
            wrong=0,
            first_wrong="",
            lacking=lacking,
        )
    limit = options.limit if role == SCORED else None
    read = None if is_made_whole(task) else limit  # as when it is evaluated
    peek = None if found is not None else min(PEEK_ROWS, limit or PEEK_ROWS)
    rows, where = read_rows(source, options=options.data, limit=read if peek is None else peek)
    rows = shot_pool(task, rows) if role == POOL else process_rows(task, rows, learned=role != SCORED)
    rows = labelled_rows(task, rows, where=where, drop=options.data.drop_unlabelled).rows
    if kind_of(task).answer == "ranks":
        rows = with_corpus(task, rows, options=options.data)
    rows = rows if limit is None else rows[:limit]
    if source.changed is not None:
        rows, _ = changed_rows(source.changed, rows)
    fitting = task if role == SCORED else _for_training(task, rows[0])
    count(len(rows))
    wrong, first_wrong = 0, ""
    for number, row in enumerate(_reported(rows, report=report, stage=f"{task.name}, {role}")):
        try:
            _check_row(fitting, row, number)
            texts = texts_of(fitting, row)
            documents.add(texts.document, target=texts.written)
            each(row, number)
        except UsageError as error:
            wrong += 1
            first_wrong = first_wrong or str(error)
    return SplitCheck(
        role=role,
        source=source,
        where=where,
        rows=len(rows),
        whole=found is not None,
        columns=tuple(rows[0]),
        wrong=wrong,
        first_wrong=first_wrong,
    )


def _lacking(source: Source, found: LocalSet | None, *, options: DataAccess) -> str:
    """Why a mirror that has the data set lacks the split; empty where it does not. A task's own files may lack none."""
    if found is None or options.data_root is None or source.path in BUILDERS:
        return ""
    try:
        for name, _ in split_parts(source.split):
            found.files(name)
    except UsageError as error:
        return str(error)
    return ""


def _reported(rows: Sequence[Row], *, report: Report, stage: str) -> Iterator[Row]:
    if len(rows) < WORTH_TELLING:
        yield from rows
        return
    for number, row in enumerate(rows):
        if number % EVERY == 0:
            report(Progress(stage=stage, done=number, total=len(rows), unit="rows"))
        yield row
    report(Progress(stage=stage, done=len(rows), total=len(rows), unit="rows"))


def _for_training(task: Task, row: Row) -> Task:
    """The task without the roles that training does not read, where the data lacks their columns."""
    kept = {role: column for role, column in task.inputs.items() if role not in ONLY_SCORED or column in row}
    return replace(task, inputs=kept)


def _check_row(task: Task, row: Row, number: int) -> None:
    """A label out of range, a missing value or a template that fails is said now, with the row's number."""
    if task.templates.asked.question is not None or task.output_type == "loglikelihood_rolling":
        build_prompt(task, row, row_number=number)
    head_input(task, row, row_number=number)


def _hash(text: str) -> int:
    plain = folded(text).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(plain, digest_size=8).digest(), "little")
