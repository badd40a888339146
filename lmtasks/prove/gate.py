"""The quality gate: what does rounding cost on the tasks themselves, and which layers must stay in fp32 for it?

The main metric of each task, on the rows that choices are made on, of the rounded package paired with the fp32 one. If
it drops by more than is allowed, the layers that rounding hurts most go back to fp32, as few of them as it takes: their
number is doubled until the gate holds, then halved between the last two. Where more than half of the numbers would go
back, the package would hardly be a rounded one any more, and the gate refuses.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from math import isfinite
from pathlib import Path

from lmtasks.errors import GateError
from lmtasks.export.layers import Keep, keep_of, rounded_layers
from lmtasks.metric.base import Metric
from lmtasks.metric.drop import Drop, measure_drop
from lmtasks.prove.layer_sensitivity import Damaged, Probe, rank_layers
from lmtasks.records import Floats, Progress
from lmtasks.results.proof import GateRecord, KeptLayer, TaskDropRecord

MOST_KEPT = 0.5
"""Share of the numbers that rounding reaches which may stay in fp32."""


@dataclass(frozen=True, kw_only=True)
class ScoredTask:
    """The main metric of one task over a package's answers. Axes: N examples, K columns."""

    task: str
    metric: Metric
    name: str
    """As results know the metric."""
    statistics: Floats
    """(N, K)"""
    clusters: Sequence[object] | None
    rows: str
    """Which rows these are, for people."""


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Requirements on a rounded package."""

    most: float
    """The largest drop that is allowed, in points."""
    score: Callable[[Path], Sequence[ScoredTask]]
    """Scores a package on the tasks."""
    probes: Callable[[Path], Sequence[Probe]]
    """Rows for a package on which layers are told apart; only asked for where layers have to stay."""
    asked: str = ""
    """The tasks, as a person named them."""


@dataclass(frozen=True, kw_only=True)
class TaskDrop:
    """Drop by rounding on one task."""

    task: str
    metric: str
    rows: str
    drop: Drop


@dataclass(frozen=True, kw_only=True)
class Gated:
    """The record of a gate that holds."""

    most: float
    drops: tuple[TaskDrop, ...]
    kept: tuple[Damaged, ...] = ()
    """What stayed in fp32."""
    kept_share: float = 0.0
    """Of the numbers that rounding reaches."""
    layers: int = 0
    """How many of them there are; 0 where nobody had to look."""
    first: tuple[TaskDrop, ...] = ()
    """What rounding everything cost, where layers had to stay."""

    @property
    def keep(self) -> Keep:
        """Layers that stay in fp32, by graph."""
        return keep_of([each.layer for each in self.kept])

    @property
    def record(self) -> GateRecord:
        """As gate.json holds it."""
        return GateRecord(
            ok=True,
            most=self.most,
            tasks=tuple(_drop_record(each) for each in self.drops),
            kept=tuple(
                KeptLayer(
                    layer=each.layer.name,
                    numbers=each.layer.numbers,
                    damage=each.damage if isfinite(each.damage) else None,
                )
                for each in self.kept
            ),
            kept_share=self.kept_share,
            layers=self.layers,
            everything_rounded=tuple(_drop_record(each) for each in self.first),
        )


@dataclass(kw_only=True)
class GateSearch:
    """Looks for the package that holds the gate with the fewest layers in fp32.

    Args:
        base: the fp32 package.
        precision: what is to be rounded to.
        aside: a folder for packages that are tried; it is gone afterwards.
        make: writes a rounded package into an empty folder, some of its layers kept.
    """

    gate: Gate
    base: Path
    precision: str
    aside: Path
    make: Callable[[Path, Keep], None]
    threads: int | None
    report: Callable[[Progress], None]
    layers: bool = True
    """Can single layers stay in fp32?"""

    def run(self) -> Gated:
        """Search for the layers that must stay in fp32.

        Raises:
            GateError: no choice of layers holds, unless more than half of the numbers stay in fp32.
        """
        try:
            wanted = self.gate.score(self.base)
            first = self._tried(wanted, ())
            if _hold(first):
                return Gated(most=self.gate.most, drops=first)
            if not self.layers:
                raise GateError(_refusal(self.gate, first, first, (), 0))
            return self._with_layers_kept(wanted, first)
        finally:
            shutil.rmtree(self.aside, ignore_errors=True)

    def _with_layers_kept(self, wanted: Sequence[ScoredTask], first: tuple[TaskDrop, ...]) -> Gated:
        layers = rounded_layers(self.base, precision=self.precision)
        ranked = rank_layers(
            layers,
            base=self.base,
            aside=self.aside,
            make=self.make,
            probes=self.gate.probes(self.base),
            threads=self.threads,
            report=self.report,
        )
        total = sum(layer.numbers for layer in layers)
        shares = [numbers / total for numbers in accumulate(each.layer.numbers for each in ranked)]
        allowed = sum(share <= MOST_KEPT for share in shares)
        few, many, drops = 0, 0, first
        while not _hold(drops):
            if many == allowed:
                raise GateError(
                    _refusal(self.gate, first, drops, ranked[:allowed], shares[allowed - 1] if allowed else 0)
                )
            few, many = many, min(allowed, max(1, 2 * many))
            drops = self._tried(wanted, ranked[:many])
        while many - few > 1:
            middle = (few + many) // 2
            tried = self._tried(wanted, ranked[:middle])
            if _hold(tried):
                many, drops = middle, tried
            else:
                few = middle
        return Gated(
            most=self.gate.most,
            drops=drops,
            kept=ranked[:many],
            kept_share=shares[many - 1],
            layers=len(ranked),
            first=first,
        )

    def _tried(self, wanted: Sequence[ScoredTask], kept: Sequence[Damaged]) -> tuple[TaskDrop, ...]:
        """The drops of a package in which some layers are kept."""
        shutil.rmtree(self.aside, ignore_errors=True)
        self.aside.mkdir(parents=True)
        self.make(self.aside, keep_of([each.layer for each in kept]))
        return drops_of(wanted, self.gate.score(self.aside), most=self.gate.most)


def drops_of(wanted: Sequence[ScoredTask], found: Sequence[ScoredTask], *, most: float) -> tuple[TaskDrop, ...]:
    """Drop of each task, from `wanted` to `found`."""
    return tuple(
        TaskDrop(
            task=one.task,
            metric=one.name,
            rows=one.rows,
            drop=measure_drop(one.metric, one.statistics, two.statistics, most=most, clusters=one.clusters),
        )
        for one, two in zip(wanted, found, strict=True)
    )


def sentence(each: TaskDrop) -> str:
    """Sentence on the drop of one task, and how sure it is.

    >>> from lmtasks.metric.drop import Drop
    >>> drop = Drop(n=1000, base=0.9, found=0.896, unit="points", drop=0.4, ci95=(-0.23, 1.03), most=0.5, ok=True,
    ...             excluded=False, needed=40000, better=2, equal=992, worse=6)
    >>> print(sentence(TaskDrop(task="sst2", metric="acc", rows="validation", drop=drop)))
    sst2: acc 0.9000 -> 0.8960, a drop of 0.40 points (95% interval -0.23 to 1.03, n = 1,000; 6 worse, 2 better)
    """
    drop = each.drop
    unit = " points" if drop.unit == "points" else "%"
    interval = "" if drop.ci95 is None else f"95% interval {drop.ci95[0]:.2f} to {drop.ci95[1]:.2f}, "
    change = f"a drop of {drop.drop:.2f}{unit}" if drop.drop > 0 else f"a gain of {abs(drop.drop):.2f}{unit}"
    return (
        f"{each.task}: {each.metric} {drop.base:.4f} -> {drop.found:.4f}, {change if drop.drop else 'no drop'} "
        f"({interval}n = {drop.n:,}; {drop.worse:,} worse, {drop.better:,} better)"
    )


def _hold(drops: Sequence[TaskDrop]) -> bool:
    return all(each.drop.ok for each in drops)


def _refusal(
    gate: Gate, first: Sequence[TaskDrop], last: Sequence[TaskDrop], kept: Sequence[Damaged], share: float
) -> str:
    before = "; ".join(sentence(each) for each in first if not each.drop.ok)
    if not kept:
        return (
            f"at most {gate.most:g} is allowed, and rounding costs more: {before}. No layers of it can stay in fp32. "
            "Nothing was written; allow a larger --max-drop, or take another --precision."
        )
    after = "; ".join(sentence(each) for each in last if not each.drop.ok)
    return (
        f"at most {gate.most:g} is allowed, and rounding costs more: {before}. With the {len(kept)} most sensitive "
        f"layers in fp32 ({share:.0%} of the weights): {after}. Nothing was written; allow a larger --max-drop, or "
        "take another --precision."
    )


def _drop_record(each: TaskDrop) -> TaskDropRecord:
    numbers = {
        name: None if isinstance(value, float) and not isfinite(value) else value
        for name, value in asdict(each.drop).items()
    }
    return TaskDropRecord.model_validate({"task": each.task, "metric": each.metric, "rows": each.rows, **numbers})
