"""Tables of speed beyond one request after the other: under a load, at several batch sizes and lengths; and what was
required of all that."""

from collections.abc import Sequence

from lmtasks.report import format as show
from lmtasks.report.grid import models
from lmtasks.report.records import RunRecords
from lmtasks.report.speed_tables import marks_of, milliseconds, shown_columns, throughput_cell
from lmtasks.report.table import Column, Line, Notes, Table, TableCell
from lmtasks.results.speed import LoadTiming, Percentiles, Timing

ARRIVALS = {"poisson": "independent of each other (Poisson)", "even": "at even gaps"}


def load_table(run: RunRecords) -> Table | None:
    """Latency while requests come by a schedule; None where that was not measured."""
    notes, lines, ways = Notes(), [], set()
    for task in run.tasks:
        for variant in models(run):
            for load in _loads(run, variant.name, task.name):
                ways.add(load.arrival)
                lines.append(_load_line(load, variant.name, notes))
    if not lines:
        return None
    how = " or ".join(ARRIVALS.get(way, way) for way in sorted(ways))
    return shown_columns(
        caption=f"Requests come {how}, whether or not earlier ones are answered, and a latency counts from the moment "
        "at which its request was to come: a pause shows in everybody who waited for its end. Texts that join are "
        "written beside those that were there before; queued requests wait for the next batch.",
        columns=(
            Column(title="p50"),
            Column(title="p90"),
            Column(title="p95"),
            Column(title="p99"),
            Column(title="first token", detail="p95"),
            Column(title="next token", detail="p95"),
            Column(title="at work", detail="share of the time"),
            Column(title="batching"),
        ),
        lines=lines,
        notes=notes,
    )


def sweep_table(run: RunRecords) -> Table | None:
    """Every batch size and length; None where only batch 1 and one other were timed, as in the other table."""
    lines, notes = [], Notes()
    for task in run.tasks:
        for variant in models(run):
            speed = run.speeds.get(variant.name)
            timings = [each for each in (*speed.timings, *speed.at_lengths) if each.task == task.name] if speed else []
            lines += [_sweep_line(timing, variant.name, notes) for timing in timings]
    shapes = {(line.detail, line.group) for line in lines}
    if len(shapes) <= 2 * len({line.group for line in lines}):
        return None
    return shown_columns(
        caption="The same work at several batch sizes and lengths.",
        columns=(
            Column(title="p50"),
            Column(title="p95"),
            Column(title="first token", detail="p50"),
            Column(title="next token", detail="p50"),
            Column(title="throughput"),
            Column(title="of the limit", detail="what the machine allows"),
        ),
        lines=lines,
        notes=notes,
    )


def required_table(run: RunRecords) -> Table | None:
    """What the plan requires, held against every variant; None where it requires nothing."""
    if run.required is None:
        return None
    judged, best = run.required.judged, run.required.cheapest
    names = [verdict.requirement for verdict in judged[0].verdicts] if judged else []
    lines = []
    for each in judged:
        cost = each.core_seconds
        verdicts = [
            TableCell(text="yes" if verdict.fulfilled else "no", detail=verdict.said) for verdict in each.verdicts
        ]
        shown = show.milliseconds(None if cost is None else 1000 * cost)
        cost_cell = TableCell(text=shown, sort=cost, best=each.variant == best)
        lines.append(Line(name=each.variant, cells=(*verdicts, cost_cell)))
    answer = (
        f"{best} fulfils all of it for the fewest core-seconds an answer." if best else "No variant fulfils all of it."
    )
    return Table(
        caption=f"What production needs, as the plan says: {run.required.require}. {answer}",
        corner="variant",
        columns=(*(Column(title=name) for name in names), Column(title="core time", detail="an answer, largest batch")),
        lines=tuple(lines),
    )


def _loads(run: RunRecords, variant: str, task: str) -> Sequence[LoadTiming]:
    speed = run.speeds.get(variant)
    return [load for load in speed.loads if load.task == task] if speed is not None else []


def _load_line(load: LoadTiming, variant: str, notes: Notes) -> Line:
    return Line(
        name=variant,
        group=f"{load.task} · {load.rate:g} requests a second",
        notes=marks_of(load.note, load.flags, notes),
        cells=(
            milliseconds(load.latency_ms.p50),
            milliseconds(load.latency_ms.p90),
            milliseconds(load.latency_ms.p95),
            milliseconds(load.latency_ms.p99),
            _perhaps(load.ttft_ms, "p95"),
            _perhaps(load.itl_ms, "p95"),
            TableCell(text=f"{100 * load.busy_share:.0f} %", sort=load.busy_share),
            TableCell(text=load.batching, sort=load.batching),
        ),
    )


def _sweep_line(timing: Timing, variant: str, notes: Notes) -> Line:
    length = f", {timing.length} tokens" if timing.length else ", its own rows"
    return Line(
        name=variant,
        detail=f"batch {timing.batch_size}{length}",
        group=timing.task,
        notes=marks_of(timing.note, timing.flags, notes),
        cells=(
            milliseconds(timing.latency_ms.p50),
            milliseconds(timing.latency_ms.p95),
            _perhaps(timing.ttft_ms, "p50"),
            _perhaps(timing.itl_ms, "p50"),
            throughput_cell(timing),
            TableCell(text=show.of_limit(timing.limit)),
        ),
    )


def _perhaps(found: Percentiles | None, percentile: str) -> TableCell:
    if found is None:
        return TableCell(text="")
    return milliseconds(found.p50 if percentile == "p50" else found.p95)
