"""Stored scores as a grid: one score for each variant and task, and what beats what by more than its interval.

A task's main metric is the first of its file. Several seeds become one score: their mean; its interval joins the mean
uncertainty of a seed (the examples are the same, so it does not shrink) and the spread between seeds (which does).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev

from lmtasks.metric.base import Scale
from lmtasks.records import BOUND_BASELINES, CLASSICAL_BASELINES, Estimate
from lmtasks.report import format as show
from lmtasks.report.records import RunRecords
from lmtasks.results.cell import CellRecord, TaskInfo, Variant

NORMAL_95 = 1.96


@dataclass(frozen=True, kw_only=True)
class Score:
    """A value with its interval."""

    value: float
    ci95: tuple[float, float] | None
    scale: Scale
    higher_is_better: bool
    seeds: int

    def better_than(self, value: float) -> bool:
        """Is the whole interval on the better side of that value? False where the interval is unknown."""
        if self.ci95 is None:
            return False
        return self.ci95[0] > value if self.higher_is_better else self.ci95[1] < value

    @property
    def order(self) -> float:
        """Larger is better."""
        return self.value if self.higher_is_better else -self.value


def main_metric(run: RunRecords, task: TaskInfo) -> str | None:
    """The metric that stands for the task (`comparable_metric`); None while no cell is done."""
    there = (cell for variant in run.variants for cell in run.of(variant=variant.name, task=task.name))
    cells = [cell for cell in there if cell.metrics]
    return comparable_metric([(tuple(cell.metrics), cell.tokenizer_hash) for cell in cells], language=task.language)


def comparable_metric(cells: Sequence[tuple[Sequence[str], str]], *, language: str) -> str | None:
    """The task's first metric; but no perplexity per token where tokens differ: of few long tokens each costs more, and
    says nothing of the text. The first one per word is taken then, outside English bits per byte.

    Args:
        cells: the metrics of each, in the task's order, and its tokenizer's hash.
    """
    names = tuple(dict.fromkeys(name for metrics, _ in cells for name in metrics))
    if not names or not is_per_token(names[0]) or len({tokenizer for _, tokenizer in cells}) == 1:
        return next(iter(names), None)
    of_text = [name for name in names if not is_per_token(name)]
    if language != "en":
        of_text.sort(key=lambda name: name != "bits_per_byte")
    return next(iter(of_text), names[0])


def is_per_token(metric: str) -> bool:
    """Does it count tokens, whose lengths are the tokenizer's?"""
    return metric.partition(",")[0] == "token_perplexity"


def metrics_of(run: RunRecords, task: TaskInfo) -> tuple[str, ...]:
    """Every metric that a cell of the task has, the main one first."""
    return tuple(dict.fromkeys(name for cell in run.cells if cell.task.name == task.name for name in cell.metrics))


def score(cells: Sequence[CellRecord], metric: str | None) -> Score | None:
    """One score of the done cells of a variant on a task; None where there is none."""
    found = [cell.metrics[metric] for cell in cells if metric is not None and metric in cell.metrics]
    if not found:
        return None
    first = found[0]
    value = fmean(estimate.value for estimate in found)
    return Score(
        value=value,
        ci95=first.ci95 if len(found) == 1 else _joined(found, value),
        scale=first.scale,
        higher_is_better=first.higher_is_better,
        seeds=len(found),
    )


def main_score(run: RunRecords, *, variant: Variant, task: TaskInfo) -> Score | None:
    """The variant's score in the task's main metric."""
    return score(run.of(variant=variant.name, task=task.name), main_metric(run, task))


def score_text(found: Score) -> str:
    """A score with its interval, for people."""
    interval = show.uncertainty(found.value, found.ci95, found.scale)
    return f"{show.value(found.value, found.scale)} {interval}".strip()


def baseline_of(run: RunRecords, variant: Variant) -> str:
    """The baseline's name; empty for a model."""
    return run.baselines.get(variant.name, "")


def models(run: RunRecords) -> tuple[Variant, ...]:
    """The variants that are no baseline."""
    return tuple(variant for variant in run.variants if not baseline_of(run, variant))


def trivial(run: RunRecords) -> tuple[Variant, ...]:
    """The variants that answer without learning: majority class, copy of the source, ..."""
    others = (*learned(run), *bounds(run))
    return tuple(v for v in run.variants if baseline_of(run, v) and v not in others)


def bounds(run: RunRecords) -> tuple[Variant, ...]:
    """The baselines that have seen the right answers: nothing is held against them."""
    names = {cell.variant.name for cell in run.cells if cell.baseline in BOUND_BASELINES}
    return tuple(variant for variant in run.variants if variant.name in names)


def learned(run: RunRecords) -> tuple[Variant, ...]:
    """The baselines that learn from the training split."""
    names = {cell.variant.name for cell in run.cells if cell.baseline in CLASSICAL_BASELINES}
    return tuple(variant for variant in run.variants if variant.name in names)


def contenders(run: RunRecords) -> tuple[Variant, ...]:
    """All variants that others are held against: models and rivals, no bounds."""
    answers = bounds(run)
    return tuple(variant for variant in run.variants if variant not in answers)


def best(run: RunRecords, *, variants: Sequence[Variant], task: TaskInfo) -> tuple[Variant, Score] | None:
    """The best of these variants on the task, by value."""
    scored = [(v, s) for v in variants if (s := main_score(run, variant=v, task=task)) is not None]
    return max(scored, key=lambda pair: pair[1].order, default=None)


def reference_of(run: RunRecords, variant: Variant) -> Variant | None:
    """The variant that runs the same adapted model in torch, fp32 where there is one: what a speed is held to."""
    same = [
        other
        for other in models(run)
        if (other.model, other.adaptation, other.device) == (variant.model, variant.adaptation, variant.device)
        and other.runtime == "torch"
    ]
    return min(same, key=lambda other: other.precision != "fp32", default=None)


def _joined(found: Sequence[Estimate], value: float) -> tuple[float, float] | None:
    variances = [estimate.stderr**2 for estimate in found if estimate.stderr is not None]
    if len(variances) < len(found):
        return None
    half = NORMAL_95 * sqrt(fmean(variances) + stdev(e.value for e in found) ** 2 / len(found))
    return value - half, value + half
