"""Charts of a report: quality against speed, a small one for each task; and how a training went."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

from lmtasks.report import format as show
from lmtasks.report.grid import Score, baseline_of, main_metric, main_score, models
from lmtasks.report.plot import PlotPoint, Series, draw_lines, draw_points, stacked, without_own_colours
from lmtasks.report.records import RunRecords
from lmtasks.report.samples import TaskSamples
from lmtasks.report.speeds import timings_of, together
from lmtasks.results.cell import TaskInfo, Variant
from lmtasks.results.speed import Timing

REACH = 1.5
"""A baseline farther from the points than so many times their span is named, not drawn: it would flatten the rest."""
MOST_LINES = 8
"""Of a chart of probabilities: more of them cannot be told apart."""
SPREAD = 0.98
"""Share of the losses that the axis reaches over: the first steps would flatten the rest."""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One drawn chart."""

    task: str
    about: str
    """What it shows, for those who cannot see it."""
    svg: str
    """A whole SVG file, on white paper."""


def quality_charts(run: RunRecords) -> tuple[Chart, ...]:
    """A chart for each task on which at least one model was both scored and timed."""
    return tuple(chart for task in run.tasks if (chart := _chart(run, task)) is not None)


def inline(chart: Chart) -> str:
    """The SVG for a page: the page's own colours, no name space needed."""
    return without_own_colours(chart.svg)


def _chart(run: RunRecords, task: TaskInfo) -> Chart | None:
    found = [
        (variant, score, timing)
        for variant in models(run)
        if (score := main_score(run, variant=variant, task=task)) is not None
        and isfinite(score.value)
        and (timing := together(timings_of(run, variant), task.name)) is not None
        and timing.examples_per_s
    ]
    if not found:
        return None
    metric, (_, first, timing) = main_metric(run, task) or "", found[0]
    said = {
        variant.name: f"{variant.name}: {show.value(score.value, score.scale)} at "
        f"{show.rate(rate.examples_per_s or 0.0)} examples/s"
        for variant, score, rate in found
    }
    points = {variant.name: _point(score, rate, said[variant.name]) for variant, score, rate in found}
    near, far = _levels(list(points.values()), _baseline_levels(run, task))
    front = pareto(list(points.values()), higher_is_better=first.higher_is_better)
    unit = ", points" if first.scale != "raw" else ""
    return Chart(
        task=task.name,
        about=f"{task.name}, {metric} against throughput. {'; '.join(said.values())}.",
        svg=draw_points(
            [Series(name=name, points=(point,), variant=name) for name, point in points.items()],
            levels=[(level.name, level.quality) for level in near],
            title=task.name,
            subtitle=far,
            x_title=f"throughput at batch {timing.batch_size}, examples/s",
            y_title=f"{metric}{unit}{'' if first.higher_is_better else ' (lower is better)'}",
            front=front,
        ),
    )


def pareto(points: Sequence[PlotPoint], *, higher_is_better: bool) -> list[PlotPoint]:
    """The points than which no other one is both better and faster, the fastest first.

    >>> a, b, c = (PlotPoint(x=x, y=y) for x, y in ((1, 90), (10, 80), (5, 70)))
    >>> [point.x for point in pareto([a, b, c], higher_is_better=True)]
    [10, 1]
    """
    found: list[PlotPoint] = []
    for point in sorted(points, key=lambda each: (-each.x, -each.y if higher_is_better else each.y)):
        if not found or (point.y > found[-1].y if higher_is_better else point.y < found[-1].y):
            found.append(point)
    return found


@dataclass(frozen=True, kw_only=True)
class BaselineLevel:
    """One baseline: a quality without a speed."""

    name: str
    quality: float
    shown: str
    """The quality as people read it."""


def _point(score: Score, timing: Timing, said: str) -> PlotPoint:
    low, high = score.ci95 or (score.value, score.value)
    speed = timing.examples_per_s or 0.0
    slow, fast = timing.examples_ci95 or (speed, speed)
    return PlotPoint(
        x=speed,
        y=show.in_points(score.value, score.scale),
        low=show.in_points(low, score.scale),
        high=show.in_points(high, score.scale),
        left=slow,
        right=fast,
        said=said,
    )


