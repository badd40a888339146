"""Variants side by side: rounds in alternation, every measurement in a fresh process, one ratio a round.

A machine drifts (heat, neighbours), so two variants are compared within a round, where they ran close to each other.
The order of a round is drawn, and the next round has it reversed, so that no variant is always first. `metric/ratio.py`
has the interval.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import geometric_mean, median
from typing import Protocol, TypeVar

from lmtasks.bench.pool import Memory, Round, pooled
from lmtasks.bench.spec import SpeedSpec
from lmtasks.errors import UsageError, WorkError
from lmtasks.metric.ratio import Ratio, ratio_of
from lmtasks.records import Progress
from lmtasks.results.speed import MachineLimits, SpeedRecord

Measured = TypeVar("Measured", Round, Memory)

ROUNDS = 5


class Measures(Protocol):
    """Measurements of variants: `isolate.Isolated`, or a fake."""

    def times(self, spec: SpeedSpec) -> Round:
        """Every timing of a variant."""
        ...

    def memory(self, spec: SpeedSpec) -> Memory:
        """Its memory, where nothing is timed."""
        ...

    def limits(self, *, threads: int, device: str) -> MachineLimits:
        """The most that the machine can do."""
        ...


@dataclass(frozen=True, kw_only=True)
class SideBySide:
    """One workload at one batch size: a variant beside the first one."""

    variant: str
    base: str
    task: str
    batch_size: int
    length: int
    """Tokens of every request; 0: as the task's rows have them."""
    examples_per_s: float
    """Median over rounds: examples of the task, whatever a variant asks for each of them."""
    ratio: Ratio
    """Examples a second of the variant over those of the base: above 1 is faster."""

    @property
    def sentence(self) -> str:
        """For people, as hyperfine says it: `int8 ran 2.61 ± 0.09 times faster than fp32`; ± is half the interval."""
        if self.ratio.ci95 is None or self.verdict == "no difference seen":
            ends = "" if self.ratio.ci95 is None else f" [{self.ratio.ci95[0]:.2f}, {self.ratio.ci95[1]:.2f}]"
            return f"{self.variant} ran {self.ratio.value:.2f}{ends} times as fast as {self.base}: {self.verdict}"
        low, high = self.ratio.ci95 if self.verdict == "faster" else (1 / self.ratio.ci95[1], 1 / self.ratio.ci95[0])
        times = self.ratio.value if self.verdict == "faster" else 1 / self.ratio.value
        return f"{self.variant} ran {times:.2f} ± {(high - low) / 2:.2f} times {self.verdict} than {self.base}"

    @property
    def verdict(self) -> str:
        """`faster`, `slower`, or `no difference seen` where the interval contains 1 or there is none."""
        if self.ratio.ci95 is None or self.ratio.ci95[0] <= 1 <= self.ratio.ci95[1]:
            return "no difference seen"
        return "faster" if self.ratio.value > 1 else "slower"


@dataclass(frozen=True, kw_only=True)
class SpeedComparison:
    """All rounds, and what they say."""

    variants: tuple[SpeedRecord, ...]
    """The speed record of each variant: its rounds pooled, with its memory, the limits, and the distance from them."""
    rows: tuple[SideBySide, ...]


