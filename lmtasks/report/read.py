"""A run folder, or a published one, as checked values.

>>> read_run(Path("no-such-folder"))
Traceback (most recent call last):
...
lmtasks.errors.UsageError: no-such-folder is no run: it has no folder 'cells'. Give ...
"""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from lmtasks.checksums import file_checksum
from lmtasks.errors import UsageError
from lmtasks.records import Estimate
from lmtasks.report.fields import Fields, read_fields
from lmtasks.report.format import SCALES, layout
from lmtasks.report.paired_records import read_paired
from lmtasks.report.records import (
    CellRecord,
    LoadTiming,
    Percentiles,
    PublishedFigure,
    RunRecords,
    SpeedRecord,
    Status,
    TaskInfo,
    Timing,
    TrainedRecord,
    Variant,
)

STATUSES: Mapping[str, Status] = {"done": "done", "failed": "failed", "not-applicable": "not-applicable"}


def read_run(folder: Path) -> RunRecords:
    """Read a run folder (`runs/<plan>`) or a published one (`reports/<plan>`).

    Raises:
        UsageError: the folder is no run, has no finished cell, or a file in it is damaged or foreign (named).
    """
    cells_folder = folder / "cells"
    if not cells_folder.is_dir():
        raise UsageError(
            f"{folder} is no run: it has no folder 'cells'. Give the folder of a run (runs/<plan>) or of a "
            "published report (reports/<plan>)."
        )
    cells = [_cell(read_fields(file)) for file in sorted(cells_folder.glob("*.json"))]
    for cell in cells:
        _check_samples(cell, folder)
    if not cells:
        raise UsageError(f"{folder} has no finished cell yet; carry out the plan first (lmtasks run).")
    header = read_fields(folder / "run.json") if (folder / "run.json").is_file() else Fields({}, file=folder)
    plan = Fields(header.json("plan"), file=header.file, path="plan.")
    speeds = [_speed(read_fields(file)) for file in sorted((folder / "speed").glob("*.json"))]
    plan_file = folder / "plan.yaml"
    return RunRecords(
        folder=folder,
        name=plan.text("plan", folder.resolve().name),
        question=plan.text("question", ""),
        about=plan.text("about", ""),
        command=header.text("command", ""),
        started=header.text("started", ""),
        plan_text=plan_file.read_text(encoding="utf-8") if plan_file.is_file() else "",
        cells=tuple(
            _in_order(
                cells,
                variants=[variant.text("name", "") for variant in plan.each("variants")],
                tasks=plan.texts("tasks"),
            )
        ),
        speeds={speed.variant.name: speed for speed in speeds},
        proofs=_of_packages(folder, "parity"),
        gates=_of_packages(folder, "gate"),
        published=tuple(_published(each) for each in plan.each("published")),
        margin=1.0 if (margin := plan.optional_number("margin")) is None else margin,
        paired=read_paired(folder / "paired.json"),
        required=read_fields(folder / "required.json") if (folder / "required.json").is_file() else None,
    )


def _check_samples(cell: CellRecord, folder: Path) -> None:
    """Raises: UsageError: the samples that lie there are not those that the cell was written with."""
    samples = folder / "samples" / f"{cell.id}.jsonl"
    if cell.samples_checksum and samples.is_file() and file_checksum(samples) != cell.samples_checksum:
        raise UsageError(
            f"{samples} was changed since it was written (its checksum differs); delete it, and cells/{cell.id}.json "
            "too, and run the plan again, which makes what is missing."
        )


def _published(fields: Fields) -> PublishedFigure:
    value, wanted = fields.number("value"), fields.optional_number("wanted")
    return PublishedFigure(
        task=fields.text("task"),
        variant=fields.text("variant"),
        metric=fields.text("metric", ""),
        value=value,
        wanted=value if wanted is None else wanted,
        by=fields.text("by"),
    )


def _cell(fields: Fields) -> CellRecord:
    task, status = fields.sub("task"), fields.text("status")
    if status not in STATUSES:
        raise UsageError(
            f"{fields.file}: status is {status!r}, allowed are {', '.join(STATUSES)}; the file is damaged."
        )
    result = fields.sub("result") if status == "done" else Fields({}, file=fields.file)
    metrics = result.sub("metrics") if status == "done" else result
    return CellRecord(
        id=fields.text("id"),
        variant=_variant(fields.sub("variant")),
        task=TaskInfo(
            name=task.text("name"),
            kind=task.text("kind", ""),
            language=task.text("language", ""),
            hash=task.text("hash", ""),
        ),
        seed=int(fields.optional_number("seed") or 0),
        status=STATUSES[status],
        reason=fields.text("reason", ""),
        metrics={name: _estimate(metrics.sub(name)) for name in metrics.values},
        n=int(result.number("n")) if status == "done" else 0,
        truncated=int(result.optional_number("truncated") or 0),
        seconds=result.optional_number("seconds"),
        conditions=fields.json("conditions"),
        model=fields.json("model"),
        runtime=fields.json("runtime"),
        machine=fields.json("machine"),
        versions=fields.json("versions"),
        samples_checksum=fields.text("samples_checksum", ""),
        trained=_trained(fields.sub("trained")) if fields.json("trained") else None,
        rival=result.json("rival"),
        unknown_share=result.optional_number("unknown_share") or 0.0,
        refused=tuple(dict.fromkeys(map(str, result.json("refused").values()))),
        overlap=result.json("overlap"),
        notes=result.texts("notes"),
    )


def _trained(fields: Fields) -> TrainedRecord:
    return TrainedRecord(
        seconds=fields.number("seconds"),
        steps=int(fields.number("steps")),
        weights=int(fields.number("weights")),
        stopped=fields.text("stopped", ""),
    )


