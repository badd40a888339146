"""Pages made from stored records: of the run of a plan, or of what `lmtasks eval` wrote, shown as a run is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

from lmtasks.errors import UsageError
from lmtasks.evaluation.write import (
    RESULTS,
    SPEED,
    StoredResults,
    StoredTask,
    check_samples,
    read_results,
    samples_file,
    words_file,
)
from lmtasks.files import locked, slug
from lmtasks.report.eval_records import HubDataset, write_eval_records, write_hub_results
from lmtasks.report.publish import publish as publish_run
from lmtasks.report.records import RunRecords, read_run, told_apart
from lmtasks.report.write import write_pages, write_report
from lmtasks.results.cell import CellRecord, TaskInfo, Variant
from lmtasks.results.speed import SpeedRecord
from lmtasks.settings.evaluation import PageLanguage
from lmtasks.task.index import default_index
from lmtasks.task.task import Source
from lmtasks.workflow.compare import results_folders
from lmtasks.workflow.pairing import pair_cells

SEED = 1234
NO_REASONS: Mapping[tuple[str, str], str] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class ReportRequest:
    """Folders whose pages are to be made: runs, each with pages of its own, or results, with one page for all."""

    folders: Sequence[Path]
    out: Path | None = None
    """Of results: the folder of the page; None: that of the results, where one was given."""
    publish: Path | None = None
    """Where runs are published too; None: nowhere."""
    every_eval_ever: Path | None = None
    """Where records of Every Eval Ever go; None: nowhere."""
    hub_results: Path | None = None
    """Where `.eval_results` of each variant go, for the Hub; None: nowhere."""
    language: PageLanguage = "en"
    """Of the pages."""


@dataclass(frozen=True, kw_only=True)
class MadeReport:
    """Pages that were made."""

    page: Path
    records: RunRecords
    published: Path | None = None
    files: tuple[Path, ...] = ()
    """Records in the forms of others."""
    left_out: tuple[str, ...] = ()
    """What they cannot hold, a sentence each."""


def make_reports(request: ReportRequest) -> Sequence[MadeReport]:
    """Make pages from stored records, and records in the forms of others; nothing is scored or timed.

    Raises:
        UsageError: a folder is neither a run nor results, a file in it was changed, or what was asked of runs was asked
            of results or the reverse; or what is wanted in another form has no place there.
        WorkError: a folder cannot be written to.
    """
    return [_with_records(made, request) for made in _made(request)]


def _with_records(made: MadeReport, request: ReportRequest) -> MadeReport:
    files: list[Path] = []
    left_out: tuple[str, ...] = ()
    datasets = hub_datasets(made.records) if request.every_eval_ever or request.hub_results else {}
    if request.every_eval_ever is not None:
        now = datetime.now(UTC)
        files += write_eval_records(made.records, out=request.every_eval_ever, datasets=datasets, now=now)
    if request.hub_results is not None:
        written, left_out = write_hub_results(made.records, out=request.hub_results, datasets=datasets)
        files += written
    return replace(made, files=tuple(files), left_out=left_out)


def hub_datasets(run: RunRecords) -> Mapping[str, HubDataset]:
    """The data sets of the Hub that tasks are of, by task: those whose task file is here, and is the one that was
    scored."""
    found: dict[str, HubDataset] = {}
    index = default_index()
    for info in run.tasks:
        try:
            (task,) = index.find(info.apart_from or info.name, trust_code=False)
        except (UsageError, ValueError):
            continue  # a task of the person's own, or one that asks for code
        source = task.sources.get("test")
        if task.hash == info.hash and source is not None and _is_of_hub(source):
            found[info.name] = HubDataset(
                id=source.path, split=source.split, config=source.name or "", revision=source.revision or ""
            )
    return found


def _is_of_hub(source: Source) -> bool:
    owner, _, name = source.path.partition("/")
    own = source.held is not None or source.made_by is not None or source.stands_for is not None
    return bool(owner and name and "/" not in name) and not own and not source.data_files and not source.changed


def _made(request: ReportRequest) -> Sequence[MadeReport]:
    """Make pages from stored records; nothing is scored or timed.

    Raises:
        UsageError: a folder is neither a run nor results, a file in it was changed, or what was asked of runs was asked
            of results or the reverse.
        WorkError: a folder cannot be written to.
    """
    runs = [folder for folder in request.folders if (folder / "cells").is_dir()]
    results = [folder for folder in request.folders if folder not in runs and _holds_results(folder)]
    if not results:  # what is neither is told as a run that is none
        if request.out is not None:
            raise UsageError("a run has its pages in its own folder; leave --out out.")
        return [_made_run(folder, publish=request.publish, language=request.language) for folder in request.folders]
    strangers = [folder for folder in request.folders if folder not in results]
    if strangers:
        raise UsageError(
            f"{strangers[0]} holds no results of `lmtasks eval`, and {results[0]} does: one page takes results alone."
        )
    if request.publish is not None:
        raise UsageError("--publish is about runs of a plan; of results give --out FOLDER.")
    out = request.out or results[0]
    if request.out is None and len(results) > 1:
        raise UsageError(f"{len(results)} folders of results make one page; say where it goes by --out FOLDER.")
    with locked(out):
        return [report_results(results, out=out, language=request.language)]


def report_results(
    given: Sequence[Path],
    *,
    out: Path,
    command: str = "",
    reasons: Mapping[tuple[str, str], str] = NO_REASONS,
    language: PageLanguage = "en",
) -> MadeReport:
    """Write index.html, report.md and charts over folders of `lmtasks eval` into `out`.

    Args:
        command: that made the results, for people who want to repeat it.
        reasons: (model, task) to why there are no scores.

    Raises:
        UsageError: a folder holds no results, or a file in it was changed.
        WorkError: `out` cannot be written to.
    """
    records = records_of(given, name=out.resolve().name, command=command, reasons=reasons)
    return MadeReport(page=write_pages(records, out=out, language=language), records=records)


def _made_run(folder: Path, *, publish: Path | None, language: PageLanguage) -> MadeReport:
    with locked(folder):
        page = write_report(folder, language=language)
        published = None if publish is None else publish_run(folder, reports=publish, language=language)
    return MadeReport(page=page, records=read_run(folder), published=published)


def _holds_results(folder: Path) -> bool:
    return (folder / RESULTS).is_file() or any(folder.glob(f"*/{RESULTS}"))


def records_of(
    given: Sequence[Path], *, name: str, command: str = "", reasons: Mapping[tuple[str, str], str] = NO_REASONS
) -> RunRecords:
    """The records of a run that results folders would be: each model a variant, each of its tasks a cell.

    A model that stands in several folders with other tasks in each is one variant; with the same task in two, each
    folder is one.

    Raises:
        UsageError: a folder holds no results, or a file in it was changed.
    """
    folders = [(each, folder) for each in given for folder in results_folders(each)]
    stored = [read_results(folder) for _, folder in folders]
    for each in stored:
        check_samples(each)
    # Of several models `eval` names each folder as it calls the model.
    called = [
        folder.name if folder != outer else each.record.model.name
        for (outer, folder), each in zip(folders, stored, strict=True)
    ]
    names = _variant_names(stored, called)
    cells = [
        _cell(each, task, variant=_variant(each, variant))
        for each, variant in zip(stored, names, strict=True)
        for task in each.tasks.values()
    ]
    cells += [
        _missing(each, task, variant=_variant(each, variant), status="failed", reason=reason)
        for each, variant in zip(stored, names, strict=True)
        for task, reason in each.record.failed.items()
    ]
    cells += [
        _missing(each, task, variant=_variant(each, variant), status="not-applicable", reason=reason)
        for each, variant in zip(stored, names, strict=True)
        for (model, task), reason in reasons.items()
        if model == variant and task not in each.tasks
    ]
    samples = {
        slug(f"{variant}--{task}"): file
        for each, variant in zip(stored, names, strict=True)
        for task in each.tasks
        if (file := each.folder / samples_file(task)).is_file()
    }
    words = {
        slug(f"{variant}--{task}"): file
        for each, variant in zip(stored, names, strict=True)
        for task in each.tasks
        if (file := each.folder / words_file(task)).is_file()
    }
    cells = list(told_apart(cells))
    tasks = list(dict.fromkeys(cell.task.name for cell in cells))
    return RunRecords(
        folder=given[0],
        name=name,
        question="",
        about="",
        command=command,
        started="",
        plan_text="",
        cells=tuple(sorted(cells, key=lambda cell: (names.index(cell.variant.name), tasks.index(cell.task.name)))),
        speeds={
            name: record
            for each, name in zip(stored, names, strict=True)
            if (record := _speed(each, _variant(each, name))) is not None
        },
        proofs={},
        gates={},
        samples=samples,
        words=words,
        paired=pair_cells(
            cells,
            variants=list(dict.fromkeys(names)),
            tasks=tasks,
            clean={task: task.partition("@")[0] for task in tasks if "@" in task},
            seed=SEED,
        ),
    )


def _variant_names(stored: Sequence[StoredResults], called: Sequence[str]) -> list[str]:
    """The models' names; with the folder where two that are not alike, or that answer the same task, are called so."""

    def is_clear(place: int) -> bool:
        own = stored[place]
        others = [stored[other] for other, name in enumerate(called) if name == called[place] and other != place]
        return all(_identity(one) == _identity(own) and not one.tasks.keys() & own.tasks.keys() for one in others)

    return [
        name if is_clear(place) else f"{name} ({'/'.join(stored[place].folder.resolve().parts[-2:])})"
        for place, name in enumerate(called)
    ]


