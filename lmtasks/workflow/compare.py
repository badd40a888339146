"""Stored results side by side, paired by example, and the file that holds every number of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from lmtasks.errors import UsageError, missing
from lmtasks.evaluation.comparing import Compared, MetricComparison, compare_results
from lmtasks.evaluation.write import RESULTS, check_samples, read_results
from lmtasks.results.comparison import ComparedMetric, ComparedRecord, KnownCounts

if TYPE_CHECKING:
    from lmtasks.evaluation.write import StoredResults


def results_folders(given: Path) -> list[Path]:
    """The folder itself, or those in it: where `eval` was given several models, each has its own.

    Raises:
        UsageError: no such folder.
    """
    if not given.is_dir():
        raise missing("folder", given, hint="give the --out of `lmtasks eval`")
    inner = sorted(file.parent for file in given.glob(f"*/{RESULTS}"))
    return inner if inner and not (given / RESULTS).is_file() else [given]


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
    ComparedRecord(
        base=str(compared.base.folder),
        comparisons=tuple(_compared_metric(compared.base, comparison) for comparison in compared.comparisons),
        not_compared=compared.left_out,
    ).write(file)


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
