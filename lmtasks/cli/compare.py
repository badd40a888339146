"""`lmtasks compare`: stored results side by side, paired by example: is the difference more than chance?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmtasks.cli.table import print_table
from lmtasks.errors import GateError, UsageError

if TYPE_CHECKING:
    from lmtasks.evaluation.write import StoredResults, StoredTask
    from lmtasks.metric import PairedResult
    from lmtasks.records import Estimate

SURE = 0.05
"""A difference counts where chance would show one as large less often than this."""


def command(
    results: Annotated[
        list[Path], typer.Argument(metavar="A B...", help="Folders that `lmtasks eval` wrote; the first is the base.")
    ],
    fail_if_worse: Annotated[
        bool,
        typer.Option("--fail-if-worse", help=f"Exit with 3 if another is worse than A in any metric (p < {SURE})."),
    ] = False,
) -> None:
    """Compare stored results, paired by example; all are held to the first."""
    from lmtasks.evaluation.write import read_results

    folders = [folder for given in results for folder in _folders(given)]
    if len(folders) < 2:
        raise UsageError(f"compare needs at least two folders of results, was given {len(folders)}.")
    base, *others = [read_results(folder) for folder in folders]
    for other in others:
        _refuse_if_unlike(base, other)
    print(f"base: {base.folder} ({_what(base)})")
    worse: list[str] = []
    for other in others:
        print(f"\n{other.folder} ({_what(other)})")
        rows: list[Sequence[str]] = []
        for task in _shared(base, other):
            for metric, paired in _paired(base.tasks[task], other.tasks[task]):
                estimate = base.tasks[task].metrics[metric]
                rows.append(_row(task, metric, paired, estimate))
                if paired.p_value < SURE and _is_worse(paired, estimate):
                    worse.append(f"{other.folder} in {metric} of {task} (p = {paired.p_value:.2g})")
        columns = ("task", "n", "metric", "base", "this", "difference", "95 %", "p", "better", "same", "worse")
        print_table(columns, rows, right=(1, 3, 4, 5, 6, 7, 8, 9, 10))
        _tell_missing(base, other)
    print("\nThe difference is this minus base, in points (perplexities and bits as they are).")
    if fail_if_worse and worse:
        raise GateError(f"worse than {base.folder}: {'; '.join(worse)}.")


def _folders(given: Path) -> list[Path]:
    """The folder itself, or those in it: where `eval` was given several models, each has its own."""
    if not given.is_dir():
        raise UsageError(f"there is no folder {given}; give the --out of `lmtasks eval`.")
    inner = sorted(file.parent for file in given.glob("*/results.json"))
    return inner if inner and not (given / "results.json").is_file() else [given]


def _refuse_if_unlike(base: StoredResults, other: StoredResults) -> None:
    """Numbers that were not got under the same conditions are not compared.

    Raises:
        UsageError: no task in common, or unlike tasks, data or metrics; says which.
    """
    shared = _shared(base, other)
    if not shared:
        mine, theirs = ", ".join(base.tasks), ", ".join(other.tasks)
        raise UsageError(f"{base.folder} ({mine}) and {other.folder} ({theirs}) have no task in common.")
    unlike = [difference for task in shared for difference in _differences(base.tasks[task], other.tasks[task])]
    if unlike:
        raise UsageError(
            f"{base.folder} and {other.folder} cannot be compared: {'; '.join(unlike)}. Score both again with the "
            "same task files, data and --limit."
        )


def _differences(a: StoredTask, b: StoredTask) -> Iterator[str]:
    for field, name in (("task_hash", "task file"), ("data_fingerprint", "data")):
        mine, theirs = _condition(a, field), _condition(b, field)
        if mine != theirs:
            yield f"{a.task} has another {name} ({mine} and {theirs})"
    for metric in a.metrics:
        if metric in b.metrics and a.metrics[metric].signature != b.metrics[metric].signature:
            yield (
                f"{metric} of {a.task} has another signature ({a.metrics[metric].signature} and "
                f"{b.metrics[metric].signature})"
            )


def _condition(task: StoredTask, field: str) -> object:
    conditions = task.record.get("conditions")
    return conditions.get(field) if isinstance(conditions, Mapping) else None


def _shared(base: StoredResults, other: StoredResults) -> list[str]:
    return [task for task in base.tasks if task in other.tasks]


def _paired(a: StoredTask, b: StoredTask) -> Iterator[tuple[str, PairedResult]]:
    from lmtasks.evaluation.outcome import remake_metric
    from lmtasks.metric import compare

    for metric in a.statistics:
        if metric in b.statistics:
            yield metric, compare(remake_metric(a.recipes[metric]), a.statistics[metric], b.statistics[metric])


def _is_worse(paired: PairedResult, estimate: Estimate) -> bool:
    return paired.difference < 0 if estimate.higher_is_better else paired.difference > 0


def _row(task: str, metric: str, paired: PairedResult, estimate: Estimate) -> Sequence[str]:
    from lmtasks.report import format as form

    interval = "" if paired.ci95 is None else f"[{form.difference(paired.ci95[0])}, {form.difference(paired.ci95[1])}]"
    return (
        task,
        str(paired.n),
        metric,
        form.value(paired.a, estimate.scale),
        form.value(paired.b, estimate.scale),
        form.difference(paired.difference),
        interval,
        f"{paired.p_value:.3f}" if paired.p_value >= 0.001 else "<0.001",
        str(paired.wins),
        str(paired.ties),
        str(paired.losses),
    )


def _what(results: StoredResults) -> str:
    runtime = results.runtime
    return f"{results.model.get('name')}, {runtime.get('runtime')} {runtime.get('device')} {runtime.get('precision')}"


def _tell_missing(base: StoredResults, other: StoredResults) -> None:
    for one, two in ((base, other), (other, base)):
        alone = [task for task in one.tasks if task not in two.tasks]
        if alone:
            print(f"only in {one.folder}: {', '.join(alone)}")
