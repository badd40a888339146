"""The places where a task file's own code takes part: rows before they are asked, answers before they are scored.

What the code is handed and may yield is lm-evaluation-harness 0.4.13's contract. None of it runs without --trust-code.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lmtasks.errors import UsageError, WorkError, unknown
from lmtasks.held_out import held_out
from lmtasks.records import Row
from lmtasks.task.functions import FunctionRef
from lmtasks.task.kinds.classification import drawn_pairs
from lmtasks.task.kinds.ranking import drawn_candidates
from lmtasks.task.task import MadeBy, MetricUse, Task

if TYPE_CHECKING:
    from datasets import Dataset


def process_rows(task: Task, rows: Sequence[Row], *, learned: bool = False) -> Sequence[Row]:
    """The rows of a split that the task is about, as `process_docs` makes them, with candidates or pairs where the task
    has them drawn; the rows themselves where it has nothing of it.

    Args:
        learned: are they training rows?

    Raises:
        UsageError: there is none that the task is about, or there are too few to draw candidates from.
        WorkError: the code failed, or yields no rows.
    """
    rows = _kept(task, rows, learned=learned)
    made = _rows_by(task.process_docs, rows, hook=f"process_docs of task {task.name}")
    return _drawn(task, made)


def is_made_whole(task: Task) -> bool:
    """Do the rows of a split depend on each other, so that all are read before some are taken?"""
    return any(part is not None for part in (task.process_docs, task.candidates, task.pairs, task.keep))


def shot_pool(task: Task, opened: Sequence[Row]) -> Sequence[Row]:
    """The rows that worked examples are drawn from.

    Args:
        opened: the rows of `task.shots`; not looked at where the task brings its examples itself.

    Raises:
        WorkError: the code failed, or yields no rows.
    """
    if task.shot_rows:
        return task.shot_rows
    if task.shot_samples is not None:
        hook = f"fewshot_config.samples of task {task.name}"
        return _listed(task.shot_samples, task.shot_samples.call(), hook=hook)
    opened = _kept(task, opened, learned=True)
    made = _rows_by(task.shot_docs, opened, hook=f"fewshot_config.process_docs of task {task.name}")
    return _drawn(task, made)


def _drawn(task: Task, rows: Sequence[Row]) -> Sequence[Row]:
    """The rows with what a task has drawn from others of them."""
    if task.pairs is not None:
        return drawn_pairs(task, task.pairs, rows)
    return rows if task.candidates is None else drawn_candidates(task, task.candidates, rows)


def _kept(task: Task, rows: Sequence[Row], *, learned: bool) -> Sequence[Row]:
    """The rows that a task is about."""
    keep = task.keep
    if keep is None or not len(rows):
        return rows
    columns = [*keep.columns, *([keep.held_out] if keep.held_out else [])]
    missing = next((name for name in columns if name not in rows[0]), None)
    if missing is not None:
        raise UsageError(
            f"task {task.name}: keep names the column {missing!r}, and the data has: {', '.join(rows[0])}."
        )
    found = [
        row
        for row in rows
        if all(str(row[name]) in values for name, values in keep.columns.items())
        and (not keep.held_out or held_out(str(row[keep.held_out])) != learned)
    ]
    if not found:
        raise UsageError(f"task {task.name}: none of {len(rows):,} rows is one that keep asks for.")
    return found


def call_process_results(task: Task, row: Row, results: Sequence[object]) -> Mapping[str, object]:
    """The values of metrics that `process_results` makes of one row.

    Args:
        results: multiple_choice: (log-probability, greedy?) of each choice; loglikelihood: one such pair;
            loglikelihood_rolling: one log-probability; generate_until: one filtered answer (`Filtered.handed`).

    Raises:
        WorkError: the code failed, or yields no mapping of metric names to values.
    """
    if task.process_results is None:
        raise WorkError(f"task {task.name} has no process_results.")
    yielded = task.process_results.call(dict(row), list(results))
    if not isinstance(yielded, Mapping) or not all(isinstance(name, str) for name in yielded):
        raise WorkError(
            f"!function {task.process_results.qualified}, process_results of task {task.name}, must yield a mapping "
            f"of metric names to values, yielded: {str(yielded)[:80]!r}."
        )
    return yielded


def call_metric(use: MetricUse, *, golds: Sequence[object], result: object, several: bool) -> Mapping[str, object]:
    """The values that a metric of the task's own makes of one generated answer: metric name to value.

    Args:
        golds: the right answers.
        result: the filtered answer (`Filtered.handed`).
        several: the task has several right answers a row. Then, as in lm-evaluation-harness, a value counts whether
            any of them is matched at all: 1.0 or 0.0.

    Raises:
        WorkError: the code failed.
    """
    if use.function is None:
        raise WorkError(f"the metric {use.name} is not the task's own.")
    if not several:
        value = _measured(use, use.function, gold=golds[0], result=result)
        return dict(value) if isinstance(value, Mapping) else {use.name: value}
    values = [_measured(use, use.function, gold=gold, result=result) for gold in golds]
    named = [value.get(use.name) if isinstance(value, Mapping) else value for value in values]
    return {use.name: 1.0 if any(named) else 0.0}


def custom_rows(made_by: MadeBy, *, split: str) -> Sequence[Row]:
    """One split of what `custom_dataset` yields.

    Raises:
        UsageError: it has no such split.
        WorkError: the code failed, or yields no splits.
    """
    function = made_by.function
    try:
        yielded = function.load()(**made_by.options)
    except (Exception, SystemExit) as error:
        raise function.failed(error) from error
    if not isinstance(yielded, Mapping):
        raise WorkError(
            f"!function {function.qualified}, a custom_dataset, must yield a mapping of splits to rows, "
            f"yielded: {type(yielded).__name__}."
        )
    if split not in yielded:
        raise unknown(f"split of !function {function.qualified}", split, map(str, yielded))
    return _listed(function, yielded[split], hook=f"split {split} of custom_dataset")


def _measured(use: MetricUse, function: FunctionRef, *, gold: object, result: object) -> object:
    """Called as a metric of the package evaluate; one that takes no such arguments gets [gold, answer]."""
    metric = function.load()
    given = {"references": [gold], "predictions": [result], **use.options}
    if not _takes(metric, given):
        return function.call([gold, result])
    try:
        return metric(**given)
    except (Exception, SystemExit) as error:
        raise function.failed(error) from error


def _takes(function: Callable[..., object], given: Mapping[str, object]) -> bool:
    try:
        inspect.signature(function).bind(**given)
    except (TypeError, ValueError):
        return False
    return True


def _rows_by(function: FunctionRef | None, rows: Sequence[Row], *, hook: str) -> Sequence[Row]:
    if function is None:
        return rows
    with _quiet():
        yielded = function.call(_as_dataset(rows, hook=hook))
        return _listed(function, yielded, hook=hook)


def _as_dataset(rows: Sequence[Row], *, hook: str) -> "Dataset":
    """The rows as `datasets` has them, because hooks call `.map`, `.filter`, `.select` and the like."""
    import pyarrow as pa
    from datasets import Dataset

    if isinstance(rows, Dataset):
        return rows
    try:
        return Dataset.from_list([dict(row) for row in rows])
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise WorkError(
            f"{hook} needs the rows as a table of the package datasets, and a column holds values of several types: "
            f"{error}."
        ) from error


def _listed(function: FunctionRef, yielded: object, *, hook: str) -> Sequence[Row]:
    rows = list(yielded) if isinstance(yielded, Iterable) and not isinstance(yielded, str | Mapping) else None
    if rows is None or not all(isinstance(row, Mapping) for row in rows):
        raise WorkError(
            f"!function {function.qualified}, {hook}, must yield rows (a data set, or a list of mappings), "
            f"yielded: {type(yielded).__name__}."
        )
    if not rows:
        raise WorkError(f"!function {function.qualified}, {hook}, left no rows.")
    return [dict(row) for row in rows]


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars of `datasets` between ours."""
    from datasets import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
