"""Stored results side by side, paired by example, and the file that holds every number of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from lmtasks.bench.compare import SideBySide
from lmtasks.errors import UsageError, missing
from lmtasks.evaluation.comparing import Compared, MetricComparison, compare_results
from lmtasks.evaluation.write import RESULTS, SPEED, check_samples, read_results
from lmtasks.metric.ratio import unpaired_ratio
from lmtasks.results.comparison import ComparedMetric, ComparedRecord, KnownCounts
from lmtasks.results.scores import ResultsRecord
from lmtasks.results.speed import SpeedRecord
from lmtasks.settings.bounds import shown

if TYPE_CHECKING:
    from lmtasks.evaluation.write import StoredResults


MACHINE = ("processor", "cores_usable", "cpu_limit_cores", "memory_bytes", "system", "virtual")
"""Of a machine's facts those by which it is told from another; a kernel's update makes no other machine."""


def results_folders(given: Path) -> list[Path]:
    """The folder itself, or those in it: where `eval` was given several models, each has its own, in the order that
    they were given in.

    Raises:
        UsageError: no such folder, or a file in it is damaged.
    """
    if not given.is_dir():
        raise missing("folder", given, hint="give the --out of `lmtasks eval`")
    inner = sorted(file.parent for file in given.glob(f"*/{RESULTS}"))
    if not inner or (given / RESULTS).is_file():
        return [given]
    return sorted(inner, key=lambda folder: ResultsRecord.read(folder / RESULTS).place)


def compare_folders(given: Sequence[Path], *, only: Sequence[str] = (), seed: int = 1234) -> Compared:
    """Compare the results in folders; all are held to the first.

    Args:
        only: `TASK` or `TASK/METRIC`, with `*` for any text; empty: everything that they share.

    Raises:
        UsageError: fewer than two results, samples that were changed, or results that cannot be compared.
    """
    folders = [folder for each in given for folder in results_folders(each)]
    if len(folders) < 2:
        raise UsageError(f"compare needs at least two folders of results, was given {len(folders)}.")
    base, *others = [read_results(folder) for folder in folders]
    for stored in (base, *others):
        check_samples(stored)
    return compare_results(base, others, only=only, seed=seed)


def write_comparison(compared: Compared, file: Path) -> None:
    """Write every number to a JSON file.

    Raises:
        UsageError: the place is a folder.
    """
    if not file.name or file.is_dir():
        raise UsageError(f"--out of compare takes a file, and {file} is a folder; give {file / 'compared.json'}, say.")
    compared_record(compared).write(file)


def compared_record(compared: Compared) -> ComparedRecord:
    """Every number of a comparison."""
    return ComparedRecord(
        base=str(compared.base.folder),
        comparisons=tuple(_compared_metric(compared.base, comparison) for comparison in compared.comparisons),
        not_compared=compared.left_out,
    )


def compare_speeds(base: StoredResults, others: Sequence[StoredResults]) -> Sequence[SideBySide]:
    """The stored timings of results beside those of the base, a line a workload that both were timed on.

    Raises:
        UsageError: one has no timings, they are of different machines or numbers of threads, or share no workload.
    """
    mine = _speed_record(base)
    found: list[SideBySide] = []
    for other in others:
        record = _speed_record(other)
        unlike = [
            f"{what.replace('_', ' ')} {shown(mine.machine.get(what))} and {shown(record.machine.get(what))}"
            for what in MACHINE
            if mine.machine.get(what) != record.machine.get(what)
        ]
        if mine.threads != record.threads:
            unlike.append(f"{mine.threads} and {record.threads} threads")
        if unlike:
            raise UsageError(
                f"{base.folder} and {other.folder} were timed on different machines ({'; '.join(unlike)}), so that "
                "their speeds are not compared; time both here by `lmtasks eval --speed`."
            )
        rounds = {(each.task, each.length, each.batch_size): each for each in mine.workloads if each.rounds}
        shared = [
            (key, each)
            for each in record.workloads
            if each.rounds and (key := (each.task, each.length, each.batch_size)) in rounds
        ]
        if not shared:
            raise UsageError(f"{base.folder} and {other.folder} were timed on no workload that both have.")
        found += [
            SideBySide(
                variant=str(other.folder),
                base=str(base.folder),
                task=each.task,
                batch_size=each.batch_size,
                length=each.length,
                examples_per_s=median(each.rounds),
                ratio=unpaired_ratio(each.rounds, rounds[key].rounds),
            )
            for key, each in shared
        ]
    return found


def _speed_record(stored: StoredResults) -> SpeedRecord:
    file = stored.folder / SPEED
    if not file.is_file():
        raise UsageError(f"{stored.folder} has no timings; `lmtasks eval --speed` with the same --out adds them.")
    return SpeedRecord.read(file)


def _compared_metric(base: StoredResults, comparison: MetricComparison) -> ComparedMetric:
    result = comparison.result
    return ComparedMetric(
        other=str(comparison.other.folder),
        task=comparison.task,
        metric=comparison.name,
        signature=comparison.metric.signature,
        scale=comparison.metric.scale,
        higher_is_better=comparison.metric.higher_is_better,
        **asdict(result),
        p_holm=comparison.p_adjusted,
        verdict=comparison.verdict,
        known_rows=KnownCounts(
            base=_known_count(base, comparison.task), other=_known_count(comparison.other, comparison.task)
        ),
    )


def _known_count(results: StoredResults, task: str) -> int | None:
    overlap = results.tasks[task].scores.overlap
    return None if overlap is None else overlap.seen
