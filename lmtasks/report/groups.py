"""Groups of variants that cannot be told apart, and their ranks: all against all, at once."""

from collections.abc import Mapping, Sequence

import numpy as np

from lmtasks.metric.simultaneous import letters, mean_ranks, rank_intervals, told_apart
from lmtasks.records import Bools, Floats
from lmtasks.report import format as show
from lmtasks.report.grid import baseline_of
from lmtasks.report.records import RunRecords
from lmtasks.report.table import Column, Line, Table, TableCell
from lmtasks.results.comparison import TogetherRecord

FEWEST = 3
"""Variants; two are one paired comparison."""


def groups_table(run: RunRecords) -> Table | None:
    """Letters of each variant on each task, its mean rank, and on how many tasks it may be the best; None where no task
    has three variants."""
    records = [each for each in run.together if len(each.variants) >= FEWEST]
    if not records:
        return None
    names = [each.name for each in run.variants if any(each.name in record.variants for record in records)]
    cells = {record.task: _cells(record) for record in records}
    everywhere = [name for name in names if all(name in record.variants for record in records)]
    ranks = _ranks(records, everywhere) if len(records) > 1 and len(everywhere) >= FEWEST else {}
    columns = [Column(title=record.task, detail=record.metric) for record in records]
    extra = [Column(title="rank", detail="mean over tasks", lower_is_better=True)] if ranks else []
    extra += [Column(title="may be best", detail="of its tasks")] if len(records) > 1 else []
    return Table(
        caption=_caption(defensibly_best(run), tasks=len(records), ranks=bool(ranks)),
        corner="variant",
        columns=(*columns, *extra),
        lines=tuple(
            Line(
                name=name,
                quiet=any(baseline_of(run, each) for each in run.variants if each.name == name),
                cells=(
                    *(cells[record.task].get(name, TableCell(text=show.MISSING, quiet=True)) for record in records),
                    *([ranks.get(name, TableCell(text=show.MISSING, quiet=True))] if ranks else []),
                    *([_may_be_best(records, name)] if len(records) > 1 else []),
                ),
            )
            for name in names
        ),
    )


def defensibly_best(run: RunRecords) -> tuple[str, ...]:
    """Those that answer all tasks with three variants or more, and that are not told apart from the best on any of
    them, all tasks counted together; empty where no task has three."""
    records = [each for each in run.together if len(each.variants) >= FEWEST]
    names = [each.name for each in run.variants if records and all(each.name in record.variants for record in records)]
    return tuple(name for name in names if all(name in _first(record, record.table_halves) for record in records))


def _cells(record: TogetherRecord) -> Mapping[str, TableCell]:
    """Letters, and the difference from the best with its simultaneous interval."""
    apart = told_apart(np.array(record.values), _square(record.halves))
    unit = 100.0 if record.scale == "fraction" else 1.0
    found = {}
    for place, (name, letter) in enumerate(zip(record.variants, letters(apart), strict=True)):
        detail = "best"
        if place:
            change, half = unit * (record.values[place] - record.values[0]), unit * record.halves[place][0]
            ends = ", ".join(show.difference(end, record.scale) for end in (change - half, change + half))
            detail = f"{show.difference(change, record.scale)} [{ends}]"
        found[name] = TableCell(text=letter, detail=detail, sort=letter)
    return found


def _ranks(records: Sequence[TogetherRecord], names: Sequence[str]) -> Mapping[str, TableCell]:
    """Mean rank among those that answer all tasks, from the best to the worst that the intervals leave open: they hold
    over all tasks together, so that the means of their ends hold, too."""
    values, ends = [], []
    for record in records:
        places = [record.variants.index(name) for name in names]
        mine = np.array(record.values)[places] * (1 if record.higher_is_better else -1)
        apart = told_apart(mine, _square(record.table_halves)[np.ix_(places, places)])
        values.append(mine)
        ends.append(rank_intervals(mine, apart))
    lows, highs = np.mean(ends, axis=0).T
    return {
        name: TableCell(text=f"{rank:.1f}", detail=f"[{low:.1f}, {high:.1f}]", sort=float(rank))
        for name, rank, low, high in zip(names, mean_ranks(values), lows, highs, strict=True)
    }


def _may_be_best(records: Sequence[TogetherRecord], name: str) -> TableCell:
    mine = [record for record in records if name in record.variants]
    first = sum(name in _first(record, record.halves) for record in mine)
    return TableCell(text=f"{first} of {len(mine)}", sort=first / max(1, len(mine)))


def _first(record: TogetherRecord, triangle: Sequence[Sequence[float]]) -> list[str]:
    values = np.array(record.values) * (1 if record.higher_is_better else -1)
    apart: Bools = told_apart(values, _square(triangle))
    ends = rank_intervals(values, apart)
    return [name for name, (low, _) in zip(record.variants, ends, strict=True) if low == 1]


def _caption(best: Sequence[str], *, tasks: int, ranks: bool) -> str:
    said = (
        "All variants against all, paired by example: those that share a letter are not told apart; beside it the "
        "difference from the best with its simultaneous 95 % interval, which holds for all pairs of the task together."
    )
    if ranks:
        said += (
            " The rank is the mean over the tasks, among those that answer all; its interval holds over all tasks "
            "together."
        )
    if tasks > 1:
        who = ", ".join(best) if best else "nobody"
        said += f" Defensibly best on every task, all tasks counted together: {who}."
    return said


def _square(triangle: Sequence[Sequence[float]]) -> Floats:
    """Both sides of the diagonal, which is 0."""
    square = np.zeros((len(triangle), len(triangle)))
    for place, line in enumerate(triangle):
        square[place, :place] = square[:place, place] = line
    return square
