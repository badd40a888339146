"""Which worked examples a row gets.

Ours depend on the seed and the row alone, so that batch size, number of processes and `--limit` change nothing.
lm-evaluation-harness draws from one generator in the order of rows instead; its scores change with the number of
processes (its issues 1308 and 1719). `lm_eval_shots` is its stream, to repeat its numbers.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from random import Random
from typing import Literal

from lmtasks.errors import UsageError, WorkError
from lmtasks.records import Row
from lmtasks.task.identity import asked_question, shown_question
from lmtasks.task.task import Task

ShotStream = Literal["ours", "lm-eval"]
"""By which random numbers worked examples are drawn."""


def pick_shots(task: Task, *, pool: Sequence[Row], row: Row, row_number: int, count: int, seed: int) -> tuple[Row, ...]:
    """Worked examples for a row, never one that asks what the row asks: its answer would stand in the prompt.

    A task's own sampler is taken at its word; `identity.holds_own_answer` tells.

    Args:
        pool: rows to draw from; the task's own `shot_rows` come before it.
        row_number: of `row` in its split.

    Raises:
        UsageError: the pool is empty, or holds fewer rows than asked for.
    """
    if count == 0:
        return ()
    rows = _rows(task, pool)
    if task.shot_sampler is not None:
        return next(_sampled(task, rows, [row], count=count, seed=_seed(seed, row_number)))
    if task.shot_order == "first":
        order: Sequence[int] = range(len(rows))
    else:
        order = _drawn(len(rows), count=count + 1, seed=seed, row_number=row_number)
    chosen = _others(task, rows, order=order, row=row, count=count)
    if len(chosen) < count and len(order) < len(rows):
        # Several drawn rows ask the same: draw on through the whole pool, in the same random order.
        everything = _drawn(len(rows), count=len(rows), seed=seed, row_number=row_number)
        chosen = _others(task, rows, order=everything, row=row, count=count)
    if len(chosen) < count:
        raise _too_few(task, count=count, there=len(chosen))
    return chosen


def lm_eval_shots(
    task: Task, *, pool: Sequence[Row], rows: Iterable[Row], count: int, seed: int = 1234
) -> tuple[tuple[Row, ...], ...]:
    """The worked examples that lm-evaluation-harness 0.4.13 puts before each row, in one process.

    One generator a task, used up in the order of rows. Where the worked examples may be the asked rows
    (`Task.shots_may_be_asked`) one more is drawn, and what equals the asked row is dropped. Source: `api/samplers.py`.
    It compares whole rows, so that an id hides an equal question: `identity.holds_own_answer` tells.

    Args:
        pool: rows to draw from; the task's own `shot_rows` come before it.
        rows: all rows that are scored, in order; with a limit only those.

    Raises:
        UsageError: the pool is empty, or holds fewer rows than are drawn.
    """
    return tuple(lm_eval_stream(task, pool=pool, rows=rows, count=count, seed=seed))


def lm_eval_stream(
    task: Task, *, pool: Sequence[Row], rows: Iterable[Row], count: int, seed: int = 1234
) -> Iterator[tuple[Row, ...]]:
    """`lm_eval_shots`, one row after the other.

    Raises:
        UsageError: as there; the pool is looked at before the first row.
    """
    if count == 0:
        return (() for _ in rows)
    there = _rows(task, pool)
    if task.shot_sampler is not None:
        return _sampled(task, there, rows, count=count, seed=seed)
    return _stream(task, there, rows, count=count, seed=seed)


def _stream(
    task: Task, pool: Sequence[Row], rows: Iterable[Row], *, count: int, seed: int
) -> Iterator[tuple[Row, ...]]:
    generator, documents = Random(seed), [dict(row) for row in pool]
    first = task.shot_order == "first"
    drawn = count + 1 if task.shots_may_be_asked and not first else count
    if drawn > len(documents):
        raise _too_few(task, count=count, there=len(documents), drawn=drawn)
    for row in rows:
        asked = dict(row) if task.shots_may_be_asked and (row or first) else None
        if first:
            chosen = [shot for shot in documents if shot != asked][:count]
        else:
            chosen = [shot for shot in generator.sample(documents, drawn) if shot != asked][:count]
            if len(chosen) < count:
                # More than one copy of the row was drawn.
                others = [shot for shot in documents if shot != asked]
                if len(others) < count:
                    raise _too_few(task, count=count, there=len(others))
                chosen = generator.sample(others, count)
        if len(chosen) < count:
            raise _too_few(task, count=count, there=len(chosen))
        yield tuple(chosen)


def _sampled(
    task: Task, pool: Sequence[Row], rows: Iterable[Row], *, count: int, seed: int
) -> Iterator[tuple[Row, ...]]:
    """By the task's own sampler, asked as lm-evaluation-harness asks it."""
    sampler = task.shot_sampler
    if sampler is None:
        return
    try:
        sampler_object = sampler.load()([dict(row) for row in pool], rnd=None)
        sampler_object.set_rnd(seed)  # type: ignore[attr-defined]
        for row in rows:
            asked = dict(row) if task.shots_may_be_asked else None
            chosen = tuple(sampler_object.sample(n=count, eval_doc=asked))  # type: ignore[attr-defined]
            if len(chosen) != count:
                raise WorkError(
                    f"!function {sampler.qualified}, fewshot_config.sampler of task {task.name}, yields "
                    f"{len(chosen)} worked examples where {count} were asked for."
                )
            yield chosen
    except (Exception, SystemExit) as error:
        raise sampler.failed(error) from error


def _rows(task: Task, pool: Sequence[Row]) -> Sequence[Row]:
    rows = task.shot_rows or pool
    if not rows:
        raise UsageError(
            f"task {task.name} has no rows for worked examples; name a fewshot_split or fewshot_config.samples, or "
            "ask with --num-fewshot 0."
        )
    return rows


def _too_few(task: Task, *, count: int, there: int, drawn: int | None = None) -> UsageError:
    more = f" ({drawn} are drawn, since the asked row may be among them)" if drawn not in (None, count) else ""
    others = "are there" if more else "other than the asked one, and than those that ask the same, are there"
    return UsageError(
        f"task {task.name}: {count} worked examples were asked for{more}, but only {there} rows {others}; lower "
        "--num-fewshot."
    )


def _seed(seed: int, row_number: int) -> int:
    digest = hashlib.sha256(f"shots/{seed}/{row_number}".encode()).digest()
    return int.from_bytes(digest[:8], "big")


def _drawn(size: int, *, count: int, seed: int, row_number: int) -> Sequence[int]:
    return Random(_seed(seed, row_number)).sample(range(size), min(count, size))


def _others(task: Task, rows: Sequence[Row], *, order: Sequence[int], row: Row, count: int) -> tuple[Row, ...]:
    asked = asked_question(task, row)
    chosen: list[Row] = []
    for number in order:
        if len(chosen) == count:
            break
        if not shown_question(task, rows[number]).same_as(asked):
            chosen.append(rows[number])
    return tuple(chosen)
