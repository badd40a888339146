"""What is kept of a task's answers while they stream by: statistics of each example, and nothing else.

Axes: N examples, K columns of statistics.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from lmtasks.data.row_hashes import RowHashes
from lmtasks.errors import LmtasksError, UsageError
from lmtasks.evaluation.coding import Coding, coding_of, counts_text
from lmtasks.evaluation.pending import Finished
from lmtasks.evaluation.samples import Samples, plain, sample_of
from lmtasks.evaluation.scoring import Scoring
from lmtasks.evaluation.unlisted import Unlisted, ValueName, without_value
from lmtasks.metric import Metric
from lmtasks.metric.base import concatenate
from lmtasks.records import Floats, Ints, Json, Likelihood, Row

SYSTEM_DROPPED = "the chat template drops the system turn: the model did not read it"


@dataclass(frozen=True, kw_only=True)
class Tallied:
    """A task's answers, reduced; in the order of `doc_ids`."""

    doc_ids: Ints
    """(N,)"""
    statistics: Mapping[str, Floats]
    """Metric to (N, K)."""
    clusters: tuple[str, ...] | None
    """(N,) which examples belong together."""
    truncated: int
    """Examples of which something was cut off to fit the model."""
    coding: Coding = field(default_factory=Coding)
    """Of texts whose probability was asked for."""
    remarks: Mapping[str, int] = field(default_factory=dict)
    """What a reader must know of the values, and of how many examples it is true."""
    unlisted: tuple[ValueName, ...] = ()
    """Values that the task's own code made and no metric names."""
    hashes: RowHashes | None = None
    """(N,) of the rows; None: nobody asked, or a row has no text that it could be told by."""


@dataclass(kw_only=True)
class Tally:
    """Collects the answers of one task.

    Args:
        cluster: the column whose equal values belong together.
        samples: gets each example with its values.
        unlisted: values that no metric names are scored too, and their scorings added; None: they are not.
        identify: (the row, its target) as numbers, see `data.row_hashes`; None: rows need not be told apart.
    """

    task: str
    scorings: list[Scoring]
    cluster: str | None
    samples: Samples
    identify: Callable[[Row], tuple[int, int]] | None = None
    unlisted: Unlisted | None = None
    _doc_ids: list[Ints] = field(default_factory=list)
    _statistics: dict[str, list[Floats]] = field(default_factory=dict)
    _clusters: list[str] = field(default_factory=list)
    _truncated: int = 0
    _coding: Coding = field(default_factory=Coding)
    _remarks: Counter[str] = field(default_factory=Counter)
    _hashes: list[tuple[int, int]] = field(default_factory=list)

    def take(self, finished: Sequence[Finished]) -> None:
        """Count some answers.

        Raises:
            UsageError: a metric does not fit the outcomes, or a row lacks the cluster's column.
            WorkError: a metric has no value for an outcome.
        """
        for scoring in self.unlisted.new_scorings(finished, listed=self.scorings) if self.unlisted else ():
            self._add(scoring)
        outcomes = {scoring.name: [scoring.outcome_of(each.answered) for each in finished] for scoring in self.scorings}
        found = {scoring.name: scoring.metric.statistics(outcomes[scoring.name]) for scoring in self.scorings}
        self._doc_ids.append(np.array([each.example.doc_id for each in finished], dtype=np.int64))
        for name, table in found.items():
            self._statistics.setdefault(name, []).append(table)
        if self.cluster is not None:
            self._clusters += [_cluster(each.example.row, self.cluster, task=self.task) for each in finished]
        self._truncated += sum(each.truncated for each in finished)
        self._coding += coding_of(finished)
        self._remarks.update(remark for each in finished for remark in each.remarks)
        remarks: Counter[str] = Counter()
        for scoring in self.scorings:  # several may say the same
            remarks |= Counter(scoring.metric.remarks(outcomes[scoring.name]) if scoring.metric.remarks else {})
        self._remarks += remarks
        self._identify(finished)
        values = {scoring.name: scoring.metric.per_example(found[scoring.name]).tolist() for scoring in self.scorings}
        self.samples.add(
            self.task,
            [
                sample_of(each, {name: values[name][place] for name in self._valued(each)})
                for place, each in enumerate(finished)
            ],
        )

    def _identify(self, finished: Sequence[Finished]) -> None:
        if self.identify is None:
            return
        try:
            self._hashes += [self.identify(each.example.row) for each in finished]
        except LmtasksError:
            self.identify = None  # a row that can be scored need not say what is right

    def add_unlisted(self, places: Sequence[ValueName]) -> None:
        """Score values that another process came upon."""
        for place in places:
            if self.unlisted is not None and place not in self.unlisted.scored:
                self._add(self.unlisted.scoring(place))

    def _add(self, scoring: Scoring) -> None:
        """Examples before have no value of it."""
        self.scorings.append(scoring)
        before = sum(map(len, self._doc_ids))
        self._statistics[scoring.name] = [without_value(scoring.metric, before)] if before else []

    def _valued(self, finished: Finished) -> list[str]:
        """The metrics that this example has a value of."""
        outcome = finished.answered.outcome
        whole = not isinstance(outcome, Likelihood) or outcome.is_coded
        return [scoring.name for scoring in self.scorings if whole or not counts_text(scoring)]

    def result(self) -> Tallied:
        """Everything so far.

        Raises:
            WorkError: a metric's statistics changed their width on the way.
        """
        return Tallied(
            doc_ids=np.concatenate([np.zeros(0, dtype=np.int64), *self._doc_ids]),
            statistics={
                scoring.name: _joined(scoring.metric, self._statistics.get(scoring.name, []))
                for scoring in self.scorings
            },
            clusters=tuple(self._clusters) if self.cluster is not None else None,
            truncated=self._truncated,
            coding=self._coding,
            remarks=dict(self._remarks),
            unlisted=() if self.unlisted is None else tuple(self.unlisted.scored),
            hashes=None if self.identify is None else _columns(self._hashes),
        )


