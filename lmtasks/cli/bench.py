"""`lmtasks bench`: speed and memory of variants side by side, on real rows of tasks, each in fresh processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, TypeVar

from lmtasks.cli.output import speeds_of, tell
from lmtasks.cli.progress import progress_bars
from lmtasks.cli.signature import Without
from lmtasks.cli.table import print_table
from lmtasks.cli.values import data_options
from lmtasks.settings.bench import BenchSettings, BenchTasks
from lmtasks.settings.data import DataAccess, TrustCode
from lmtasks.settings.endpoint import Endpoint
from lmtasks.settings.evaluation import Limit, Out, Seed
from lmtasks.settings.models import BatchSize, Models, batch_rows
from lmtasks.settings.runs_on import Device, Force, RunPrecision, Runtimes, Threads

if TYPE_CHECKING:
    from lmtasks.bench.compare import SideBySide, SpeedComparison
    from lmtasks.bench.judge import Judged
    from lmtasks.results.speed import LoadTiming, SpeedRecord, Timing
    from lmtasks.workflow.bench import Benched

Row = TypeVar("Row")
Columns = Sequence[tuple[str, bool, Callable[[Row], str]]]
"""Title, on the right?, cell."""


def command(
    *,
    model: Models,
    choice: Annotated[BenchTasks, Without("include_path")],
    runtime: Runtimes = (),
    device: Device = "cpu",
    precision: RunPrecision = None,
    threads: Threads = None,
    force: Force = False,
    batch_size: BatchSize = "auto",
    limit: Limit = None,
    bench: BenchSettings,
    server: Endpoint,
    seed: Seed = 1234,
    out: Out = None,
    access: DataAccess,
    trust_code: TrustCode = False,
) -> None:
    """Measure speed and memory of models on runtimes, side by side; the first is what others are held to.

    Texts are tokens already: tokenizing is the same for all. No answer comes from the cache.
    """
    from lmtasks.bench.costs import parse_prices
    from lmtasks.bench.judge import parse_requirements
    from lmtasks.bench.spec import parse_sweeps
    from lmtasks.workflow.bench import BenchRequest, bench_models
    from lmtasks.workflow.choose_tasks import TaskRequest

    request = BenchRequest(
        models=model,
        tasks=TaskRequest.of(choice),
        data=data_options(access),
        runtimes=runtime,
        device=device,
        precision=precision,
        threads=threads,
        force=force,
        rows_at_once=batch_rows(batch_size),
        limit=limit,
        rounds=bench.rounds,
        seconds=bench.seconds,
        seed=seed,
        sweep=parse_sweeps(bench.sweep),
        rates=bench.rate,
        arrival=bench.arrival,
        requirements=parse_requirements(bench.require) if bench.require else (),
        require=bench.require,
        prices=parse_prices(tokens=bench.price, hour=bench.price_hour),
        endpoint=server,
        out=out,
    )
    with progress_bars() as report:
        benched = bench_models(request, report=report)
    print_compared(benched.compared)
    print_costs(benched.compared.variants)
    tell(lambda: {"files": (str(benched.file),), "speeds": speeds_of(benched.compared.rows)})
    print(f"\nAll timings are in {benched.file}.")
    if benched.judged:
        _tell(benched)


def _tell(benched: Benched) -> None:
    """The answer to --require.

    Raises:
        GateError: no variant fulfils it.
    """
    print()
    print_judged(benched.judged)
    failure = benched.failure()
    if failure is not None:
        raise failure
    others = sum(each.fulfils for each in benched.judged) - 1
    among = f", the fewest core-seconds an answer of the {others + 1} that do" if others else ""
    print(f"\n{benched.best.variant if benched.best else ''} fulfils all that is required{among}.")


def print_compared(compared: SpeedComparison) -> None:
    """Needs, speeds, loads, limits, notes."""
    _needs(compared.variants)
    print()
    missing = _speeds(compared)
    _ratios(compared)
    missing = _loads(compared.variants) or missing
    _max_rates(compared.variants)
    if missing:
        print("\n–: too few samples for that percentile (p50 needs 7, p90 44, p95 90, p99 459).")
    _limits(compared.variants)
    _notes(compared.variants)


def print_costs(records: Sequence[SpeedRecord]) -> None:
    """The cost of 1,000 answers, where a price was given."""
    from lmtasks.report import format as form

    rows = [
        (record.variant.name, each.task, form.price(each.per_1000, each.currency), each.how)
        for record in records
        for each in record.costs
    ]
    if not rows:
        return
    print()
    print_table(("variant", "task", "cost of 1,000 answers", "by"), rows, right=(2,))


def _max_rates(records: Sequence[SpeedRecord]) -> None:
    """The largest rates that were looked for."""
    from lmtasks.report import format as form

    rows = [
        (each.task, f"{each.name}<={each.limit_ms:g}", record.variant.name, form.rate(each.rate), str(len(each.tried)))
        for record in records
        for each in record.max_rates
    ]
    if rows:
        print("\nThe largest rate at which a latency held; each rate that was tried is a run of its own.")
        print_table(("task", "holds", "variant", "requests/s", "tried"), rows, right=(3, 4))


def print_judged(judged: Sequence[Judged]) -> None:
    """Each variant against each requirement."""
    from lmtasks.report import format as form

    names = [str(verdict.requirement) for verdict in judged[0].verdicts]
    rows = [
        (
            each.variant,
            *(f"{'yes' if verdict.fulfilled else 'NO'}: {verdict.reason}" for verdict in each.verdicts),
            form.MISSING if each.core_seconds is None else form.milliseconds(1000 * each.core_seconds),
        )
        for each in judged
    ]
    print_table(("variant", *names, "core time an answer"), rows, right=(len(names) + 1,))


def _needs(records: Sequence[SpeedRecord]) -> None:
    from lmtasks.report import format as form

    columns: Columns[SpeedRecord] = (
        ("variant", False, lambda each: each.variant.name),
        ("layout", False, lambda each: form.layout(each)),
        ("imports", True, lambda each: form.duration(each.import_seconds)),
        ("opening", True, lambda each: form.duration(each.open_seconds or 0.0)),
        ("first answer", True, lambda each: form.duration(each.first_seconds or 0.0)),
        ("peak memory", True, lambda each: "" if each.is_server else form.size(each.total_memory_bytes)),
        ("of it imports", True, lambda each: "" if each.is_server else form.size(each.import_memory_bytes)),
        ("on disk", True, lambda each: "" if each.is_server else form.size(each.artefact.size_bytes)),
    )
    _print(columns, records)


def _speeds(compared: SpeedComparison) -> bool:
    """The table of the closed loop; is a percentile missing?"""
    from lmtasks.report import format as form

    found = {
        (record.variant.name, each.task, each.length, each.batch_size): each
        for record in compared.variants
        for each in record.workloads
    }
    rows = [(row, found[row.variant, row.task, row.length, row.batch_size]) for row in compared.rows]
    columns: Columns[tuple[SideBySide, Timing]] = (
        ("task", False, lambda each: each[1].task),
        ("tokens", True, lambda each: str(each[1].length or _lengths(each[1].read_tokens))),
        ("batch", True, lambda each: each[1].shape.removeprefix("batch ")),
        ("variant", False, lambda each: each[0].variant),
        ("p50", True, lambda each: form.milliseconds(each[1].latency_ms.p50)),
        ("p95", True, lambda each: form.milliseconds(each[1].latency_ms.p95)),
        ("p99", True, lambda each: form.milliseconds(each[1].latency_ms.p99)),
        ("first token", True, lambda each: form.milliseconds(each[1].ttft_ms.p50) if each[1].ttft_ms else ""),
        ("next token", True, lambda each: form.milliseconds(each[1].itl_ms.p50) if each[1].itl_ms else ""),
        ("examples/s", True, lambda each: form.rate(each[0].examples_per_s)),
        ("tokens/s", True, lambda each: form.rate(each[1].throughput) if each[1].kind == "generate" else ""),
        (f"x {compared.rows[0].base}", True, lambda each: form.ratio(each[0].ratio.value)),
        ("95 %", True, lambda each: _interval(each[0])),
        ("", False, lambda each: "" if _is_base(each[0]) else each[0].verdict),
        ("of the limit", False, lambda each: form.of_limit(each[1].limit)),
    )
    return form.MISSING in _print(columns, rows)


def _ratios(compared: SpeedComparison) -> None:
    """Each variant against the first in a sentence, a line each batch size."""
    from lmtasks.bench.compare import over_tasks

    rows = list(over_tasks(compared.rows))
    if not rows:
        return
    tasks = len(rows[0].task.split(", "))
    print()
    for row in rows:
        print(f"{row.sentence}, at batch {row.batch_size}.")
    mean = f"Geometric means over {tasks} tasks, " if tasks > 1 else ""
    rounds = len(rows[0].ratio.rounds)
    if rounds > 1:
        print(f"{mean or 'By '}{'by ' if mean else ''}the ratios of {rounds} rounds; ± is half of the 95 % interval.")


def _loads(records: Sequence[SpeedRecord]) -> bool:
    """The table of the open loop; is a percentile missing?"""
    from lmtasks.report import format as form

    rows = [(record.variant.name, load) for record in records for load in record.loads]
    if not rows:
        return False
    rows.sort(key=lambda each: (each[1].task, each[1].rate))
    arrival = rows[0][1].arrival
    how = f"by {arrival} arrivals" if arrival == "poisson" else "at even gaps"
    print(f"\nUnder a load: requests come {how}; latency from the moment at which each was to come.")
    columns: Columns[tuple[str, LoadTiming]] = (
        ("task", False, lambda each: each[1].task),
        ("requests/s", True, lambda each: f"{each[1].rate:g}"),
        ("variant", False, lambda each: each[0]),
        ("p50", True, lambda each: form.milliseconds(each[1].latency_ms.p50)),
        ("p95", True, lambda each: form.milliseconds(each[1].latency_ms.p95)),
        ("p99", True, lambda each: form.milliseconds(each[1].latency_ms.p99)),
        ("first token p95", True, lambda each: form.milliseconds(each[1].ttft_ms.p95) if each[1].ttft_ms else ""),
        ("next token p95", True, lambda each: form.milliseconds(each[1].itl_ms.p95) if each[1].itl_ms else ""),
        ("good/s", True, lambda each: "" if each[1].goodput_per_s is None else form.rate(each[1].goodput_per_s)),
        ("at work", True, lambda each: "" if each[1].batching == "apart" else f"{100 * each[1].busy_share:.0f} %"),
        ("batching", False, lambda each: each[1].batching),
    )
    return form.MISSING in _print(columns, rows)


def _limits(records: Sequence[SpeedRecord]) -> None:
    from lmtasks.report import format as form

    for measured in {
        str(record.limits): record.limits for record in records if record.limits and not record.is_server
    }.values():
        print(f"\nThis machine, {form.limits(measured)}.")
    for record in records:
        limited = [(each, each.limit) for each in record.workloads if each.limit is not None]
        if limited:
            best, limit = max(limited, key=lambda each: each[1].share)
            at = f"{best.task}, batch {best.batch_size}"
            print(f"{record.variant.name}, {at}: {form.of_limit(limit)} in {limit.of}: {limit.how}.")


def _notes(records: Sequence[SpeedRecord]) -> None:
    """Notes for the reader, one line each."""
    lines: dict[str, list[str]] = {}
    for record in records:
        name = record.variant.name
        for note in record.notes:
            lines.setdefault(note, []).append(name)
        timed: Sequence[Timing | LoadTiming] = (*record.workloads, *record.loads)
        for each in timed:
            for note in filter(None, (each.note, *each.flags)):
                lines.setdefault(note, []).append(f"{name} on {each.task}, {each.shape}")
    if lines:
        print()
    for note, places in lines.items():
        more = f" and {len(places) - 2} more" if len(places) > 2 else ""
        print(f"note: {note}: {'; '.join(places[:2])}{more}.")


def _print(columns: Columns[Row], records: Sequence[Row]) -> str:
    """Print the table without its empty columns; all of its cells as one text."""
    from lmtasks.report import format as form

    cells = [[cell(record) for _, _, cell in columns] for record in records]
    kept = [
        place
        for place in range(len(columns))
        if any(line[place] not in ("", form.MISSING) for line in cells) or columns[place][0] == "p50"
    ]
    print_table(
        [columns[place][0] for place in kept],
        [[line[place] for place in kept] for line in cells],
        right=[number for number, place in enumerate(kept) if columns[place][1]],
    )
    return "".join(line[place] for line in cells for place in kept if columns[place][0].startswith("p"))


def _lengths(tokens: Sequence[int]) -> str:
    """Shortest to longest."""
    return f"{min(tokens)}-{max(tokens)}"


def _interval(row: SideBySide) -> str:
    from lmtasks.report import format as form

    ends = row.ratio.ci95
    return "" if ends is None or _is_base(row) else f"[{form.ratio(ends[0])}, {form.ratio(ends[1])}]"


def _is_base(row: SideBySide) -> bool:
    return row.variant == row.base