def compare_variants(
    specs: Sequence[SpeedSpec],
    *,
    measures: Measures,
    rounds: int = ROUNDS,
    seed: int = 1234,
    on_progress: Callable[[Progress], None] | None = None,
    on_failure: Callable[[str, WorkError], None] | None = None,
) -> SpeedComparison:
    """Measures the limits of the machine, the memory of each variant, and its times once a round; the first variant is
    what others are held to.

    Args:
        seed: of the order in each round.
        on_failure: is called with a variant that could not be measured, and why; the others go on without it. None: the
            first failure ends it all.

    Raises:
        UsageError: no variants or no rounds, or two variants of the same name.
        WorkError: a measurement failed.
    """
    started = datetime.now(UTC).isoformat()
    names = [spec.name for spec in specs]
    if not specs or rounds < 1:
        raise UsageError(f"bench needs at least 1 variant and 1 round, was given {len(specs)} and {rounds}.")
    if len(set(names)) < len(names):
        raise UsageError(f"every variant needs a name of its own, were given {', '.join(names)}.")
    progress = _ProgressCounter(on_progress, total=(rounds + 1) * len(specs) + len({_place(spec) for spec in specs}))
    limits: dict[tuple[int, str], MachineLimits] = {}
    for threads, device in dict.fromkeys(map(_place, specs)):
        progress.next(f"what the machine can do with {threads} {'thread' if threads == 1 else 'threads'}")
        limits[threads, device] = measures.limits(threads=threads, device=device)
    memory: dict[str, Memory] = {}
    found: dict[str, list[Round]] = {spec.name: [] for spec in specs}
    left = {spec.name: spec for spec in specs}

    def attempt(name: str, note: str, measure: Callable[[SpeedSpec], Measured]) -> Measured | None:
        progress.next(f"{note}: {name}")
        try:
            return measure(left[name])
        except WorkError as error:
            if on_failure is None:
                raise
            on_failure(name, error)
            del left[name], found[name]
            return None

    for name in names:
        if (needed := attempt(name, "memory", measures.memory)) is not None:
            memory[name] = needed
    for number, order in enumerate(orders(names, rounds=rounds, seed=seed)):
        for name in order:
            if name in left:
                record = attempt(name, f"round {number + 1} of {rounds}", measures.times)
                if record is not None:
                    found[name].append(record)
    records = tuple(
        pooled(found[name], memory=memory[name], limits=limits[_place(spec)]).model_copy(update={"alternated": started})
        for name, spec in left.items()
    )
    return SpeedComparison(variants=records, rows=tuple(side_by_side(records)))


def orders(names: Sequence[str], *, rounds: int, seed: int) -> Iterator[list[str]]:
    """The order of each round: drawn, then reversed, then drawn again."""
    draw = random.Random(f"order:{seed}")
    order: list[str] = []
    for number in range(rounds):
        order = order[::-1] if number % 2 else draw.sample(list(names), len(names))
        yield order


def side_by_side(records: Sequence[SpeedRecord]) -> Iterator[SideBySide]:
    """Every workload of every variant beside the first one's, round by round; only what both were measured on."""
    rates = [dict(_rates(record)) for record in records]
    if not rates:
        return
    for key, base in rates[0].items():
        for record, mine in zip(records, rates, strict=True):
            if key in mine:
                yield SideBySide(
                    variant=record.variant.name,
                    base=records[0].variant.name,
                    task=key[0],
                    length=key[1],
                    batch_size=key[2],
                    examples_per_s=median(mine[key]),
                    ratio=ratio_of(mine[key], base),
                )


def over_tasks(rows: Sequence[SideBySide]) -> Iterator[SideBySide]:
    """Each variant but the first at each batch size over all tasks: the geometric mean of a round's ratios is the ratio
    of that round. Requests of a given length are left out."""
    found: dict[tuple[str, int], list[SideBySide]] = {}
    for row in rows:
        if row.variant != row.base and not row.length:
            found.setdefault((row.variant, row.batch_size), []).append(row)
    for (variant, batch_size), own in found.items():
        rounds = [geometric_mean(ratios) for ratios in zip(*(r.ratio.rounds for r in own), strict=True)]
        yield SideBySide(
            variant=variant,
            base=own[0].base,
            task=", ".join(row.task for row in own),
            batch_size=batch_size,
            length=0,
            examples_per_s=geometric_mean(row.examples_per_s for row in own),
            ratio=ratio_of(rounds, [1.0] * len(rounds)),
        )


class _ProgressCounter:
    def __init__(self, on_progress: Callable[[Progress], None] | None, *, total: int) -> None:
        self._on_progress, self._total, self._done = on_progress, total, 0

    def next(self, note: str) -> None:
        if self._on_progress is not None:
            self._on_progress(
                Progress(stage="speed", done=self._done, total=self._total, unit="measurements", note=note)
            )
        self._done += 1


def _place(spec: SpeedSpec) -> tuple[int, str]:
    return spec.threads, spec.device


def _rates(record: SpeedRecord) -> Iterator[tuple[tuple[str, int, int], Sequence[float]]]:
    """(task, length, batch size) -> examples a second in each round."""
    for each in record.workloads:
        yield (each.task, each.length, each.batch_size), each.rounds
