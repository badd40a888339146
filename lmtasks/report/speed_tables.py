"""Tables of speed: one row a variant, one row a task and variant; under a load, at several batch sizes and lengths; and
requirements held against all that."""

from collections.abc import Sequence
from dataclasses import replace

from lmtasks.report import format as show
from lmtasks.report.grid import models
from lmtasks.report.quality import name_notes
from lmtasks.report.records import RunRecords
from lmtasks.report.speeds import alone, latency_ratio, mean_ratio, speed_up, throughput_ratio, together
from lmtasks.report.table import Column, Line, Notes, Table, TableCell
from lmtasks.results.cell import Variant
from lmtasks.results.speed import LoadTiming, Percentiles, Timing

ARRIVALS = {"poisson": "independent of each other (Poisson)", "even": "at even gaps"}
NOT_TIMED = "not timed"


def variant_table(run: RunRecords) -> Table | None:
    """Load time, memory, size and mean ratios of each variant; None where nothing was timed."""
    timed = _timed(run)
    if not timed:
        return None
    notes = Notes()
    rows = [(variant, run.speeds[variant.name]) for variant in timed]
    smallest = min(speed.artefact.size_bytes for _, speed in rows)
    ratios = [(mean_ratio([latency_ratio(run, v, task.name) for task in run.tasks]), speed_up(run, v)) for v, _ in rows]
    lines = []
    for (variant, speed), pair in zip(rows, ratios, strict=True):
        marks = [notes.number(f"{variant.name}: {note}") for note in speed.notes]
        lines.append(
            Line(
                name=variant.name,
                notes=(*name_notes(variant, notes), *marks),
                cells=(
                    *(TableCell(text=show.ratio(times), sort=times) for times in pair),
                    TableCell(text=show.layout(speed), sort=show.layout(speed)),
                    *(
                        TableCell(text=show.duration(seconds), sort=seconds)
                        for seconds in (speed.import_seconds, speed.load_seconds)
                    ),
                    TableCell(text=show.size(speed.total_memory_bytes), sort=speed.total_memory_bytes),
                    TableCell(text=show.size(speed.import_memory_bytes), sort=speed.import_memory_bytes),
                    TableCell(
                        text=show.size(speed.artefact.size_bytes),
                        sort=speed.artefact.size_bytes,
                        best=len(rows) > 1 and speed.artefact.size_bytes == smallest,
                    ),
                ),
            )
        )
    return Table(
        caption="Each variant in fresh processes of its own, memory in one in which nothing is timed. Ratios are "
        f"geometric means over the tasks.{_rounds(run)}",
        corner="variant",
        columns=(
            Column(title="latency", detail="× torch, batch 1"),
            Column(title="throughput", detail="× torch, largest batch"),
            Column(title="layout", detail="how it uses the processor"),
            Column(title="imports", lower_is_better=True),
            Column(title="loading", detail="to the first answers", lower_is_better=True),
            Column(title="peak memory", detail="in all", lower_is_better=True),
            Column(title="of it imports", detail="libraries", lower_is_better=True),
            Column(title="on disk", detail="what was loaded", lower_is_better=True),
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
        fastest = _ahead([many for _, _, many in pairs])
        quickest = _ahead([one for _, one, _ in pairs])
        for place, (variant, one, many) in enumerate(pairs):
            if one is None and many is None:
                continue
            lines.append(
                Line(
                    name=variant.name,
                    group=f"{task.name} · {_asked(one or many)}",
                    notes=name_notes(variant, notes),
                    cells=(
                        *_latency(one, notes, best=place == quickest),
                        _throughput(many, notes, best=place == fastest),
                        TableCell(
                            text=show.ratio(throughput_ratio(run, variant, task.name)),
                            sort=throughput_ratio(run, variant, task.name),
                        ),
                        _of_limit(one, many, notes),
                    ),
                )
            )
    columns = (
        *(Column(title=title, detail="batch 1", lower_is_better=True) for title in ("p50", "p90", "p95", "p99")),
        Column(title="first token", detail="p50, batch 1", lower_is_better=True),
        Column(title="next token", detail="p50, batch 1", lower_is_better=True),
        Column(title="throughput", detail=_batches(run)),
        Column(title="× torch", detail="throughput"),
        Column(title="of the limit", detail="what the machine allows"),
    )
    return shown_columns(
        caption="Latency of one request alone; throughput of many handed over at once. Texts are already tokens. A "
        "text is streamed: its first token comes when the prompt is read, then one after the other. The limit is the "
        "time that the machine would need at least, to read all weights from memory or to multiply them. Marked: "
        "faster than every other variant, their intervals apart.",
        columns=columns,
        lines=lines,
        notes=notes,
    )


def shown_columns(*, caption: str, columns: Sequence[Column], lines: Sequence[Line], notes: Notes) -> Table:
    """The table without its empty columns, and with a word on percentiles that are missing."""
    empty = {show.MISSING, NOT_TIMED, ""}
    kept = [
        place
        for place in range(len(columns))
        if columns[place].title == "throughput" or any(line.cells[place].text not in empty for line in lines)
    ]
    if any(
        line.cells[place].text == show.MISSING for line in lines for place in kept if columns[place].title[0] == "p"
    ):
        notes.number("a percentile is printed only with enough calls: p50 needs 7, p90 44, p95 90, p99 459")
    return Table(
        caption=caption,
        corner="variant",
        columns=tuple(columns[place] for place in kept),
        lines=tuple(replace(line, cells=tuple(line.cells[place] for place in kept)) for line in lines),
        notes=notes.texts,
    )


def milliseconds(ms: float | None, *, best: bool = False, notes: tuple[int, ...] = ()) -> TableCell:
    """A latency."""
    return TableCell(text=show.milliseconds(ms), sort=ms, best=best, notes=notes)


def throughput_cell(timing: Timing) -> TableCell:
    """Examples a second; of texts also new tokens."""
    if timing.examples_per_s is None:  # an older record: choices, and nobody knows how many an example has
        return TableCell(text=f"{show.rate(timing.throughput)} {timing.unit}", quiet=True)
    spread = show.rate_uncertainty(timing.examples_per_s, timing.examples_ci95)
    tokens = f"{show.rate(timing.throughput)} tokens/s" if timing.unit == "tokens/s" else ""
    return TableCell(
        text=f"{show.rate(timing.examples_per_s)} examples/s",
        detail=" · ".join(filter(None, [spread, tokens])),
        sort=timing.examples_per_s,
    )


def marks_of(note: str, flags: Sequence[str], notes: Notes) -> tuple[int, ...]:
    """The numbers of what a reader of a timing must know."""
    return tuple(notes.number(each) for each in (note, *flags) if each)


def load_table(run: RunRecords) -> Table | None:
    """Latency while requests come by a schedule; None where that was not measured."""
    notes, lines, ways = Notes(), [], set()
    for task in run.tasks:
        for variant in models(run):
            for load in _load_timings(run, variant.name, task.name):
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
            *(Column(title=title, lower_is_better=True) for title in ("p50", "p90", "p95", "p99")),
            Column(title="first token", detail="p95", lower_is_better=True),
            Column(title="next token", detail="p95", lower_is_better=True),
            Column(title="good requests/s", detail="within all limits"),
            Column(title="at work", detail="share of the time", lower_is_better=True),
            Column(title="batching"),
        ),
        lines=lines,
        notes=notes,
    )


