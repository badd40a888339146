"""The data of one task: what it trains on, what choices are made on, what is scored.

The three never share a row of one split: where a task has no validation data of its own, or would choose on what it is
scored on, a seeded part of its training data is set apart for that.
"""

import logging
import random
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace

import numpy as np

from lmtasks.data.decoding import Notify, log_notice
from lmtasks.data.labelled import labelled_rows
from lmtasks.data.local import split_parts
from lmtasks.data.mirror import find_local, with_stand_ins
from lmtasks.data.rows import Rows, make_rows, read_rows
from lmtasks.data.sampling import NO_LABEL, Sample, labels_of, nested_order, part_of, sampled
from lmtasks.data.table import class_names
from lmtasks.errors import UsageError
from lmtasks.records import Row
from lmtasks.settings.data import DataAccess
from lmtasks.task.hooks import is_made_whole, process_rows
from lmtasks.task.kinds import kind_of
from lmtasks.task.kinds.ranking import deepest_recall
from lmtasks.task.kinds.retrieval import CORPUS, Corpus, right_texts
from lmtasks.task.task import ChangedRows, Source, SplitName, Task
from lmtasks.task.templates import Place, column_value, is_template

CARVED_SHARE = 0.1
CARVED_MOST = 1000
ONLY_SCORED = ("references", "source")
"""Roles that training does not read, so that training data from another set may lack them."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TaskData:
    """The rows of a task; a split that was not needed is None."""

    train: Rows | None = None
    validation: Rows | None = None
    test: Rows | None = None
    """The scored split."""


def load_task_data(
    task: Task,
    *,
    options: DataAccess,
    need: frozenset[SplitName],
    limit: int | None = None,
    sample: Sample | None = None,
    seed: int = 1234,
) -> TaskData:
    """Open the splits that are needed.

    Args:
        task: names the sources.
        options: where data may come from.
        need: which splits to open. `train` is the same rows whether or not `validation` is opened with it.
        limit: score only the first rows of the scored split; training and validation data stay whole.
        sample: score only so many rows of it, drawn.
        seed: of the draw of validation rows from training data.

    Raises:
        UsageError: no source for a needed split; or it cannot be read, is empty, or lacks a column.
        WorkError: the Hub could not be reached.
    """
    task = with_stand_ins(task, options=options)
    carves = not _has_own_validation(task)
    learned = task.clean or task  # whose rows are learned from, whatever is scored
    train, validation = None, None
    if "train" in need or ("validation" in need and carves):
        train, validation = _open_train(learned, options=options, carves=carves, need=need, seed=seed)
    if "validation" in need and not carves:
        validation = _open(learned, learned.sources["validation"], options=options, split="validation")
    test = None
    if "test" in need:
        if "test" not in task.sources:
            raise UsageError(f"task {task.name} names no split to score; give it a test_split or validation_split.")
        test = _open(task, task.sources["test"], options=options, split="test", limit=limit, sample=sample)
    return TaskData(train=train, validation=validation, test=test)


def carve(rows: Sequence[Row], *, seed: int) -> tuple[list[Row], list[Row]]:
    """Set a seeded tenth of the rows apart, at most 1,000 and at least one: (kept, set apart), each in its old order.

    >>> kept, apart = carve([{"n": number} for number in range(30)], seed=1)
    >>> len(kept), len(apart)
    (27, 3)
    """
    count = min(CARVED_MOST, max(1, round(len(rows) * CARVED_SHARE)))
    apart = set(random.Random(seed).sample(range(len(rows)), count))
    return (
        [row for number, row in enumerate(rows) if number not in apart],
        [row for number, row in enumerate(rows) if number in apart],
    )


def drawn(task: Task, data: TaskData, *, rows: int | None, seed: int) -> TaskData:
    """The data with at most so many training rows: nested by seed, each label with its share (`nested_order`).

    Labels for which there are not rows enough are told.
    """
    if rows is None or data.train is None or len(data.train.rows) <= rows:
        return data
    labels = labels_of(task, data.train.rows)
    known = set(labels) - {NO_LABEL}
    if len(known) > rows:
        log.warning("task %s: %s", task.name, labels_missing(rows, labels=len(known)))
    places = np.sort(nested_order(labels, seed=seed)[:rows])
    kept = tuple(data.train.rows[int(place)] for place in places)
    how = f"{rows}/{seed}{'/by label' if known else ''}"
    return replace(data, train=replace(data.train, rows=kept, fingerprint=f"{data.train.fingerprint}/{how}"))


def labels_missing(rows: int, *, labels: int) -> str:
    """Sentence part on labels without an example among so few training rows."""
    return (
        f"{rows} training {'row has' if rows == 1 else 'rows have'} {rows} of its {labels} labels, the most frequent "
        f"ones; the other {labels - rows} are without an example"
    )


def _open_train(
    task: Task, *, options: DataAccess, carves: bool, need: frozenset[SplitName], seed: int
) -> tuple[Rows | None, Rows | None]:
    if "train" not in task.sources:
        wants = "training" if "train" in need else "validation"
        raise UsageError(
            f"task {task.name} has no {wants} data; give it a training_split"
            + (" or a validation_split that is not the scored one." if wants == "validation" else ".")
        )
    found = _read(task, task.sources["train"], options=options, split="train")
    rows, where = found.rows, found.where
    if not carves:
        return found.rows_with(rows, where=where), None
    if len(rows) < 2:
        raise UsageError(
            f"the training data of task {task.name} ({where}) is one row, and validation data must be taken from it; "
            "give more rows, or a validation_split."
        )
    kept, apart = carve(rows, seed=seed)
    log.info("task %s: %d of %d training rows are set apart for validation", task.name, len(apart), len(rows))
    part = f"{len(apart)} of {len(rows)} rows, seed {seed}"
    return (
        found.rows_with(kept, where=f"{where} without {part}") if "train" in need else None,
        found.rows_with(apart, where=f"{where} ({part})") if "validation" in need else None,
    )


def read_split(task: Task, split: SplitName, *, options: DataAccess) -> Sequence[Row]:
    """The rows of a split that can be learned from or scored, without a word about what was found out about them.

    Raises:
        UsageError: as `load_task_data`.
        WorkError: as there.
    """
    return _read(task, task.sources[split], options=options, split=split, on_notice=_silent).rows


def _silent(sentence: str) -> None:
    """Tell nobody."""


def _open(
    task: Task,
    source: Source,
    *,
    options: DataAccess,
    split: SplitName,
    limit: int | None = None,
    sample: Sample | None = None,
) -> Rows:
    found = _read(task, source, options=options, split=split, limit=limit)
    if sample is None:
        return found.rows_with(found.rows, where=found.where)
    rows = sampled(task, found.rows, sample)
    return found.rows_with(rows, where=f"{len(rows)} drawn of the {len(found.rows)} rows of {found.where}")


@dataclass(frozen=True, kw_only=True)
class _Read:
    """Rows of a split that have a label each, and the notices about them."""

    rows: Sequence[Row]
    where: str
    notes: Sequence[str]
    left_out: int
    silent: bool
    """Nobody has been told the notices yet."""

    def rows_with(self, rows: Sequence[Row], *, where: str) -> Rows:
        return make_rows(rows, where=where, notes=self.notes, left_out=self.left_out)


def _read(
    task: Task,
    source: Source,
    *,
    options: DataAccess,
    split: SplitName,
    limit: int | None = None,
    on_notice: Notify = log_notice,
) -> _Read:
    """A split after the task's `process_docs`; the limit counts the rows that come out of it, as in the harness. A
    single file is divided once rows without a label are left out. Notices are told once, however often it is read
    within `read_once`."""
    memory = _MEMORY.get()
    if memory is None:
        return _read_anew(task, source, options=options, split=split, limit=limit, on_notice=on_notice)
    found = memory.found(task, source, split=split, limit=limit)
    if found is None:
        found = _read_anew(task, source, options=options, split=split, limit=limit, on_notice=on_notice)
    elif found.silent and on_notice is not _silent:
        for sentence in found.notes:
            on_notice(sentence)
        found = replace(found, silent=False)
    memory.keep(found, task, source, split=split, limit=limit)
    return found


def _read_anew(
    task: Task,
    source: Source,
    *,
    options: DataAccess,
    split: SplitName,
    limit: int | None,
    on_notice: Notify,
) -> _Read:
    notes: list[str] = []

    def notify(sentence: str) -> None:
        notes.append(sentence)
        on_notice(sentence)

    ranks = kind_of(task).answer == "ranks"
    whole = is_made_whole(task) or source.part is not None or ranks
    rows, where = read_rows(replace(source, part=None), options=options, limit=None if whole else limit, notify=notify)
    rows = process_rows(task, rows, learned=split == "train")
    _check_columns(task, rows[0], split=split)
    _check_class_names(task, source, options=options)
    labelled = labelled_rows(task, rows, where=where, drop=options.drop_unlabelled, notify=notify)
    rows = labelled.rows
    if source.part is not None:
        rows, where = part_of(rows, source.part, where=where)
    rows = with_corpus(task, rows, options=options) if ranks else rows
    rows = rows if limit is None else rows[:limit]
    if source.changed is not None:
        rows = _changed(task, source.changed, rows, notify=notify)
    return _Read(rows=rows, where=where, notes=notes, left_out=labelled.left_out, silent=on_notice is _silent)


ROWS_KEPT = 200_000
"""Rows that `read_once` holds at most; those that were not needed for longest are read again."""


@dataclass(kw_only=True)
class _Memory:
    """Splits that were read, by the name and hash of their task, the split and its limit."""

    splits: OrderedDict[tuple[str, str, SplitName, int | None], tuple[Source, _Read]] = field(
        default_factory=OrderedDict
    )

    def found(self, task: Task, source: Source, *, split: SplitName, limit: int | None) -> _Read | None:
        known = self.splits.get((task.name, task.hash, split, limit))
        return known[1] if known and known[0] == source else None

    def keep(self, read: _Read, task: Task, source: Source, *, split: SplitName, limit: int | None) -> None:
        key = (task.name, task.hash, split, limit)
        self.splits[key] = (source, read)
        self.splits.move_to_end(key)
        while sum(len(each.rows) for _, each in self.splits.values()) > ROWS_KEPT:
            self.splits.popitem(last=False)


_MEMORY: ContextVar[_Memory | None] = ContextVar("splits that were read", default=None)


@contextmanager
def read_once() -> Iterator[None]:
    """Read each split of a task once within the block, as many cells over few tasks want it.

    A file that changes meanwhile is not read again, and its notices are not repeated.
    """
    token = _MEMORY.set(_Memory())
    try:
        yield
    finally:
        _MEMORY.reset(token)


def with_corpus(task: Task, rows: Sequence[Row], *, options: DataAccess) -> Sequence[Row]:
    """The rows of a whole split with the texts among which the right ones are looked for.

    Raises:
        UsageError: the texts cannot be read, or are fewer than two.
        WorkError: the Hub could not be reached.
    """
    if task.corpus is None:
        texts = [
            text
            for number, row in enumerate(rows)
            for text in right_texts(task, row, where=f"task {task.name}, row {number}")
        ]
        where = f"{len(rows)} rows"
    else:
        opened, where = read_rows(task.corpus.source, options=options)
        place = Place(task=task.name, field="corpus.text")
        texts = [str(column_value(task.corpus.text, row=row, place=place)) for row in opened]
    corpus = Corpus(texts)
    if len(corpus.texts) < 2:
        raise UsageError(
            f"task {task.name}: a corpus of {len(corpus.texts)} different texts ({where}) leaves nothing to look for."
        )
    deepest = deepest_recall(task)
    if deepest is not None and len(corpus.texts) < deepest[0]:
        log.warning(
            "task %s: a corpus of %d different texts (%s) is smaller than the %d of %s, which has no value then; take "
            "the metric out, or give more.",
            task.name,
            len(corpus.texts),
            where,
            *deepest,
        )
    return [{**row, CORPUS: corpus} for row in rows]


def _changed(task: Task, how: ChangedRows, rows: Sequence[Row], *, notify: Notify) -> Sequence[Row]:
    from lmtasks.task.changes import changed_rows

    found, count = changed_rows(how, rows)
    if count < len(rows):
        notify(f"{task.name}: {count} of {len(rows)} scored rows are changed; {how.change} finds nothing in others.")
    return found


def has_validation(task: Task) -> bool:
    """True where there are rows to make choices on, a validation split or a part of the training rows."""
    return "train" in task.sources or _has_own_validation(task)


def _has_own_validation(task: Task) -> bool:
    validation, test = task.sources.get("validation"), task.sources.get("test")
    return validation is not None and (test is None or not _overlap(validation, test))


def _overlap(first: Source, second: Source) -> bool:
    """May the two hold the same rows? Two different slices of one split are trusted to be apart."""
    if replace(first, split=second.split, changed=second.changed) != second:
        return False
    if first.split == second.split:
        return True
    parts, others = split_parts(first.split), split_parts(second.split)
    return any(
        name == other and (not cut or not other_cut or cut == other_cut)
        for name, cut in parts
        for other, other_cut in others
    )


def _check_columns(task: Task, row: Row, *, split: SplitName) -> None:
    """Say now, not in the middle of the work, that a column which a head reads is not there."""
    for role, column in task.inputs.items():
        if is_template(column) or (split == "train" and role in ONLY_SCORED):
            continue
        column_value(column, row=row, place=Place(task=task.name, field=f"inputs.{role}, {split} data"))


def _check_class_names(task: Task, source: Source, *, options: DataAccess) -> None:
    """Refuse parquet files that name the task's own labels in another order: their numbers mean other classes."""
    column = task.inputs.get("label")
    if kind_of(task).answer != "label" or column is None or source.made_by is not None:
        return
    local = find_local(source, options=options)
    files = [] if local is None else [file for name, _ in split_parts(source.split) for file in local.files(name)]
    for file in files:
        names = class_names(file, column) if file.suffix.lower() == ".parquet" else ()
        if names != task.labels and sorted(names) == sorted(task.labels):
            raise UsageError(
                f"task {task.name} has the labels {', '.join(task.labels)}, and {file} numbers the same ones "
                f"otherwise: {', '.join(names)}; give the labels in that order."
            )
