"""decision.json: what a report says first, as values: which variant, what it costs against whom, and where it fails.

Everything is computed from stored records (`report/decision.py`); pages, report.md and the command line print the same
record.
"""

from typing import Annotated, Literal

from lmtasks.results.base import SPARSE, Flag, Number, StoredFile, StoredModel, Whole
from lmtasks.results.cell import RowsAsked
from lmtasks.results.scores import Interval, Scale

Outcome = Literal["keeps", "level", "nearest", "only", "by-task", "none"]
"""How the recommended variant came about: it keeps the quality of the best everywhere (`keeps`); it is nowhere shown to
be worse, nor to keep it (`level`); it is worse somewhere, and on the fewest tasks (`nearest`); it alone was scored
(`only`); nobody answers all tasks (`by-task`); nobody was scored (`none`)."""
QualityStatus = Literal["better", "keeps", "open", "worse", "unpaired"]
"""Beside a base: shown to be better; a loss beyond the margin is excluded; neither shown; shown to be worse; or there
is no paired comparison."""
Against = Literal["reference", "first", "parent", "rival", "others"]
"""Who the base is: the plan's reference, or where it names none the model that an export was made from, else the first
model; the best rival of each task, or, where there are no rivals or a rival is recommended, the best of all others."""


class QualityChange(StoredModel):
    """The variant minus a base on one task's main metric, paired by example."""

    task: str
    part: Annotated[str, SPARSE] = ""
    """The part of the rows that this is about; empty: all of them."""
    base: str
    metric: str
    scale: Scale
    higher_is_better: Flag
    n: Whole
    difference: Number
    """Of fractions in points."""
    ci95: Interval | None
    status: QualityStatus
    margin: Number
    """The loss that still keeps the quality, in the unit of `difference`."""

    @property
    def loss(self) -> float | None:
        """The largest loss that the interval does not exclude, from 0; None where there is no interval."""
        if self.ci95 is None:
            return None
        return max(0.0, -self.ci95[0] if self.higher_is_better else self.ci95[1])

    @property
    def is_beyond_margin(self) -> bool:
        """Is a loss of more than the margin shown?"""
        if self.ci95 is None or self.status != "worse":
            return False
        return (-self.ci95[1] if self.higher_is_better else self.ci95[0]) > self.margin


class MeanChange(StoredModel):
    """The mean difference over tasks, each counting once; of tasks in points alone."""

    tasks: Whole
    difference: Number
    ci95: Interval | None


class QualityAgainst(StoredModel):
    """The variant's quality against a base."""

    against: Against
    base: str
    """Empty where it is another one on each task."""
    mean: MeanChange | None
    """None of fewer than two tasks in points."""
    tasks: tuple[QualityChange, ...]


class SpeedAgainst(StoredModel):
    """The variant's speed over a base's: above 1 is faster."""

    base: str
    of: Literal["throughput", "latency"]
    """Many requests at once, or one alone."""
    batch_size: Whole
    tasks: Whole
    """Over which the value is the geometric mean."""
    value: Number
    ci95: Interval | None
    rounds: Whole
    """That both were timed in, in alternation; 0: they were timed apart, and the interval joins theirs."""


class VariantCosts(StoredModel):
    """Memory and size of a variant."""

    variant: str
    memory_bytes: Whole
    """At the peak, libraries among them."""
    size_bytes: Whole
    """On disk."""


class Caveat(StoredModel):
    """Where the variant should not be shipped, and why, in words."""

    kind: Literal["loss", "part", "labels", "trivial", "failed", "missing"]
    task: str
    said: str


class RoundedAnswer(StoredModel):
    """May a rounded export replace the model that it was made from?"""

    variant: str
    base: str
    answer: Literal["yes", "no", "not shown"]
    """yes: a loss beyond the margin is excluded on every task; no: it is shown on one."""
    tasks: tuple[QualityChange, ...]
    missing: tuple[str, ...] = ()
    """Tasks of the base without a paired comparison."""
    said: str


class TaskAnswer(StoredModel):
    """Who is best on one task."""

    task: str
    metric: str
    best: str
    shown: str
    """Its score, for people."""
    rival: str
    """The baseline that the best one is; empty: it is a model."""
    keeps: tuple[str, ...]
    """Variants that keep its quality, with the change that was seen."""
    open: tuple[str, ...]
    """Those that are not told apart from it, with the loss that is not excluded."""
    worse: tuple[str, ...]
    missing: tuple[str, ...]
    """Those without a score, with the reason."""
    advice: str
    """The fastest of the best and of those that keep its quality; the best itself where nothing was timed."""


class DecisionRecord(StoredFile):
    """decision.json: what a report says first."""

    name: str
    """Of the run or page."""
    rows: Annotated[RowsAsked, SPARSE] = None
    """Training rows that it is about; None: the plan does not ask by rows."""
    outcome: Outcome
    variant: str
    """The recommended one; empty where each task has its own answer, or nobody was scored."""
    detail: str
    """Its model, runtime and precision, where its name does not say them."""
    margin: Number
    """Points that a variant may lose and still keep the quality."""
    quality: tuple[QualityAgainst, ...]
    speed: tuple[SpeedAgainst, ...]
    costs: tuple[VariantCosts, ...]
    """Of the variant, then of what its speed is held to."""
    caveats: tuple[Caveat, ...]
    may_be_best: tuple[str, ...]
    """Not told apart from the best on any task, by simultaneous intervals over all of them."""
    variants: Whole
    """That were scored."""
    rounded: tuple[RoundedAnswer, ...]
    by_task: tuple[TaskAnswer, ...]
    """Only where no variant keeps the quality of the best on all tasks."""
    disturbed: tuple[str, ...]
    """What disturbed the machine while the variants of `speed` were timed."""
    troubles: tuple[str, ...]
    """What a reader must know before comparing: failed cells, other rows, other machines."""
    said: tuple[str, ...]
    """The decision in sentences, the first one being the answer."""