def _levels(points: Sequence[PlotPoint], levels: Sequence[BaselineLevel]) -> tuple[list[BaselineLevel], str]:
    """The levels within reach, and words for the others."""
    ends = [end for point in points for end in (point.y, point.low, point.high) if end is not None]
    low, high = min(ends), max(ends)
    reach = REACH * ((high - low) or 2.0)
    near = [level for level in levels if low - reach <= level.quality <= high + reach]
    far = [level for level in levels if level not in near]
    sides = (f"{'below' if level.quality < low else 'above'}: {level.name} {level.shown}" for level in far)
    return near, ", ".join(sides)


def _baseline_levels(run: RunRecords, task: TaskInfo) -> list[BaselineLevel]:
    """Baselines have a quality, but no speed that would mean anything."""
    return [
        BaselineLevel(
            name=variant.name,
            quality=show.in_points(score.value, score.scale),
            shown=show.value(score.value, score.scale),
        )
        for variant in run.variants
        if baseline_of(run, variant)
        and (score := main_score(run, variant=variant, task=task)) is not None
        and isfinite(score.value)
    ]


def draw_curve(records: Sequence[Mapping[str, object]], *, title: str, judged: str) -> str:
    """A whole SVG file: the loss, and below it the validation of all sources and of each.

    Args:
        records: with `step` and `loss`; some with `validation`, and `validation_parts` by source.
        judged: what `validation` is, for the axis.
    """
    losses = [PlotPoint(x=_number(record["step"]), y=_number(record["loss"])) for record in records]
    highest = sorted(point.y for point in losses)[int(SPREAD * (len(losses) - 1))]
    lowest = min(point.y for point in losses)
    top = draw_lines(
        [Series(name="training", points=losses, has_marks=False)],
        title=title,
        x_title="step",
        y_title="loss, nats per token",
        y_domain=(lowest, max(highest, lowest + 0.1)),
        width=520,
    )
    sources = {name: points for name, points in _judged(records)}
    if not sources:
        return top
    below = draw_lines(
        [Series(name=name, points=points, is_main=name == "all") for name, points in sources.items()],
        title="",
        x_title="step",
        y_title=judged,
        width=520,
        height=330,
    )
    return stacked(top, below)


def _judged(records: Sequence[Mapping[str, object]]) -> Iterator[tuple[str, list[PlotPoint]]]:
    """Points of the validation of all sources, and of each."""
    found: dict[str, list[PlotPoint]] = {}
    for record in records:
        parts = record.get("validation_parts")
        values = {"all": record["validation"]} if "validation" in record else {}
        values |= dict(parts) if isinstance(parts, Mapping) else {}
        for name, value in values.items():
            found.setdefault(str(name), []).append(PlotPoint(x=_number(record["step"]), y=_number(value)))
    yield from found.items()


def _number(value: object) -> float:
    return float(str(value))


def calibration_charts(samples: Sequence[TaskSamples]) -> tuple[Chart, ...]:
    """A chart for each task of classes: how often a probability is right, the variants' bins beside the diagonal."""
    return tuple(_calibration(each) for each in samples if each.reliability)


def _calibration(samples: TaskSamples) -> Chart:
    name = samples.shown["name"]
    found = samples.reliability[:MOST_LINES]
    said = "; ".join(f"{each.variant}: calibration error {100 * each.error:.1f}" for each in found)
    series = [Series(name="right as often as said", points=(PlotPoint(x=0, y=0), PlotPoint(x=100, y=100)),
                     is_main=False, has_marks=False)]  # fmt: skip
    series += [
        Series(
            name=f"{each.variant} {100 * each.error:.1f}",
            points=[
                PlotPoint(x=100 * stated, y=100 * right, said=f"{each.variant}: {n} answers, {100 * stated:.0f} % said")
                for n, stated, right in zip(each.counts, each.stated, each.right, strict=True)
            ],
            variant=each.variant,
        )
        for each in found
    ]
    return Chart(
        task=f"calibration {name}",
        about=f"{name}, share of right answers by their probability. {said}.",
        svg=draw_lines(
            series,
            title=name,
            subtitle="behind each name its expected calibration error, points",
            x_title="probability of the answer, %",
            y_title="right, %",
            y_domain=(0, 100),
            width=440,
        ),
    )


