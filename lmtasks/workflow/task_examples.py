"""The rows of tasks to the examples that heads are taught with."""

from collections.abc import Callable, Sequence

from lmtasks.data.examples import HeadExamples, ReadingSettings, head_examples
from lmtasks.data.splits import drawn, load_task_data
from lmtasks.records import Progress
from lmtasks.settings.data import DataAccess
from lmtasks.task.task import Task


def task_examples(
    tasks: Sequence[Task],
    *,
    reading: ReadingSettings,
    options: DataAccess,
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
