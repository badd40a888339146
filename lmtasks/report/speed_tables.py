"""Tables of speed: one row a variant, and one row a task and variant."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from lmtasks.report import format as show
from lmtasks.report.grid import models
from lmtasks.report.quality import name_notes
from lmtasks.report.read import RunRecords, SpeedRecord, Timing, Variant
from lmtasks.report.speeds import alone, latency_ratio, mean_ratio, speed_up, throughput_ratio, together
from lmtasks.report.table import Cell, Column, Line, Notes, Table

NOT_TIMED = "not timed"


def variant_table(run: RunRecords) -> Table | None:
    """Load time, memory, size and mean ratios of each variant; None where nothing was timed."""
    timed = _timed(run)
    if not timed:
        return None
    notes = Notes()
    rows = [(variant, run.speeds[variant.name]) for variant in timed]
    smallest: Sequence[Callable[[SpeedRecord], float]] = (
        lambda speed: speed.import_seconds,
        lambda speed: speed.load_seconds,
        lambda speed: speed.peak_memory_bytes,
        lambda speed: speed.size_bytes,
    )
    least = [min(of(speed) for _, speed in rows) for of in smallest]
    ratios = [(mean_ratio([latency_ratio(run, v, task.name) for task in run.tasks]), speed_up(run, v)) for v, _ in rows]
    fastest = [max((pair[side] or 0.0 for pair in ratios), default=0.0) for side in (0, 1)]
    lines = []
    for (variant, speed), pair in zip(rows, ratios, strict=True):
        marks = [notes.number(f"{variant.name}: {note}") for note in speed.notes]
        lines.append(
            Line(
                name=variant.name,
                notes=(*name_notes(variant, notes), *marks),
                cells=(
                    *(
                        Cell(text=show.ratio(times), sort=times, best=times is not None and times == fastest[side])
                        for side, times in enumerate(pair)
                    ),
                    *(
                        Cell(text=show.duration(seconds), sort=seconds, best=seconds == least[side])
                        for side, seconds in enumerate((speed.import_seconds, speed.load_seconds))
                    ),
                    Cell(
                        text=show.size(speed.peak_memory_bytes),
                        sort=speed.peak_memory_bytes,
                        best=speed.peak_memory_bytes == least[2],
                    ),
                    Cell(text=show.size(speed.size_bytes), sort=speed.size_bytes, best=speed.size_bytes == least[3]),
                ),
            )
        )
    return Table(
        caption="Each variant in a fresh process of its own. Ratios are geometric means over the tasks.",
        corner="variant",
        columns=(
            Column(title="latency", detail="× torch, batch 1"),
            Column(title="throughput", detail="× torch, largest batch"),
            Column(title="imports"),
            Column(title="loading", detail="to the first answers"),
            Column(title="peak memory", detail="beyond the imports"),
            Column(title="on disk", detail="what was loaded"),
        ),
        lines=tuple(lines),
        notes=notes.texts,
    )


def timing_table(run: RunRecords) -> Table | None:
    """Latency and throughput of each variant on each task; None where nothing was timed."""
    timed = _timed(run)
    if not timed:
        return None
    notes = Notes()
    lines: list[Line] = []
    for task in run.tasks:
        pairs = [
            (
                variant,
                alone(run.speeds[variant.name].timings, task.name),
                together(run.speeds[variant.name].timings, task.name),
            )
            for variant in timed
        ]
        fastest = max((rate.throughput for _, _, rate in pairs if rate is not None), default=0.0)
        quickest = min((one.p50_ms for _, one, _ in pairs if one is not None and one.p50_ms), default=0.0)
        for variant, one, many in pairs:
            if one is None and many is None:
                continue
            lines.append(
                Line(
                    name=variant.name,
                    group=f"{task.name} · {_asked(one or many)}",
                    notes=name_notes(variant, notes),
                    cells=(
                        *_latency(one, quickest, notes),
                        _throughput(many, fastest, notes),
                        Cell(
                            text=show.ratio(throughput_ratio(run, variant, task.name)),
                            sort=throughput_ratio(run, variant, task.name),
                        ),
                    ),
                )
            )
    columns = (
        Column(title="p50", detail="batch 1"),
        Column(title="p90", detail="batch 1"),
        Column(title="p99", detail="batch 1"),
        Column(title="throughput", detail=_batches(run)),
        Column(title="× torch", detail="throughput"),
    )
    missing = [all(line.cells[place].text in {show.MISSING, NOT_TIMED} for line in lines) for place in (0, 1, 2)]
    kept = [place for place in range(len(columns)) if place >= len(missing) or not missing[place]]
    if any(line.cells[place].text == show.MISSING for line in lines for place in kept if place < len(missing)):
        notes.number("a percentile is printed only with enough calls: p50 needs 7, p90 44, p99 459")
    return Table(
        caption="Latency of one request alone; throughput of many handed over at once. Texts are already tokens.",
        corner="variant",
        columns=tuple(columns[place] for place in kept),
        lines=tuple(replace(line, cells=tuple(line.cells[place] for place in kept)) for line in lines),
        notes=notes.texts,
    )


def _timed(run: RunRecords) -> tuple[Variant, ...]:
    return tuple(variant for variant in models(run) if variant.name in run.speeds)


def _latency(one: Timing | None, quickest: float, notes: Notes) -> tuple[Cell, ...]:
    if one is None:
        return tuple(Cell(text=NOT_TIMED, quiet=True) for _ in range(3))
    marks = (notes.number(one.note),) if one.note else ()
    return (
        Cell(text=show.milliseconds(one.p50_ms), sort=one.p50_ms, best=one.p50_ms == quickest, notes=marks),
        Cell(text=show.milliseconds(one.p90_ms), sort=one.p90_ms),
        Cell(text=show.milliseconds(one.p99_ms), sort=one.p99_ms),
    )


def _throughput(many: Timing | None, fastest: float, notes: Notes) -> Cell:
    if many is None:
        return Cell(text=NOT_TIMED, quiet=True)
    return Cell(
        text=f"{show.rate(many.throughput)} {many.unit}",
        detail=show.rate_uncertainty(many.throughput, many.throughput_ci95),
        sort=many.throughput,
        best=many.throughput == fastest,
        notes=(notes.number(many.note),) if many.note else (),
    )


def _asked(timing: Timing | None) -> str:
    """What one request asked for."""
    if timing is None:
        return ""
    return {
        "head": "one text or window through a head",
        "score": "one text or choice scored",
        "generate": f"{timing.new_tokens} new tokens, no fewer",
    }.get(timing.kind, timing.kind)


def _batches(run: RunRecords) -> str:
    sizes = sorted(
        {
            many.batch_size
            for speed in run.speeds.values()
            for task in run.tasks
            if (many := together(speed.timings, task.name)) is not None
        }
    )
    return f"batch {' or '.join(map(str, sizes))}" if len(sizes) < 3 else f"batch {sizes[0]} to {sizes[-1]}"
