"""How each variant stands to the best one on a task, rivals among them: by the paired comparison, and by nothing else.

A variant keeps the quality of the best one where it is not significantly worse, and where the 95 % interval of the
paired difference excludes a loss of more than the plan's margin. Neither shown: its standing is open. A run that was
stored without such comparisons has no variant that keeps; one outside the best one's own interval counts as worse.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lmtasks.metric.base import Scale
from lmtasks.report import format as show
from lmtasks.report.grid import Score, best, contenders, main_score
from lmtasks.report.records import RunRecords
from lmtasks.results.cell import TaskInfo, Variant
from lmtasks.results.comparison import PairedRecord, Verdict

MARGIN_RAW_PERCENT = 1.0
"""Of a metric that is no share and has no points (a perplexity), the margin is so many percent of the best value for
each point of the plan's margin."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One variant beside the best one on a task."""

    status: Literal["best", "keeps", "open", "worse"]
    change: float
    """The variant minus the best, in points, or in the metric's own unit."""
    loss: float | None
    """The largest loss that the interval does not exclude, positive; None where nothing is paired."""
    scale: Scale

    @property
    def shown(self) -> str:
        """The change, for people."""
        apart = ", not paired" if self.loss is None else ""
        return f"{show.difference(self.change, self.scale)}{_unit(self.scale)}{apart}"

    @property
    def shown_loss(self) -> str:
        """The loss that is not excluded, for people."""
        return "not paired" if self.loss is None else f"up to {self.loss:.1f}{_unit(self.scale)}"


def best_on(run: RunRecords, task: TaskInfo) -> tuple[Variant, Score] | None:
    """The best of all variants on the task, rivals among them; the one that the others were paired with."""
    found = best(run, variants=contenders(run), task=task)
    pairs = [each for each in run.comparisons if each.relation == "best" and each.task == task.name]
    if found is None or found[0].name not in {name for each in pairs for name in (each.base, each.variant)}:
        return found  # nobody compared it with the others: those that were compared may all be behind
    base = next((variant for variant in run.variants if variant.name == pairs[0].base), found[0])
    score = main_score(run, variant=base, task=task)
    return found if score is None else (base, score)


def standings(run: RunRecords, task: TaskInfo) -> Mapping[str, Standing]:
    """Every variant that has a score on the task, by name."""
    top = best_on(run, task)
    if top is None:
        return {}
    first, theirs = top
    found = {first.name: Standing(status="best", change=0.0, loss=0.0, scale=theirs.scale)}
    for variant in contenders(run):
        mine = main_score(run, variant=variant, task=task)
        if variant.name == first.name or mine is None:
            continue
        record = pair_of(run, relation="best", variant=variant.name, base=first.name, task=task.name)
        found[variant.name] = _paired(run, record, theirs) if record is not None else _apart(mine, theirs)
    return found


def pair_of(run: RunRecords, *, relation: str, variant: str, base: str, task: str) -> PairedRecord | None:
    """The stored comparison of two variants on a task: in the family of that relation, or else in another one; and
    whichever of the two was the base there."""
    asked = [
        *run.pairs.get((task, variant, base), ()),
        *(_turned(each) for each in run.pairs.get((task, base, variant), ())),
    ]
    return min(asked, key=lambda each: each.relation != relation, default=None)


def margin_of(run: RunRecords, score: Score) -> float:
    """The loss that still keeps the quality: in points, or in the metric's own unit."""
    if score.scale != "raw":
        return run.margin
    return run.margin * MARGIN_RAW_PERCENT / 100 * abs(score.value)


def shown_margin(run: RunRecords) -> str:
    """The margin for people, as the run's metrics count."""
    scales = {score.scale == "raw" for task in run.tasks if (top := best_on(run, task)) for score in [top[1]]}
    points = f"{run.margin:g} point{'' if run.margin == 1 else 's'}"
    percent = f"{run.margin * MARGIN_RAW_PERCENT:g} % of a perplexity"
    return " or ".join([points] * (False in scales) + [percent] * (True in scales))


def _paired(run: RunRecords, record: PairedRecord, theirs: Score) -> Standing:
    loss = None
    if record.ci95 is not None:
        loss = -record.ci95[0] if theirs.higher_is_better else record.ci95[1]
    status: Literal["keeps", "open", "worse"] = "open"
    if record.verdict == "worse":
        status = "worse"
    elif loss is not None and loss <= margin_of(run, theirs):
        status = "keeps"
    loss = None if loss is None else max(0.0, loss)
    return Standing(status=status, change=record.difference, loss=loss, scale=theirs.scale)


def _apart(mine: Score, theirs: Score) -> Standing:
    """Nothing is paired: the value against the best one's interval."""
    change = show.in_points(mine.value, mine.scale) - show.in_points(theirs.value, theirs.scale)
    return Standing(
        status="worse" if theirs.better_than(mine.value) else "open", change=change, loss=None, scale=mine.scale
    )


def _turned(record: PairedRecord) -> PairedRecord:
    swapped: Mapping[Verdict, Verdict] = {"better": "worse", "worse": "better", "open": "open"}
    return record.model_copy(
        update={
            "variant": record.base,
            "base": record.variant,
            "difference": -record.difference,
            "ci95": None if record.ci95 is None else (-record.ci95[1], -record.ci95[0]),
            "verdict": swapped[record.verdict],
        }
    )


def _unit(scale: Scale) -> str:
    return "" if scale == "raw" else " points"
