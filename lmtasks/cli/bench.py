"""`lmtasks bench`: speed and memory of variants side by side, on real rows of tasks, each in fresh processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from lmtasks.cli.progress import progress_bars
from lmtasks.cli.signature import Without
from lmtasks.cli.table import print_table
from lmtasks.cli.values import data_options
from lmtasks.settings.bench import BenchSettings, BenchTasks
from lmtasks.settings.data import DataAccess, TrustCode
from lmtasks.settings.evaluation import Limit, Out, Seed
from lmtasks.settings.models import BatchSize, Models, batch_rows
from lmtasks.settings.runs_on import Device, RunPrecision, Runtimes, Threads

if TYPE_CHECKING:
    from lmtasks.bench.compare import SideBySide, SpeedComparison
    from lmtasks.bench.judge import Judged
    from lmtasks.records import Json
    from lmtasks.workflow.bench import Benched

Record = Mapping[str, Any]
"""A speed record, as bench/ makes it."""
Column = tuple[str, bool, Callable[[Record], str]]
"""Title, on the right?, cell."""


def command(
    *,
    model: Models,
    choice: Annotated[BenchTasks, Without("include_path")],
    runtime: Runtimes = (),
    device: Device = "cpu",
    precision: RunPrecision = None,
    threads: Threads = None,
    batch_size: BatchSize = "auto",
    limit: Limit = None,
    bench: BenchSettings,
    seed: Seed = 1234,
    out: Out = None,
    access: DataAccess,
    trust_code: TrustCode = False,
) -> None:
    """Measure speed and memory of models on runtimes, side by side; the first is what others are held to.

    Texts are tokens already: tokenizing is the same for all. No answer comes from the cache.
    """
    from lmtasks.bench.require import parse_requirements
    from lmtasks.bench.sweep import parse_sweeps
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
        out=out,
    )
    with progress_bars() as report:
        benched = bench_models(request, report=report)
    print_compared(benched.compared)
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
    missing = _loads(compared.variants) or missing
    if missing:
        print("\n–: too few samples for that percentile (p50 needs 7, p90 44, p95 90, p99 459).")
    _limits(compared.variants)
    _notes(compared.variants)


def print_judged(judged: Sequence[Judged]) -> None:
    """Each variant against each requirement."""
    from lmtasks.report import format as form

    names = [str(verdict.requirement) for verdict in judged[0].verdicts]
    rows = [
        (
            each.variant,
            *(f"{'yes' if verdict.fulfilled else 'NO'}: {verdict.said}" for verdict in each.verdicts),
            form.MISSING if each.core_seconds is None else form.milliseconds(1000 * each.core_seconds),
        )
        for each in judged
    ]
    print_table(("variant", *names, "core time an answer"), rows, right=(len(names) + 1,))


def _needs(records: Sequence[Json]) -> None:
    from lmtasks.bench.judge import total_memory
    from lmtasks.report import format as form

    columns: tuple[Column, ...] = (
        ("variant", False, lambda each: each["variant"]["name"]),
        ("layout", False, lambda each: form.layout(each["runtime"]["threads"], each["runtime"]["options"])),
        ("imports", True, lambda each: form.duration(each["import_seconds"])),
        ("opening", True, lambda each: form.duration(each["open_seconds"])),
        ("first answer", True, lambda each: form.duration(each["first_seconds"])),
        ("peak memory", True, lambda each: form.size(total_memory(each))),
        ("of it imports", True, lambda each: form.size(each["import_memory_bytes"])),
        ("on disk", True, lambda each: form.size(each["artefact"]["size_bytes"])),
    )
    _print(columns, records)


def _speeds(compared: SpeedComparison) -> bool:
    """The table of the closed loop; is a percentile missing?"""
    from lmtasks.report import format as form

    found = {_key(record, timing): timing for record in compared.variants for timing in record["workloads"]}  # type: ignore[attr-defined]
    rows: list[Record] = [
        {"row": row, **found[row.variant, row.task, row.length, row.batch_size]} for row in compared.rows
    ]
    columns: tuple[Column, ...] = (
        ("task", False, lambda each: each["task"]),
        ("tokens", True, lambda each: str(each["length"] or _lengths(each["read_tokens"]))),
        ("batch", True, lambda each: str(each["batch_size"])),
        ("variant", False, lambda each: each["row"].variant),
        ("p50", True, lambda each: form.milliseconds(each["latency_ms"]["p50"])),
        ("p95", True, lambda each: form.milliseconds(each["latency_ms"]["p95"])),
        ("p99", True, lambda each: form.milliseconds(each["latency_ms"]["p99"])),
        ("first token", True, lambda each: _middle(each["ttft_ms"])),
        ("next token", True, lambda each: _middle(each["itl_ms"])),
        ("examples/s", True, lambda each: form.rate(each["row"].examples_per_s)),
        ("tokens/s", True, lambda each: form.rate(each["throughput"]) if each["kind"] == "generate" else ""),
        (f"x {compared.rows[0].base}", True, lambda each: form.ratio(each["row"].ratio.value)),
        ("95 %", True, lambda each: _interval(each["row"])),
        ("", False, lambda each: "" if _is_base(each["row"]) else each["row"].verdict),
        ("of the limit", False, lambda each: form.of_limit(each["limit"])),
    )
    return form.MISSING in _print(columns, rows)


def _loads(records: Sequence[Json]) -> bool:
    """The table of the open loop; is a percentile missing?"""
    from lmtasks.report import format as form

    rows: list[Record] = [
        {"variant": record["variant"]["name"], **load}  # type: ignore[index]
        for record in records
        for load in record["loads"]  # type: ignore[attr-defined]
    ]
    if not rows:
        return False
    rows.sort(key=lambda each: (each["task"], each["rate"]))
    how = f"by {rows[0]['arrival']} arrivals" if rows[0]["arrival"] == "poisson" else "at even gaps"
    print(f"\nUnder a load: requests come {how}; latency from the moment at which each was to come.")
    columns: tuple[Column, ...] = (
        ("task", False, lambda each: each["task"]),
        ("requests/s", True, lambda each: f"{each['rate']:g}"),
        ("variant", False, lambda each: each["variant"]),
        ("p50", True, lambda each: form.milliseconds(each["latency_ms"]["p50"])),
        ("p95", True, lambda each: form.milliseconds(each["latency_ms"]["p95"])),
        ("p99", True, lambda each: form.milliseconds(each["latency_ms"]["p99"])),
        ("first token p95", True, lambda each: _middle(each["ttft_ms"], "p95")),
        ("next token p95", True, lambda each: _middle(each["itl_ms"], "p95")),
        ("at work", True, lambda each: f"{100 * each['busy_share']:.0f} %"),
        ("batching", False, lambda each: each["batching"]),
    )
    return form.MISSING in _print(columns, rows)


def _limits(records: Sequence[Json]) -> None:
    from lmtasks.report import format as form

    for limits in {str(record["limits"]): record["limits"] for record in records}.values():
        print(f"\nThis machine, {form.limits(limits)}.")  # type: ignore[arg-type]
    for record in records:
        timings: Sequence[Record] = record["workloads"]  # type: ignore[assignment]
        best = max((each for each in timings if each["limit"]), key=lambda each: each["limit"]["share"], default=None)
        if best is not None:
            name, at = record["variant"]["name"], f"{best['task']}, batch {best['batch_size']}"  # type: ignore[index]
            print(f"{name}, {at}: {form.of_limit(best['limit'])} in {best['limit']['of']}: {best['limit']['how']}.")


def _notes(records: Sequence[Json]) -> None:
    """What a reader must know, one line a sentence."""
    lines: dict[str, list[str]] = {}
    for record in records:
        name = record["variant"]["name"]  # type: ignore[index]
        for note in record["notes"]:  # type: ignore[attr-defined]
            lines.setdefault(note, []).append(name)
        for each in (*record["workloads"], *record["loads"]):  # type: ignore[misc]
            at = f"{each['rate']:g} requests/s" if "rate" in each else f"batch {each['batch_size']}"
            for note in filter(None, (each["note"], *each["flags"])):
                lines.setdefault(note, []).append(f"{name} on {each['task']}, {at}")
    if lines:
        print()
    for note, places in lines.items():
        more = f" and {len(places) - 2} more" if len(places) > 2 else ""
        print(f"note: {note}: {'; '.join(places[:2])}{more}.")


def _print(columns: Sequence[Column], records: Sequence[Record]) -> str:
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


def _key(record: Json, timing: Record) -> tuple[str, str, int, int]:
    return record["variant"]["name"], timing["task"], timing["length"], timing["batch_size"]  # type: ignore[index]


def _lengths(tokens: Sequence[int]) -> str:
    """Shortest to longest."""
    return f"{min(tokens)}-{max(tokens)}"


def _middle(spread: Record | None, percentile: str = "p50") -> str:
    from lmtasks.report import format as form

    return "" if spread is None else form.milliseconds(spread[percentile])


def _interval(row: SideBySide) -> str:
    from lmtasks.report import format as form

    ends = row.ratio.ci95
    return "" if ends is None or _is_base(row) else f"[{form.ratio(ends[0])}, {form.ratio(ends[1])}]"


def _is_base(row: SideBySide) -> bool:
    return row.variant == row.base