def merge(parts: Sequence[Tallied], *, scorings: Sequence[Scoring]) -> Tallied:
    """The tallies of several processes as that of one would be: in the order of the examples."""
    doc_ids = np.concatenate([part.doc_ids for part in parts])
    order = np.argsort(doc_ids, kind="stable")
    clusters = list(chain.from_iterable(part.clusters or () for part in parts))
    filled = [part for part in parts if len(part.doc_ids)]
    hashes = [part.hashes for part in parts if part.hashes is not None]
    return Tallied(
        doc_ids=doc_ids[order],
        statistics={
            scoring.name: _joined(scoring.metric, [_of_part(part, scoring) for part in filled])[order]
            for scoring in scorings
        },
        clusters=None if parts[0].clusters is None else tuple(clusters[place] for place in order.tolist()),
        truncated=sum(part.truncated for part in parts),
        coding=sum((part.coding for part in parts), Coding()),
        remarks=dict(sum((Counter(part.remarks) for part in parts), Counter())),
        hashes=RowHashes(
            rows=np.concatenate([part.rows for part in hashes])[order],
            targets=np.concatenate([part.targets for part in hashes])[order],
        )
        if len(hashes) == len(parts)
        else None,
    )


def notes_of(tallied: Tallied, conditions: Json) -> tuple[str, ...]:
    """The remarks as sentences, with the number of examples where it is not all of them; those of the chat first."""
    n = len(tallied.doc_ids)
    chat = conditions.get("chat")
    dropped = chat.get("system_dropped") if isinstance(chat, Mapping) else None
    remarks = {**({SYSTEM_DROPPED: int(str(dropped))} if dropped else {}), **tallied.remarks}
    return tuple(
        f"{remark}." if count == n else f"{remark} (true of {count} of {n} examples)."
        for remark, count in remarks.items()
    )


def _of_part(part: Tallied, scoring: Scoring) -> Floats:
    found = part.statistics.get(scoring.name)
    return without_value(scoring.metric, len(part.doc_ids)) if found is None else found


def _joined(metric: Metric, tables: Sequence[Floats]) -> Floats:
    return concatenate(metric, tables) if tables else np.zeros((0, 0))


def _columns(hashes: Sequence[tuple[int, int]]) -> RowHashes:
    return RowHashes(
        rows=np.array([row for row, _ in hashes], dtype=np.uint64),
        targets=np.array([target for _, target in hashes], dtype=np.uint64),
    )


def _cluster(row: Row, column: str, *, task: str) -> str:
    if column not in row:
        raise UsageError(f"task {task}: its cluster column {column!r} is not in the data. Columns: {', '.join(row)}.")
    return str(plain(row[column]))