def _variant(fields: Fields) -> Variant:
    threads = fields.optional_number("threads")
    return Variant(
        name=fields.text("name"),
        model=fields.text("model", ""),
        adaptation=fields.text("adaptation", ""),
        runtime=fields.text("runtime", ""),
        device=fields.text("device", ""),
        precision=fields.text("precision", ""),
        threads=None if threads is None else int(threads),
        written=", ".join(f"{name}={value}" for name, value in fields.json("generation_kwargs").items()),
    )


def _estimate(fields: Fields) -> Estimate:
    scale = fields.text("scale", "raw")
    if scale not in SCALES:
        raise UsageError(f"{fields.file}: scale is {scale!r}, allowed are {', '.join(SCALES)}; the file is damaged.")
    return Estimate(
        value=fields.number("value"),
        stderr=fields.optional_number("stderr"),
        ci95=fields.interval("ci95"),
        higher_is_better=fields.flag("higher_is_better"),
        scale=SCALES[scale],
        signature=fields.text("signature", ""),
    )


def _speed(fields: Fields) -> SpeedRecord:
    timings = [_timing(timing) for timing in fields.each("workloads")]
    runtime, variant = Fields(fields.json("runtime"), file=fields.file), _variant(fields.sub("variant"))
    threads = runtime.optional_number("threads") or variant.threads or 1
    imported = int(fields.optional_number("import_memory_bytes") or 0)
    return SpeedRecord(
        variant=variant,
        size_bytes=int(fields.sub("artefact").number("size_bytes")),
        load_seconds=fields.number("load_seconds"),
        import_seconds=fields.number("import_seconds"),
        first_seconds=fields.optional_number("first_seconds"),
        import_memory_bytes=imported,
        peak_memory_bytes=imported + int(fields.number("peak_memory_bytes")),
        timings=tuple(timing for timing in timings if not timing.length),
        at_lengths=tuple(timing for timing in timings if timing.length),
        loads=tuple(_load(load) for load in fields.each("loads")),
        layout=layout(int(threads), runtime.json("options")),
        rounds=int(fields.optional_number("rounds") or 1),
        limits=fields.json("limits"),
        notes=fields.texts("notes"),
        machine=fields.json("machine"),
        versions=fields.json("versions"),
    )


def _timing(fields: Fields) -> Timing:
    return Timing(
        task=fields.text("task"),
        kind=fields.text("kind"),
        batch_size=int(fields.number("batch_size")),
        length=int(fields.optional_number("length") or 0),
        unit=fields.text("unit"),
        new_tokens=int(fields.optional_number("new_tokens") or 0),
        latency=_percentiles(fields.sub("latency_ms")),
        first_token=_perhaps(fields, "ttft_ms"),
        next_token=_perhaps(fields, "itl_ms"),
        throughput=fields.number("throughput"),
        examples_per_s=_examples_per_s(fields),
        throughput_ci95=fields.interval("throughput_ci95"),
        limit=fields.json("limit"),
        note=fields.text("note", ""),
        flags=fields.texts("flags"),
    )


def _examples_per_s(fields: Fields) -> float | None:
    """Records before December 2026 do not say how many choices a prompted example has: only a score is left open."""
    if fields.values.get("examples_per_s") is not None:
        return fields.number("examples_per_s")
    if fields.text("kind") == "score":
        return None
    return fields.number("throughput") / max(1.0, fields.optional_number("new_tokens") or 1.0)


def _load(fields: Fields) -> LoadTiming:
    return LoadTiming(
        task=fields.text("task"),
        rate=fields.number("rate"),
        arrival=fields.text("arrival"),
        batching=fields.text("batching"),
        latency=_percentiles(fields.sub("latency_ms")),
        first_token=_perhaps(fields, "ttft_ms"),
        next_token=_perhaps(fields, "itl_ms"),
        busy_share=fields.number("busy_share"),
        note=fields.text("note", ""),
        flags=fields.texts("flags"),
    )


def _percentiles(fields: Fields) -> Percentiles:
    return Percentiles(
        p50=fields.optional_number("p50"),
        p90=fields.optional_number("p90"),
        p95=fields.optional_number("p95"),
        p99=fields.optional_number("p99"),
        n=int(fields.number("n")),
    )


def _perhaps(fields: Fields, name: str) -> Percentiles | None:
    return _percentiles(fields.sub(name)) if fields.json(name) else None


def _of_packages(folder: Path, kind: str) -> Mapping[str, Fields]:
    """From packages/<package>/<kind>.json of a run, or <kind>/<package>.json of a published one."""
    made = sorted((folder / "packages").glob(f"*/{kind}.json"))
    files = {file.parent.name: file for file in made if file.parent.suffix != ".part"}
    files |= {file.stem: file for file in sorted((folder / kind).glob("*.json"))}
    return {name: read_fields(file) for name, file in files.items()}


def _in_order(cells: Sequence[CellRecord], *, variants: Sequence[str], tasks: Sequence[str]) -> list[CellRecord]:
    """By the plan's variants, then its tasks (names or patterns), then seed; what it does not name comes behind."""

    def place(cell: CellRecord) -> tuple[int, bool, str, int, str, int]:
        variant, task = cell.variant.name, cell.task.name
        by_variant = variants.index(variant) if variant in variants else len(variants)
        by_task = next((n for n, pattern in enumerate(tasks) if fnmatchcase(task, pattern)), len(tasks))
        return by_variant, bool(cell.baseline), variant, by_task, task, cell.seed

    return sorted(cells, key=place)