def cost_table(run: RunRecords) -> Table | None:
    """The cost of 1,000 answers; None where no price was given."""
    lines = [
        Line(
            name=variant.name,
            group=each.task,
            cells=(
                TableCell(text=show.price(each.per_1000, each.currency), sort=each.per_1000),
                TableCell(text=each.how, quiet=True),
            ),
        )
        for task in run.tasks
        for variant in _timed(run)
        for each in run.speeds[variant.name].costs
        if each.task == task.name
    ]
    if not lines:
        return None
    return Table(
        caption="By the prices that the plan names: of a server a million tokens, of anything else an hour of this "
        "machine.",
        corner="variant",
        columns=(Column(title="cost of 1,000 answers", lower_is_better=True), Column(title="reckoned by")),
        lines=tuple(lines),
    )


def rate_table(run: RunRecords) -> Table | None:
    """The largest rates at which latencies held; None where none was looked for."""
    lines = [
        Line(
            name=variant.name,
            group=each.task,
            cells=(
                TableCell(text=f"{each.name}<={each.limit_ms:g}"),
                TableCell(text=show.rate(each.rate), sort=each.rate),
                TableCell(text=str(len(each.tried)), sort=float(len(each.tried)), quiet=True),
            ),
        )
        for task in run.tasks
        for variant in _timed(run)
        for each in run.speeds[variant.name].max_rates
        if each.task == task.name
    ]
    if not lines:
        return None
    return Table(
        caption="The largest rate at which a latency held; each rate that was tried is a run of its own.",
        corner="variant",
        columns=(Column(title="holds"), Column(title="requests/s"), Column(title="rates tried")),
        lines=tuple(lines),
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
            Column(title="p50", lower_is_better=True),
            Column(title="p95", lower_is_better=True),
            Column(title="first token", detail="p50", lower_is_better=True),
            Column(title="next token", detail="p50", lower_is_better=True),
            Column(title="throughput"),
            Column(title="of the limit", detail="what the machine allows"),
        ),
        lines=lines,
        notes=notes,
    )