def load_charts(run: RunRecords) -> tuple[Chart, ...]:
    """A chart for each task that was timed under several rates: the latency that 95 % of requests keep, by the rate."""
    found = []
    for task in run.tasks:
        points = {
            variant.name: [
                PlotPoint(x=load.rate, y=load.latency_ms.p95, said=f"{variant.name}: {load.latency_ms.p95:.1f} ms")
                for load in sorted(run.speeds[variant.name].loads, key=lambda each: each.rate)
                if load.task == task.name and load.latency_ms.p95
            ]
            for variant in models(run)
            if variant.name in run.speeds
        }
        found += _speed_lines(
            points, name="load", task=task.name, x="rate", x_title="requests a second", y_title="latency, p95, ms"
        )
    return tuple(found)


def scaling_charts(run: RunRecords) -> tuple[Chart, ...]:
    """Charts for each task that was timed at several batch sizes, lengths or numbers of threads: throughput by them."""
    found = []
    for task in run.tasks:
        timed = [variant for variant in models(run) if variant.name in run.speeds]
        by_batch, by_length = (
            {
                variant.name: [
                    _throughput(timing, getattr(timing, field))
                    for timing in sorted(_timings(run, variant, lengths=lengths), key=lambda each: getattr(each, field))
                    if timing.task == task.name and timing.examples_per_s
                ]
                for variant in timed
            }
            for field, lengths in (("batch_size", False), ("length", True))
        )
        by_threads: dict[str, list[PlotPoint]] = {}
        for variant in sorted(timed, key=lambda each: each.threads or 0):
            timing = together(timings_of(run, variant), task.name)
            if timing is not None and timing.examples_per_s and variant.threads:
                same = f"{variant.model} {variant.runtime} {variant.precision}"
                by_threads.setdefault(same, []).append(_throughput(timing, variant.threads))
        for name, points, x_title in (
            ("batch", by_batch, "batch size"),
            ("length", by_length, "tokens of a request"),
            ("threads", by_threads, "threads"),
        ):
            few = 3 if name == "batch" else 2  # batch 1 and one other stand in the table of timings
            kept = {line: each for line, each in points.items() if len({point.x for point in each}) >= few}
            found += _speed_lines(kept, name=name, task=task.name, x=name, x_title=x_title, y_title="examples/s")
    return tuple(found)


def _timings(run: RunRecords, variant: Variant, *, lengths: bool) -> Sequence[Timing]:
    speed = run.speeds[variant.name]
    if not lengths:
        return speed.timings
    largest = max((timing.batch_size for timing in speed.at_lengths), default=0)
    return [timing for timing in speed.at_lengths if timing.batch_size == largest]


def _throughput(timing: Timing, x: float) -> PlotPoint:
    low, high = timing.examples_ci95 or (None, None)
    value = timing.examples_per_s or 0.0
    return PlotPoint(x=x, y=value, low=low, high=high, said=f"{show.rate(value)} examples/s")


def _speed_lines(
    points: Mapping[str, Sequence[PlotPoint]], *, name: str, task: str, x: str, x_title: str, y_title: str
) -> list[Chart]:
    """One chart, or none where no line has two points."""
    lines = {line: each for line, each in points.items() if len(each) > 1}
    if not lines:
        return []
    said = "; ".join(f"{line}: " + ", ".join(f"{p.y:.4g} at {p.x:g}" for p in each) for line, each in lines.items())
    return [
        Chart(
            task=f"{name} {task}",
            about=f"{task}, {y_title} by {x}. {said}.",
            svg=draw_lines(
                [Series(name=line, points=each, variant=line) for line, each in lines.items()],
                title=task,
                x_title=x_title,
                x_ticks=sorted({point.x for each in lines.values() for point in each}),
                y_title=y_title,
                width=420,
            ),
        )
    ]
