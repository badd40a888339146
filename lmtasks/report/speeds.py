"""Stored timings as ratios: how a variant's speed stands to the same model in torch."""

from collections.abc import Sequence
from math import exp, log
from statistics import fmean

from lmtasks.metric.ratio import Ratio, ratio_apart, ratio_of
from lmtasks.report.grid import reference_of
from lmtasks.report.records import RunRecords
from lmtasks.results.cell import Variant
from lmtasks.results.speed import Timing


def timings_of(run: RunRecords, variant: Variant) -> tuple[Timing, ...]:
    """None where the variant was not timed."""
    speed = run.speeds.get(variant.name)
    return speed.timings if speed is not None else ()


def alone(timings: Sequence[Timing], task: str) -> Timing | None:
    """The task's timing at batch 1."""
    return next((timing for timing in timings if timing.task == task and timing.batch_size == 1), None)


def together(timings: Sequence[Timing], task: str) -> Timing | None:
    """The task's timing at its largest batch."""
    return max(
        (timing for timing in timings if timing.task == task), key=lambda timing: timing.batch_size, default=None
    )


def throughput_ratio(run: RunRecords, variant: Variant, task: str) -> float | None:
    """Throughput at the largest batch over that of torch; None where either was not timed there."""
    mine, theirs = _pair(run, variant, task, largest=True)
    return mine.throughput / theirs.throughput if mine and theirs and theirs.throughput > 0 else None


def latency_ratio(run: RunRecords, variant: Variant, task: str) -> float | None:
    """How many times shorter than torch's the median latency at batch 1 is."""
    mine, theirs = _pair(run, variant, task, largest=False)
    if mine is None or theirs is None or not mine.latency_ms.p50 or theirs.latency_ms.p50 is None:
        return None
    return theirs.latency_ms.p50 / mine.latency_ms.p50


def mean_ratio(ratios: Sequence[float | None]) -> float | None:
    """Geometric mean of those that are known."""
    known = [ratio for ratio in ratios if ratio]
    return exp(fmean(log(ratio) for ratio in known)) if known else None


def speed_up(run: RunRecords, variant: Variant) -> float | None:
    """Geometric mean of the throughput ratios over all tasks that both were timed on."""
    return mean_ratio([throughput_ratio(run, variant, task.name) for task in run.tasks])


def speed_against(run: RunRecords, variant: Variant, base: Variant, *, largest: bool) -> tuple[Ratio, int, int] | None:
    """Examples a second of a variant over those of another one, a geometric mean over tasks.

    Rounds that both were timed in, in alternation, are pairs; what was timed apart has an interval that joins both.

    Args:
        largest: of many handed over at once; else of one alone.

    Returns:
        The ratio, over how many tasks it is, and the batch size; None where no task was timed alike for both.
    """
    pick = together if largest else alone
    pairs = [
        (mine, theirs)
        for task in run.tasks
        if (mine := pick(timings_of(run, variant), task.name)) is not None
        and (theirs := pick(timings_of(run, base), task.name)) is not None
        and mine.batch_size == theirs.batch_size
        and mine.examples_per_s
        and theirs.examples_per_s
    ]
    if not pairs:
        return None
    size = max(mine.batch_size for mine, _ in pairs)
    stamps = {run.speeds[each.name].alternated for each in (variant, base)}
    counts = {len(timing.rounds) for pair in pairs for timing in pair}
    if "" not in stamps and len(stamps) == 1 and len(counts) == 1 and 0 not in counts:
        of_rounds = [
            [mean_ratio([pair[side].rounds[number] for pair in pairs]) or 1.0 for number in range(counts.copy().pop())]
            for side in (0, 1)
        ]
        return ratio_of(*of_rounds), len(pairs), size
    rates = [[pair[side].examples_per_s or 0.0 for pair in pairs] for side in (0, 1)]
    intervals = [[pair[side].examples_ci95 for pair in pairs] for side in (0, 1)]
    return ratio_apart(*rates, intervals=intervals[0], base_intervals=intervals[1]), len(pairs), size


def pace(run: RunRecords, variant: Variant, *, among: Sequence[Variant]) -> float | None:
    """Geometric mean of the examples a second on the tasks that all of `among` were timed on: for ordering only."""
    rates = {
        other.name: {
            task.name: timing.examples_per_s
            for task in run.tasks
            if (timing := together(timings_of(run, other), task.name)) and timing.examples_per_s
        }
        for other in among
        if other.name in run.speeds
    }
    if variant.name not in rates:
        return None
    common = set.intersection(*(set(of) for of in rates.values()))
    return mean_ratio([rates[variant.name][task] for task in sorted(common)])


def _pair(run: RunRecords, variant: Variant, task: str, *, largest: bool) -> tuple[Timing | None, Timing | None]:
    pick = together if largest else alone
    reference = reference_of(run, variant)
    mine = pick(timings_of(run, variant), task)
    theirs = pick(timings_of(run, reference), task) if reference is not None else None
    same = mine is not None and theirs is not None and mine.batch_size == theirs.batch_size
    return (mine, theirs) if same else (mine, None)