def required_table(run: RunRecords) -> Table | None:
    """Requirements of the plan, held against every variant; None where it has none."""
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
    core = Column(title="core time", detail="an answer, largest batch", lower_is_better=True)
    answer = (
        f"{best} fulfils all of it for the fewest core-seconds an answer." if best else "No variant fulfils all of it."
    )
    return Table(
        caption=f"What production needs, as the plan says: {run.required.require}. {answer}",
        corner="variant",
        columns=(*(Column(title=name) for name in names), core),
        lines=tuple(lines),
    )


def _rounds(run: RunRecords) -> str:
    most = max(speed.rounds for speed in run.speeds.values())
    return f" {most} rounds in alternation, their samples taken together." if most > 1 else ""


def _timed(run: RunRecords) -> tuple[Variant, ...]:
    return tuple(variant for variant in models(run) if variant.name in run.speeds)


def _ahead(timings: Sequence[Timing | None]) -> int | None:
    """The place of the fastest one, where the interval of its throughput lies above that of every other."""
    ends = {place: each.examples_ci95 for place, each in enumerate(timings) if each is not None and each.examples_per_s}
    known = {place: interval for place, interval in ends.items() if interval is not None}
    if len(known) < max(2, len(ends)):
        return None
    first = max(known, key=lambda place: known[place][0])
    return first if all(known[first][0] > high for place, (_, high) in known.items() if place != first) else None


def _latency(one: Timing | None, notes: Notes, *, best: bool) -> tuple[TableCell, ...]:
    if one is None:
        return tuple(TableCell(text=NOT_TIMED, quiet=True) for _ in range(6))
    found = one.latency_ms
    marks = marks_of(one.note, one.flags, notes)
    return (
        milliseconds(found.p50, best=best, notes=marks),
        milliseconds(found.p90),
        milliseconds(found.p95),
        milliseconds(found.p99),
        *(TableCell(text="") if each is None else milliseconds(each.p50) for each in (one.ttft_ms, one.itl_ms)),
    )


def _of_limit(one: Timing | None, many: Timing | None, notes: Notes) -> TableCell:
    """Of a text that is streamed its steps, of everything else the largest batch; the note says how it was computed."""
    timing = one if one is not None and one.limit is not None and one.limit.of == "a step" else many
    if timing is None or timing.limit is None:
        return TableCell(text="")
    how = f"{timing.limit.of} at batch {timing.batch_size}: {timing.limit.how}"
    return TableCell(text=show.of_limit(timing.limit), sort=timing.limit.share, notes=(notes.number(how),))


def _throughput(many: Timing | None, notes: Notes, *, best: bool) -> TableCell:
    if many is None:
        return TableCell(text=NOT_TIMED, quiet=True)
    cell = throughput_cell(many)
    return replace(cell, best=best, notes=marks_of(many.note, many.flags, notes))


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


def _load_timings(run: RunRecords, variant: str, task: str) -> Sequence[LoadTiming]:
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
            TableCell(
                text="" if load.goodput_per_s is None else show.rate(load.goodput_per_s), sort=load.goodput_per_s
            ),
            TableCell(text="" if load.batching == "apart" else f"{100 * load.busy_share:.0f} %", sort=load.busy_share),
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
