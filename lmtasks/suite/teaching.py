"""The rows of tasks to the examples that heads are taught with."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from lmtasks.data.examples import HeadExamples, Reading, head_examples
from lmtasks.data.options import DataOptions
from lmtasks.data.splits import TaskData, load_task_data
from lmtasks.records import Progress
from lmtasks.task.task import Task


def task_examples(
    tasks: Sequence[Task],
    *,
    reading: Reading,
    options: DataOptions,
    seed: int,
    rows: int | None,
    report: Callable[[Progress], None],
) -> tuple[HeadExamples, ...]:
    """Training and validation examples of each task.

    Args:
        rows: training rows of each task at most, drawn by the seed; None: all.
    """
    prepared = []
    for number, task in enumerate(tasks):
        report(Progress(stage="read the tasks", done=number, total=len(tasks), unit="tasks", note=task.name))
        data = load_task_data(task, options=options, need=frozenset({"train", "validation"}), limit=None, seed=seed)
        prepared.append(head_examples(task, drawn(data, rows=rows, seed=seed), reading=reading))
    report(Progress(stage="read the tasks", done=len(tasks), total=len(tasks), unit="tasks"))
    return tuple(prepared)


def drawn(data: TaskData, *, rows: int | None, seed: int) -> TaskData:
    """The data with at most so many training rows, drawn by the seed."""
    if rows is None or data.train is None or len(data.train.rows) <= rows:
        return data
    places = np.sort(np.random.default_rng(seed).permutation(len(data.train.rows))[:rows])
    kept = tuple(data.train.rows[int(place)] for place in places)
    return replace(data, train=replace(data.train, rows=kept, fingerprint=f"{data.train.fingerprint}/{rows}/{seed}"))
