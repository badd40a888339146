"""`lmtasks bench`: speed and memory of variants side by side, on real rows of tasks, each in fresh processes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated

import typer

from lmtasks.cli import options
from lmtasks.cli.models import Chosen, chosen_models
from lmtasks.cli.progress import progress_bars
from lmtasks.cli.table import print_table
from lmtasks.cli.tasks import chosen_tasks, data_options
from lmtasks.errors import UsageError

if TYPE_CHECKING:
    from lmtasks.bench.compare import Comparison
    from lmtasks.bench.spec import SpeedSpec
    from lmtasks.data.options import DataOptions
    from lmtasks.records import Json
    from lmtasks.task.task import Task

AUTO_BATCH = 16
"""Rows at once for throughput, where --batch-size is auto."""


def command(
    model: options.Models,
    tasks: options.Tasks = "starter_*",
    data: options.Data = None,
    text: options.Text = "text",
    label: options.Label = None,
    pair: options.Pair = None,
    name: options.TaskName = None,
    language: options.Language = None,
    runtime: options.Runtimes = [],  # noqa: B006  # typer copies it
    device: options.Device = "cpu",
    precision: options.Precision = None,
    threads: options.Threads = None,
    batch_size: options.BatchSize = "auto",
    limit: options.Limit = None,
    rounds: Annotated[
        int,
        typer.Option(
            metavar="NUMBER",
            parser=options.whole("--rounds", at_least=1),
            help="Every variant is measured so often, in alternation; an interval needs two.",
        ),
    ] = 3,
    seconds: Annotated[
        float, typer.Option(metavar="NUMBER", help="Least time for each task and batch size in a round.")
    ] = 1.0,
    seed: options.Seed = 1234,
    out: options.Out = None,
    data_root: options.DataRoot = None,
    offline: options.Offline = False,
    token: options.Token = None,
    trust_code: options.TrustCode = False,
) -> None:
    """Measure speed and memory of models on runtimes, side by side; the first is what others are held to."""
    from lmtasks.bench.compare import compare_variants
    from lmtasks.suite.lock import locked

    sources = data_options(data_root=data_root, offline=offline, token=token)
    found = chosen_tasks(
        tasks="" if data is not None and tasks == "starter_*" else tasks,
        data=data,
        text=text,
        label=label,
        pair=pair,
        name=name,
        language=language,
        trust_code=trust_code,
    )
    if seconds <= 0:
        raise UsageError(f"--seconds must be above 0, was {seconds}.")
    models = chosen_models(model, offline=offline, token=token)
    pairs = _pairs(models, runtime)
    specs = [
        _spec(
            chosen,
            on,
            name=chosen.label if len(models) == len(pairs) else f"{chosen.label} {on}",
            tasks=found,
            sources=sources,
            device=device,
            precision=precision,
            threads=threads,
            rows_at_once=options.batch_rows(batch_size) or AUTO_BATCH,
            limit=limit,
            seconds=seconds,
            seed=seed,
        )
        for chosen, on in pairs
    ]
    folder = out or options.next_folder("bench")
    with locked(folder):
        with progress_bars() as report:
            compared = compare_variants(specs, rounds=rounds, on_progress=report)
        file = _write(compared, folder)
    _print(compared, [spec.name for spec in specs])
    print(f"\nAll timings are in {file}.")


def _pairs(models: Sequence[Chosen], runtimes: Sequence[str]) -> list[tuple[Chosen, str]]:
    """Every model on every wanted runtime that suits it.

    Raises:
        UsageError: a baseline, which is not timed; a runtime that suits no model, or a model that suits no runtime.
    """
    from lmtasks.export.package import is_package

    pairs: list[tuple[Chosen, str]] = []
    for chosen in models:
        if chosen.folder is None:
            raise UsageError(f"{chosen.ref} is a baseline; bench times models and packages.")
        package = is_package(chosen.folder)
        suiting = [name for name in runtimes if (name == "onnx") == package] or ([] if runtimes else [_own(package)])
        if not suiting:
            advice = "it runs on onnx" if package else f"make a package with `lmtasks export --model {chosen.ref}`"
            raise UsageError(
                f"{chosen.ref} is {'a package' if package else 'a model'}, which none of the runtimes "
                f"{', '.join(runtimes)} runs; {advice}."
            )
        pairs += [(chosen, name) for name in suiting]
    idle = [name for name in runtimes if name not in {on for _, on in pairs}]
    if idle:
        what = "package made by `lmtasks export`" if idle[0] == "onnx" else "model folder"
        raise UsageError(f"--runtime {idle[0]} has nothing to run; add a --model that is a {what}.")
    return pairs


def _own(package: bool) -> str:
    return "onnx" if package else "torch"


def _spec(
    chosen: Chosen,
    runtime: str,
    *,
    name: str,
    tasks: Sequence[Task],
    sources: DataOptions,
    device: str,
    precision: str | None,
    threads: int | None,
    rows_at_once: int,
    limit: int | None,
    seconds: float,
    seed: int,
) -> SpeedSpec:
    from lmtasks.bench.machine import usable_cores
    from lmtasks.bench.spec import SpeedSpec
    from lmtasks.bench.speed import SpeedSettings
    from lmtasks.bench.workload import REQUESTS
    from lmtasks.export.package import is_package, load_package
    from lmtasks.suite.engines import card_in
    from lmtasks.suite.workloads import workloads_of

    assert chosen.folder is not None  # a baseline was refused
    card = card_in(chosen.folder)
    computed_in = precision or (load_package(chosen.folder).precision if is_package(chosen.folder) else "fp32")
    cores = threads or usable_cores()
    return SpeedSpec(
        variant={
            "name": name,
            "model": chosen.ref,
            "adaptation": card.adaptation,
            "runtime": runtime,
            "device": device,
            "precision": computed_in,
            "threads": cores,
        },
        ref=chosen.folder,
        runtime=runtime,
        device=device,
        precision=computed_in,
        threads=cores,
        workloads=workloads_of(
            tasks, ref=chosen.folder, model=card, options=sources, rows=limit or REQUESTS, seed=seed
        ),
        settings=SpeedSettings(batch_sizes=(1, rows_at_once), least_seconds=seconds, most_seconds=seconds * 4),
    )


def _write(compared: Comparison, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "bench.json"
    content = {
        "schema": 1,
        "rounds": [list(line) for line in compared.records],
        "side_by_side": [
            {
                "variant": row.variant,
                "base": row.base,
                "task": row.task,
                "batch_size": row.batch_size,
                "unit": row.unit,
                "throughput": row.throughput,
                "ratio": row.ratio.value,
                "ratio_ci95": row.ratio.ci95,
                "verdict": row.verdict,
            }
            for row in compared.rows
        ],
    }
    aside = file.with_name("bench.json.part")
    aside.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    aside.replace(file)
    return file


def _print(compared: Comparison, names: Sequence[str]) -> None:
    """What each variant needs, then how fast it is on each task."""
    from lmtasks.report import format as form

    records = {name: [line[place] for line in compared.records] for place, name in enumerate(names)}
    needs = [
        (
            name,
            form.duration(_middle(mine, "import_seconds")),
            form.duration(_middle(mine, "load_seconds")),
            form.size(_middle(mine, "peak_memory_bytes")),
            form.size(float(str(_mapping(mine[0]["artefact"])["size_bytes"]))),
        )
        for name, mine in records.items()
    ]
    print_table(("variant", "imports", "loading", "peak memory", "on disk"), needs, right=(1, 2, 3, 4))
    rows: list[Sequence[str]] = []
    for row in compared.rows:
        timings = [_timing(record, row.task, row.batch_size) for record in records[row.variant]]
        rows.append(
            (
                row.task,
                str(row.batch_size),
                row.variant,
                form.milliseconds(_latency(timings, "p50")),
                form.milliseconds(_latency(timings, "p90")),
                f"{form.rate(row.throughput)} {row.unit}",
                form.ratio(row.ratio.value),
                *(("", "") if row.variant == row.base else (_interval(row.ratio.ci95), row.verdict)),
            )
        )
    print()
    columns = ("task", "batch", "variant", "p50", "p90", "throughput", f"x {names[0]}", "95 %", "")
    print_table(columns, rows, right=(1, 3, 4, 5, 6, 7))
    if any(form.MISSING in line for line in rows):
        print(f"\n{form.MISSING}: too few calls in a round for that percentile; give it more --seconds.")
    notes = dict.fromkeys(str(note) for mine in records.values() for record in mine for note in _notes(record))
    if notes:
        print("\n" + "\n".join(f"note: {note}." for note in notes))


def _interval(ends: tuple[float, float] | None) -> str:
    from lmtasks.report import format as form

    return "" if ends is None else f"[{form.ratio(ends[0])}, {form.ratio(ends[1])}]"


def _timing(record: Json, task: str, batch_size: int) -> Mapping[str, object]:
    workloads = record["workloads"]
    assert isinstance(workloads, list)  # a record of measure_variant
    return next(each for each in workloads if (each["task"], each["batch_size"]) == (task, batch_size))


def _latency(timings: Sequence[Mapping[str, object]], percentile: str) -> float | None:
    """Median over rounds; None where a round has too few calls for it."""
    found = [_mapping(timing["latency_ms"])[percentile] for timing in timings]
    return None if None in found else float(median(float(str(value)) for value in found))


def _middle(records: Sequence[Json], field: str) -> float:
    return float(median(float(str(record[field])) for record in records))


def _notes(record: Json) -> Sequence[object]:
    notes = record["notes"]
    return notes if isinstance(notes, list) else ()


def _mapping(value: object) -> Mapping[str, object]:
    assert isinstance(value, Mapping)  # a record of measure_variant
    return value
