"""Which worked examples a row gets.

They depend on the seed and the row alone, so that batch size, number of processes and `--limit` change nothing.
lm-evaluation-harness draws from one generator in the order of rows instead; its scores change with the number of
processes (its issues 1308 and 1719).
"""

import hashlib
from collections.abc import Sequence
from random import Random

from lmtasks.errors import UsageError
from lmtasks.records import Row
from lmtasks.task.task import Task


def pick_shots(task: Task, *, pool: Sequence[Row], row: Row, row_number: int, count: int, seed: int) -> tuple[Row, ...]:
    """Worked examples for a row, never the row itself.

    Args:
        pool: rows to draw from; the task's own `shot_rows` come before it.
        row_number: of `row` in its split.

    Raises:
        UsageError: the pool holds fewer rows than asked for.
    """
    if count == 0:
        return ()
    rows: Sequence[Row] = task.shot_rows or pool
    if task.shot_order == "first":
        order: Sequence[int] = range(len(rows))
    else:
        order = _drawn(len(rows), count=count + 1, seed=seed, row_number=row_number)
    chosen = _others(rows, order=order, row=row, count=count)
    if len(chosen) < count and len(order) < len(rows):
        # Several drawn rows equal the asked one: draw on through the whole pool, in the same random order.
        everything = _drawn(len(rows), count=len(rows), seed=seed, row_number=row_number)
        chosen = _others(rows, order=everything, row=row, count=count)
    if len(chosen) < count:
        raise UsageError(
            f"task {task.name}: {count} worked examples were asked for, but only {len(chosen)} rows other than the "
            "asked one are there; lower --num-fewshot."
        )
    return chosen


def _drawn(size: int, *, count: int, seed: int, row_number: int) -> Sequence[int]:
    digest = hashlib.sha256(f"shots/{seed}/{row_number}".encode()).digest()
    return Random(int.from_bytes(digest[:8], "big")).sample(range(size), min(count, size))


def _others(rows: Sequence[Row], *, order: Sequence[int], row: Row, count: int) -> tuple[Row, ...]:
    asked = dict(row)
    chosen: list[Row] = []
    for number in order:
        if len(chosen) == count:
            break
        if dict(rows[number]) != asked:
            chosen.append(rows[number])
    return tuple(chosen)
