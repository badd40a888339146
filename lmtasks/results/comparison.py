"""Comparisons paired by example: paired.json of a run, and the file of `lmtasks compare --out`."""

from typing import Annotated, Literal

from lmtasks.results.base import SPARSE, Flag, Number, StoredFile, StoredModel, Whole
from lmtasks.results.cell import RowsAsked
from lmtasks.results.scores import Interval, Scale

Relation = Literal["first", "best", "parent", "rival", "clean"]
"""What the base is: the plan's reference, else the first model that has the task; the best one; the model that an
export was made from; the best rival; the variant itself on the rows of the task before they were changed."""
Verdict = Literal["better", "worse", "open"]


class TestedMetric(StoredModel):
    """One metric of one task on both sides, paired by example. Fractions are in points."""

    task: str
    metric: str
    scale: Scale
    higher_is_better: Flag
    n: Whole
    a: Number
    """The base's value, as the metric counts."""
    b: Number
    difference: Number
    ci95: Interval | None
    p_value: Number
    test: str
    effect: Number | None
    effect_name: str
    detectable: Number | None
    """The smallest difference that so many examples would show four times in five."""
    wins: Whole
    """Examples on which the other side is better than the base."""
    ties: Whole
    losses: Whole
    p_holm: Number
    """Adjusted for all comparisons of the family."""
    verdict: Verdict


class PairedRecord(TestedMetric):
    """A variant compared with another one; those of one relation, from equal rows, are one family."""

    relation: Relation = "first"
    """The only one before there were several."""
    variant: str
    base: str
    part: Annotated[str, SPARSE] = ""
    """The part of the rows that were compared; empty: all."""
    rows: Annotated[RowsAsked, SPARSE] = None
    """Training rows that both learned from; None: the plan does not ask by rows."""
    seeds: Annotated[Whole, SPARSE] = 1
    """That both were scored with, and that are joined."""


class TogetherRecord(StoredModel):
    """All variants of a task against all, on the same examples: simultaneous 95 % intervals of their differences."""

    task: str
    rows: Annotated[RowsAsked, SPARSE] = None
    """Training rows that all learned from; None: the plan does not ask by rows."""
    metric: str
    scale: Scale
    higher_is_better: Flag
    n: Whole
    variants: tuple[str, ...]
    """Best first."""
    values: tuple[Number, ...]
    """As the metric counts; means over seeds."""
    halves: tuple[tuple[Number, ...], ...]
    """Half widths of the intervals that hold together over all pairs of the task, as the metric counts: line i has
    those against the variants 0 to i - 1."""
    table_halves: tuple[tuple[Number, ...], ...]
    """Those that hold together over all tasks of the table."""


class PairedRecords(StoredFile):
    """paired.json: the comparisons of a run; those of one relation, from equal rows, are one family."""

    seed: Whole
    comparisons: tuple[PairedRecord, ...]
    parts: Annotated[tuple[PairedRecord, ...], SPARSE] = ()
    """The comparisons on parts of the rows; those of one relation are one family."""
    together: Annotated[tuple[TogetherRecord, ...], SPARSE] = ()


class KnownCounts(StoredModel):
    """How many scored rows of both sides may have been known; None: nobody counted."""

    base: Whole | None
    other: Whole | None


class ComparedMetric(TestedMetric):
    """Other results against the base."""

    other: str
    """Their folder."""
    signature: str
    known_rows: KnownCounts


class ComparedRecord(StoredFile):
    """File of `lmtasks compare --out`: one family of comparisons."""

    base: str
    """The base's folder."""
    comparisons: tuple[ComparedMetric, ...]
    not_compared: tuple[str, ...]
    """What could not be compared, and why."""
