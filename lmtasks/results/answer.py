"""Object that every command prints with `--json`: how it ended, what it says to people, and its numbers."""

from typing import Annotated, Literal

from lmtasks.results.base import SPARSE, Flag, Number, StoredModel, Whole
from lmtasks.results.comparison import ComparedMetric
from lmtasks.results.scores import Interval, Scale


class AnsweredScore(StoredModel):
    """One metric of one model on one task."""

    model: str
    """Or a variant of a plan."""
    task: str
    metric: str
    value: Number
    """By the metric's scale: a fraction 0-1, points 0-100, or raw."""
    ci95: Interval | None
    n: Whole
    """Scored examples."""
    scale: Scale
    higher_is_better: Flag


class AnsweredSpeed(StoredModel):
    """One variant on one task at one batch size, beside the first variant."""

    variant: str
    base: str
    task: str
    batch_size: Whole
    length: Whole
    """Tokens of every request; 0: as the task's rows have them."""
    examples_per_s: Number
    ratio: Number
    """Above 1 is faster than the base."""
    ratio_ci95: Interval | None
    verdict: Literal["faster", "slower", "no difference seen"]


class AnsweredCells(StoredModel):
    """Cells of a run by how they ended."""

    scored: Whole
    found: Whole
    """From before."""
    not_applicable: Whole
    failed: tuple[str, ...]
    """A sentence for each."""


class AnsweredTable(StoredModel):
    """A table as it is printed."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class AnswerRecord(StoredModel):
    """Answer of a command. A field that does not apply is left out."""

    command: str
    """Its first word."""
    code: Whole
    """The exit code: 0 done, 1 the work failed, 2 the command was wrong, 3 a gate said no."""
    error: Annotated[str, SPARSE] = ""
    """What went wrong, in a sentence."""
    decision: Annotated[tuple[str, ...], SPARSE] = ()
    """What a report says first."""
    folder: Annotated[str, SPARSE] = ""
    """What was made, or found: a run, results, a model, a package."""
    files: Annotated[tuple[str, ...], SPARSE] = ()
    """Pages and files to look at."""
    scores: Annotated[tuple[AnsweredScore, ...], SPARSE] = ()
    speeds: Annotated[tuple[AnsweredSpeed, ...], SPARSE] = ()
    comparisons: Annotated[tuple[ComparedMetric, ...], SPARSE] = ()
    """Other results against the first."""
    cells: Annotated[AnsweredCells | None, SPARSE] = None
    printed: Annotated[tuple[AnsweredTable, ...], SPARSE] = ()
    """Tables as they are printed for people."""
    said: Annotated[tuple[str, ...], SPARSE] = ()
    """All that is printed for people, a line each."""
