"""Variants side by side: rounds in alternation, every measurement in a fresh process, one ratio a round.

A machine drifts (heat, neighbours), so two variants are compared within a round, where they ran close to each other,
in the order A B, then B A. The interval of the ratio is Student's t over the logarithms of the rounds' ratios.

>>> ratio = ratio_of([2.0, 2.1, 1.9], [1.0, 1.0, 1.0])
>>> round(ratio.value, 3), [round(end, 2) for end in ratio.ci95]
(1.998, [1.76, 2.26])
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev

from lmtasks.bench.isolate import measure_isolated
from lmtasks.bench.spec import SpeedSpec
from lmtasks.errors import UsageError
from lmtasks.records import Json, Progress

T_975 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""Student's t, 97.5 %, for 1 to 30 degrees of freedom (scipy.stats.t.ppf; a test compares)."""
NORMAL_975 = 1.960

ROUNDS = 5

Measure = Callable[[SpeedSpec], Json]


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """How many times as much, over rounds."""

    value: float
    """Geometric mean of the rounds' ratios."""
    ci95: tuple[float, float] | None
    """None for a single round."""
    rounds: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class SideBySide:
    """One workload at one batch size: a variant beside the first one."""

    variant: str
    base: str
    task: str
    batch_size: int
    unit: str
    throughput: float
    """Median over rounds."""
    ratio: Ratio
    """Throughput of the variant over that of the base: above 1 is faster."""

    @property
    def verdict(self) -> str:
        """`faster`, `slower`, or `no difference seen` where the interval contains 1 or there is none."""
        if self.ratio.ci95 is None or self.ratio.ci95[0] <= 1 <= self.ratio.ci95[1]:
            return "no difference seen"
        return "faster" if self.ratio.value > 1 else "slower"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All rounds, and what they say."""

    records: tuple[tuple[Json, ...], ...]
    """(rounds, variants): speed records, in the order of the variants whatever the order of measuring."""
    rows: tuple[SideBySide, ...]


def compare_variants(
    specs: Sequence[SpeedSpec],
    *,
    rounds: int = ROUNDS,
    measure: Measure = measure_isolated,
    on_progress: Callable[[Progress], None] | None = None,
) -> Comparison:
    """Measures all variants once a round, forwards and backwards in turn; the first one is what others are held to.

    Raises:
        UsageError: no variants or no rounds, or two variants of the same name.
        WorkError: a measurement failed.
    """
    names = [spec.name for spec in specs]
    if not specs or rounds < 1:
        raise UsageError(f"bench needs at least 1 variant and 1 round, was given {len(specs)} and {rounds}.")
    if len(set(names)) < len(names):
        raise UsageError(f"every variant needs a name of its own, were given {', '.join(names)}.")
    done = 0
    table: list[tuple[Json, ...]] = []
    for number in range(rounds):
        found: dict[str, Json] = {}
        for spec in specs if number % 2 == 0 else list(reversed(specs)):
            if on_progress is not None:
                note = f"round {number + 1} of {rounds}: {spec.name}"
                on_progress(
                    Progress(stage="speed", done=done, total=rounds * len(specs), unit="measurements", note=note)
                )
            found[spec.name] = measure(spec)
            done += 1
        table.append(tuple(found[name] for name in names))
    return Comparison(records=tuple(table), rows=tuple(_rows(names, table)))


def ratio_of(values: Sequence[float], base: Sequence[float]) -> Ratio:
    """Ratio of paired positive values, one pair a round."""
    ratios = tuple(a / b for a, b in zip(values, base, strict=True))
    logs = [math.log(ratio) for ratio in ratios]
    centre = fmean(logs)
    if len(logs) < 2:
        return Ratio(value=math.exp(centre), ci95=None, rounds=ratios)
    quantile = T_975[len(logs) - 2] if len(logs) - 1 <= len(T_975) else NORMAL_975
    half = quantile * stdev(logs) / math.sqrt(len(logs))
    return Ratio(value=math.exp(centre), ci95=(math.exp(centre - half), math.exp(centre + half)), rounds=ratios)


def _rows(names: Sequence[str], table: Sequence[Sequence[Json]]) -> list[SideBySide]:
    rates = [[_rates(record) for record in line] for line in table]
    rows = []
    for key, (unit, _) in rates[0][0].items():
        base = [line[0][key][1] for line in rates]
        for column, name in enumerate(names):
            mine = [line[column][key][1] for line in rates]
            rows.append(
                SideBySide(
                    variant=name,
                    base=names[0],
                    task=key[0],
                    batch_size=key[1],
                    unit=unit,
                    throughput=median(mine),
                    ratio=ratio_of(mine, base),
                )
            )
    return rows


def _rates(record: Json) -> dict[tuple[str, int], tuple[str, float]]:
    """(task, batch size) -> unit and throughput."""
    workloads = record["workloads"]
    assert isinstance(workloads, list)  # a record of measure_variant
    return {(w["task"], w["batch_size"]): (w["unit"], float(w["throughput"])) for w in workloads}
