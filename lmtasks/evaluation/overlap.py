"""Scored rows whose answers may have been known before: learned by the model, standing in the task's training rows, or
shown among the worked examples; and the scores on the others (`results.scores.KnownOverlap`).

Not known is a model that brings no fingerprints, and training rows that are not on this machine.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from lmtasks.data.local import split_parts
from lmtasks.data.mirror import find_local
from lmtasks.data.row_hashes import (
    SCHEMA,
    RowHashes,
    Shared,
    TrainingRows,
    hash_rows,
    read_training_rows,
    shared,
    write_training_rows,
)
from lmtasks.data.splits import ONLY_SCORED, read_split
from lmtasks.errors import LmtasksError, UsageError, WorkError
from lmtasks.evaluation.collector import CollectedStatistics
from lmtasks.evaluation.scoring import TaskMetric
from lmtasks.metric import estimate
from lmtasks.records import Bools, Progress
from lmtasks.results.scores import CleanEstimate, CleanScores, KnownOverlap, RowCounts
from lmtasks.settings.data import DataAccess
from lmtasks.task.task import Source, Task

MOST_TRAINING_ROWS = 1_000_000
"""Of more the overlap is not counted: a million rows take half a minute to two (once, where hashes are kept)."""
REPORTED_EVERY = 5000
"""Rows between two reports of progress; of few rows nothing is told."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class KnownRows:
    """Rows that scored ones may be among; None: not known."""

    learned: RowHashes | None = None
    chosen: RowHashes | None = None
    train: RowHashes | None = None
    """Of the task's training split, whoever learned from it."""
    own_answers: frozenset[int] = field(default_factory=frozenset)
    """Numbers of the rows whose prompts hold their own answer."""


NONE_AMONG_OTHERS = KnownOverlap(
    learned=RowCounts(seen=0, rows=0, inputs=0, targets=0), own_answers=0, seen=0, clean=None
)
"""The record of rows that have nothing to be right, so that nobody can have learned it (`TaskKind.told_apart`)."""


def known_rows(
    training: TrainingRows | None, train: RowHashes | None, *, own_answers: frozenset[int], choosing: bool
) -> KnownRows:
    """Collect the rows that a model may have known of one task.

    Args:
        training: what the model brings; None: nothing.
        train: the task's training rows.
        choosing: validation rows are scored, which nobody takes for unseen.
    """
    return KnownRows(
        learned=None if training is None else training.learned,
        chosen=None if training is None or choosing else training.chosen,
        train=None if choosing else train,
        own_answers=own_answers,
    )


def training_hashes(
    task: Task, *, options: DataAccess, kept: Path | None, report: Callable[[Progress], None]
) -> RowHashes | None:
    """Hashes of the task's training rows, where they lie on this machine; None where they do not, or are too many.

    Args:
        kept: the folder in which hashes are kept for the next time; None: they are not.
    """
    source = task.sources.get("train")
    files = None if source is None else _files(source, options=options)
    if source is None or files is None:
        return None
    file = None if kept is None else kept / f"{_key(task, files)}.bin"
    try:
        found = None if file is None else read_training_rows(file)
    except UsageError:
        found = None  # cut short, say: made anew
    if found is not None:
        return found.learned
    try:
        rows = read_split(task, "train", options=options)
        if len(rows) > MOST_TRAINING_ROWS:
            return None
        lacking = {role for role in ONLY_SCORED if role in task.inputs and task.inputs[role] not in rows[0]}
        progress = Progress(stage=f"{task.name}, training rows", done=0, total=len(rows), unit="rows")
        hashes = hash_rows(
            replace(task, inputs={role: column for role, column in task.inputs.items() if role not in lacking}),
            rows,
            each=lambda number: (
                report(replace(progress, done=number)) if number and number % REPORTED_EVERY == 0 else None
            ),
        ).as_set()
    except LmtasksError:
        return None  # rows that nobody scores need not fit the task
    if file is not None:
        try:
            write_training_rows(file, TrainingRows(learned=hashes))
        except WorkError as error:
            log.warning("hashes of the training rows of %s are not kept: %s", task.name, error)
    return hashes


@dataclass(frozen=True, kw_only=True)
class KnownMarks:
    """Scored rows that stand among others, in the order of the examples; None: not known."""

    learned: Shared | None
    chosen: Shared | None
    train: Shared | None
    own_answers: frozenset[int]
    """Of all rows of the split."""


def mark_known(known: KnownRows, collected: CollectedStatistics) -> KnownMarks | None:
    """Find the scored rows among the known ones; None where they could not be told apart."""
    hashes = collected.hashes
    if hashes is None:
        return None
    return KnownMarks(
        learned=None if known.learned is None else shared(hashes, known.learned),
        chosen=None if known.chosen is None else shared(hashes, known.chosen),
        train=None if known.train is None else shared(hashes, known.train),
        own_answers=known.own_answers,
    )


def overlap_record(
    marks: KnownMarks,
    collected: CollectedStatistics,
    scorings: Sequence[TaskMetric],
    *,
    resamples: int | None,
    seed: int,
) -> KnownOverlap:
    """The record of results."""
    seen = np.isin(collected.doc_ids, np.array(sorted(marks.own_answers), dtype=np.int64))
    for found in (marks.learned, marks.chosen, marks.train):
        seen |= found.any if found is not None else False
    return KnownOverlap(
        learned=_counts(marks.learned),
        chosen=_counts(marks.chosen),
        train=_counts(marks.train),
        own_answers=len(marks.own_answers),
        seen=int(seen.sum()),
        clean=_clean(~seen, collected, scorings, resamples=resamples, seed=seed) if seen.any() else None,
    )


def _counts(found: Shared | None) -> RowCounts | None:
    if found is None:
        return None
    return RowCounts(
        seen=int(found.any.sum()),
        rows=int(found.rows.sum()),
        inputs=int(found.inputs.sum()),
        targets=int(found.targets.sum()),
    )


def _clean(
    clean: Bools, collected: CollectedStatistics, scorings: Sequence[TaskMetric], *, resamples: int | None, seed: int
) -> CleanScores:
    """The scores on the rows that nobody can have known, from the statistics that are there."""
    clusters = None
    if collected.clusters is not None:
        clusters = tuple(cluster for cluster, kept in zip(collected.clusters, clean.tolist(), strict=True) if kept)
    metrics: dict[str, CleanEstimate] = {}
    for scoring in scorings if clean.any() else ():
        try:
            found = estimate(
                scoring.metric,
                collected.statistics[scoring.name][clean],
                resamples=resamples,
                seed=seed,
                clusters=clusters,
            )
        except LmtasksError:
            continue  # too few rows for this metric
        metrics[scoring.name] = CleanEstimate(
            value=found.value,
            stderr=found.stderr,
            ci95=found.ci95,
            higher_is_better=found.higher_is_better,
            scale=found.scale,
        )
    return CleanScores(n=int(clean.sum()), metrics=metrics)


def _files(source: Source, *, options: DataAccess) -> Sequence[Path] | None:
    """The files of a split, where all lie on this machine."""
    if source.made_by is not None:
        return None
    try:
        local = find_local(source, options=options)
        if local is None:
            return None
        files = [file for name, _ in split_parts(source.split) for file in local.files(name)]
    except UsageError:
        return None  # a mirror need not hold what nobody scores
    return files if files and all(file.is_file() for file in files) else None


def _key(task: Task, files: Sequence[Path]) -> str:
    """What hashes depend on: how the task reads rows, and the files."""
    states = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256(json.dumps([SCHEMA, task.hash, states]).encode()).hexdigest()[:32]