def _identity(stored: StoredResults) -> tuple[object, ...]:
    model, runtime = stored.record.model, stored.record.runtime
    return model.weights_hash, model.tokenizer_hash, runtime.runtime, runtime.device, runtime.precision


def _variant(stored: StoredResults, name: str) -> Variant:
    model, runtime = stored.record.model, stored.record.runtime
    return Variant(
        name=name,
        model=model.name,
        adaptation=model.adaptation,
        runtime=runtime.runtime,
        device=runtime.device,
        precision=runtime.precision,
        threads=runtime.threads,
    )


def _speed(stored: StoredResults, variant: Variant) -> SpeedRecord | None:
    """The timings beside the scores; None where there are none, or they are of another model than the scores are.

    Raises:
        UsageError: the file was changed since it was written.
    """
    file = stored.folder / SPEED
    if not file.is_file():
        return None
    record, model = SpeedRecord.read(file), stored.record.model
    timed = record.variant
    same = (record.artefact.weights_hash, timed.runtime, timed.device) == (
        model.weights_hash,
        variant.runtime,
        variant.device,
    )
    if not same or (variant.runtime != "native" and timed.precision != variant.precision):
        return None
    return record.model_copy(update={"variant": variant})


def _cell(stored: StoredResults, task: StoredTask, *, variant: Variant) -> CellRecord:
    record, scores = stored.record, task.scores
    return CellRecord(
        id=slug(f"{variant.name}--{task.name}"),
        variant=variant,
        task=TaskInfo(
            name=task.name,
            kind=scores.kind,
            language=scores.language,
            hash=str(scores.conditions.get("task_hash", "")),
        ),
        seed=int(str(scores.conditions.get("seed") or 0)),
        status="done",
        model=record.model,
        runtime=record.runtime,
        machine=record.machine,
        versions=record.versions,
        conditions=scores.conditions,
        samples_checksum=record.checksums.get(samples_file(task.name), ""),
        result=scores,
        recipes=task.statistics.recipes,
        statistics=task.statistics.tables,
        clusters=task.statistics.clusters,
        parts=task.statistics.parts,
    )


def _missing(stored: StoredResults, task: str, *, variant: Variant, status: str, reason: str) -> CellRecord:
    record = stored.record
    return CellRecord.model_validate(
        {
            "id": slug(f"{variant.name}--{task}"),
            "variant": variant,
            "task": TaskInfo(name=task),
            "status": status,
            "reason": reason,
            "model": record.model,
            "runtime": record.runtime,
            "machine": record.machine,
            "versions": record.versions,
        }
    )
