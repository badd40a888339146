"""Tables of scores: the main metrics of all tasks, and every metric of one."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from lmtasks.metric import METRICS
from lmtasks.metric.interval import wilson_interval
from lmtasks.report import format as show
from lmtasks.report.grid import Score, baseline_of, bounds, contenders, main_metric, metrics_of, models, score
from lmtasks.report.overlap import is_marked, mean_on_the_others, seen_rows
from lmtasks.report.records import RunRecords
from lmtasks.report.standing import standings
from lmtasks.report.table import Column, Line, Notes, Table, TableCell, readable
from lmtasks.results.cell import CellRecord, TaskInfo, Variant
from lmtasks.results.scores import KnownOverlap, LabelCount

PER_TENSOR = "one activation scale per tensor: an answer depends on what else is in its batch"
"""Note on precision int8-tensor in every table."""
ANSWERS, GIVEN = "answers", "given answers"
"""The runtime of a system whose answers are in a file, and what stands beside its name."""
MOST_LABELS = 40
"""Of a task; of more the recalls fill pages."""
UNVERIFIED = "a server: the model is what the server says it is; nobody has verified it"
"""Note on runtime endpoint in every table."""


def quality_table(run: RunRecords) -> Table:
    """The main metric of every task for every variant; whichever are fewer stand as columns, so that it fits a page. A
    list where most variants answer few of the tasks."""
    order = (*models(run), *(v for v in run.variants if baseline_of(run, v) and v not in bounds(run)), *bounds(run))
    notes = Notes()
    columns = [(task, main_metric(run, task)) for task in run.tasks]
    ahead = [marked(run, task, metric) for task, metric in columns]
    known = [_known_notes(run, order, task, metric) for task, metric in columns]
    grid = [
        [
            _cell(
                run.of(variant=variant.name, task=task.name),
                metric,
                notes,
                best=variant.name in first,
                known=mine.get(variant.name, ""),
            )
            for (task, metric), first, mine in zip(columns, ahead, known, strict=True)
        ]
        for variant in order
    ]
    by_task = len(run.tasks) > len(order)
    lines = (
        tuple(
            Line(
                name=task.name,
                detail=_metric_title(run, task, metric),
                cells=tuple(row[number] for row in grid),
                group=task.kind.replace("_", " "),
            )
            for number, (task, metric) in sorted(enumerate(columns), key=lambda each: each[1][0].kind)
        )
        if by_task
        else tuple(_line(run, variant, row, notes, grouped=True) for variant, row in zip(order, grid, strict=True))
    )
    table = Table(
        caption="The main metric of each task with its 95 % interval; fractions in points, 0-100.",
        corner="task" if by_task else "variant",
        columns=tuple(_variant_column(run, variant) for variant in order)
        if by_task
        else tuple(
            Column(
                title=task.name,
                detail=_metric_title(run, task, metric),
                lower_is_better=bool(_arrow(run, task, metric or "")),
            )
            for task, metric in columns
        ),
        lines=lines,
        notes=notes.texts,
    )
    return readable(table, value="score", by_column=not by_task, corner="variant")


def metric_tables(run: RunRecords) -> tuple[Table, ...]:
    """One table a task with every metric that was scored."""
    return tuple(_metric_table(run, task) for task in run.tasks if metrics_of(run, task))


def label_tables(run: RunRecords) -> tuple[Table, ...]:
    """A table for each task of which one label is answered: how often each is found where it is right."""
    return tuple(table for task in run.tasks if (table := _label_table(run, task)) is not None)


def _label_table(run: RunRecords, task: TaskInfo) -> Table | None:
    """None where no labels were counted, or too many for a page."""
    cells = {
        variant.name: [cell for cell in run.of(variant=variant.name, task=task.name) if cell.status == "done"]
        for variant in (*models(run), *(each for each in run.variants if baseline_of(run, each)))
    }
    counts = {name: [cell.scores.labels for cell in own] for name, own in cells.items()}
    counts = {name: own for name, own in counts.items() if own and all(own)}
    rows: dict[str, int] = {}  # a label that is answered and never right has none
    for each in (counted for own in counts.values() for counted in own):
        rows |= {label: count.true for label, count in each.items() if count.true}
    if not 1 < len(rows) <= MOST_LABELS:
        return None
    return Table(
        caption=f"{task.name}: recall of each label, points, with its 95 % interval",
        corner="right answer",
        columns=tuple(Column(title=name) for name in counts),
        lines=tuple(
            Line(
                name=label,
                detail=f"n {show.count(n)}",
                cells=tuple(_recall([each[label] for each in own if label in each]) for own in counts.values()),
            )
            for label, n in rows.items()
        ),
    )


def _recall(counts: Sequence[LabelCount]) -> TableCell:
    """The mean over seeds, which have the same rows."""
    true, right = sum(count.true for count in counts), sum(count.right for count in counts)
    if not true:
        return TableCell(text=show.MISSING, quiet=True)
    interval = wilson_interval(right / true, true / len(counts))
    return TableCell(
        text=show.value(right / true, "fraction"),
        detail=show.uncertainty(right / true, interval, "fraction"),
        sort=right / true,
    )


def marked(run: RunRecords, task: TaskInfo, metric: str | None) -> frozenset[str]:
    """The variants that are better than every other one by more than chance: one, and those with the very same value.

    Of the main metric the paired comparisons tell, of any other (and where nothing was paired) intervals apart.
    """
    found = {
        variant.name: value
        for variant in contenders(run)
        if (value := score(run.of(variant=variant.name, task=task.name), metric)) is not None
    }
    top = max(found.values(), key=lambda value: value.order, default=None)
    if top is None:
        return frozenset()
    first = frozenset(name for name, value in found.items() if value.value == top.value)
    is_main = metric == main_metric(run, task)
    stands = standings(run, task) if is_main else {}
    worse = {name for name, at in stands.items() if at.status == "worse" and at.loss is not None}
    others = found.keys() - first
    is_ahead = bool(others) and all(name in worse or _is_apart(top, found[name]) for name in others)
    return first if is_ahead else frozenset()


def variant_detail(variant: Variant) -> str:
    """Parts of a variant that its name lacks: the model, how it was adapted, what it ran on."""
    in_name = {"", "none", "native", "cpu", *re.split(r"[^\w.]+", variant.name.lower()), variant.name.lower()}
    threads = f"{variant.threads} thread{'' if variant.threads == 1 else 's'}" if variant.threads else ""
    ran = (variant.runtime, variant.precision, variant.device, threads)
    how = (GIVEN,) if variant.runtime == ANSWERS else (variant.adaptation, *ran, variant.written)
    parts = (variant.model, *how)
    return ", ".join(part for part in dict.fromkeys(parts) if part.lower() not in in_name)


def name_notes(variant: Variant, notes: Notes) -> tuple[int, ...]:
    """The notes that a variant's name carries in every table."""
    remark = variant_remark(variant)
    return (notes.number(remark),) if remark else ()


def variant_remark(variant: Variant) -> str:
    """A reader's caution with a variant, which it carries in every table; empty for most."""
    if variant.runtime == "endpoint":
        return UNVERIFIED
    return f"{variant.precision}: {PER_TENSOR}" if variant.precision == "int8-tensor" else ""


def _metric_table(run: RunRecords, task: TaskInfo) -> Table:
    notes = Notes()
    names = metrics_of(run, task)
    order = [v for v in (*models(run), *(v for v in run.variants if baseline_of(run, v)))
             if any(cell.status != "not-applicable" for cell in run.of(variant=v.name, task=task.name))]  # fmt: skip
    ahead = [marked(run, task, metric) for metric in names]
    known = [_known_notes(run, order, task, metric) for metric in names]
    lines = []
    for variant in order:
        cells = run.of(variant=variant.name, task=task.name)
        row = [
            _cell(cells, metric, notes, best=variant.name in first, known=mine.get(variant.name, ""))
            for metric, first, mine in zip(names, ahead, known, strict=True)
        ]
        lines.append(_line(run, variant, row, notes))
    return Table(
        caption=f"{task.name}: every metric",
        corner="variant",
        columns=tuple(
            Column(title=f"{name}{arrow}", detail=_about(name), lower_is_better=bool(arrow))
            for name in names
            for arrow in [_arrow(run, task, name)]
        ),
        lines=tuple(lines),
        notes=notes.texts,
    )


def _line(
    run: RunRecords, variant: Variant, cells: Sequence[TableCell], notes: Notes, *, grouped: bool = False
) -> Line:
    baseline = baseline_of(run, variant)
    group = ("bounds" if variant in bounds(run) else "baselines" if baseline else "models") if grouped else ""
    return Line(
        name=variant.name,
        detail=variant_detail(variant) if grouped and not baseline else "",
        cells=tuple(cells),
        group=group,
        quiet=bool(baseline),
        notes=name_notes(variant, notes),
    )


def _variant_column(run: RunRecords, variant: Variant) -> Column:
    if baseline_of(run, variant):
        return Column(title=variant.name, detail="baseline")
    parts = [variant_detail(variant), variant_remark(variant).removeprefix(f"{variant.precision}: ")]
    return Column(title=variant.name, detail="; ".join(filter(None, parts)))


def _known_notes(run: RunRecords, variants: Sequence[Variant], task: TaskInfo, metric: str | None) -> Mapping[str, str]:
    """What a task's values carry whose rows may have been known, by variant: how many, and the values on the others.

    Variants that knew the same rows share a note, so that their values on the others stand side by side.
    """
    known: dict[str, list[Variant]] = {}
    overlaps: dict[str, list[KnownOverlap]] = {}
    for variant in variants if metric is not None else ():
        scores = [cell.scores for cell in run.of(variant=variant.name, task=task.name)]
        marked = [each.overlap for each in scores if each.overlap is not None and is_marked(each.overlap)]
        first = next((each for each in scores if is_marked(each.overlap)), None)
        if marked and first is not None and metric in first.metrics:
            overlaps[variant.name] = marked
            known.setdefault(seen_rows(marked[0], n=first.n), []).append(variant)
    found: dict[str, str] = {}
    for seen, mine in known.items():
        values = {variant.name: mean_on_the_others(overlaps[variant.name], str(metric)) for variant in mine}
        on_others = ", ".join(f"{name} {value}" for name, value in values.items() if value)
        clean = overlaps[mine[0].name][0].clean
        rest = show.count(clean.n if clean else 0)
        note = f"{task.name}: {seen}" + (f"; {metric} on the other {rest}: {on_others}" if on_others else "")
        found |= {variant.name: note for variant in mine}
    return found


def _cell(cells: Sequence[CellRecord], metric: str | None, notes: Notes, *, best: bool, known: str = "") -> TableCell:
    found = score(cells, metric)
    marks = [notes.number(mark) for cell in cells if (mark := _mark(cell))]
    if found is None:
        return _empty(cells, tuple(marks))
    if found.seeds > 1:
        marks.append(notes.number(f"mean of {found.seeds} seeds"))
    if known:
        marks.append(notes.number(known))
    return TableCell(
        text=show.value(found.value, found.scale),
        detail=" · ".join(filter(None, [show.uncertainty(found.value, found.ci95, found.scale), _which(cells)])),
        sort=found.value,
        best=best,
        notes=tuple(dict.fromkeys(marks)),
    )


def _which(cells: Sequence[CellRecord]) -> str:
    """The baseline's name, where the variant's own does not say it."""
    named = (cell.baseline for cell in cells if cell.baseline.replace("-", "") != cell.variant.name.replace("-", ""))
    return next(named, "")


def _empty(cells: Sequence[CellRecord], marks: tuple[int, ...]) -> TableCell:
    if any(cell.status == "failed" for cell in cells):
        return TableCell(text="failed", quiet=True, notes=marks)
    return TableCell(text=show.MISSING, quiet=True, notes=marks)


def _mark(cell: CellRecord) -> str:
    """What a reader must know of a cell."""
    sentences: dict[str, Callable[[], str]] = {
        "failed": lambda: f"failed: {cell.reason or 'no reason was recorded'}",
        "not-applicable": lambda: f"not applicable: {cell.reason}" if cell.reason else "",
        "done": lambda: "; ".join(_remarks(cell)),
    }
    return sentences[cell.status]()


def _remarks(cell: CellRecord) -> Iterator[str]:
    scores = cell.scores
    if choice := show.choice(scores.rival):
        yield f"{cell.task.name}: {choice}"
    if scores.truncated:
        yield f"{cell.task.name}: {show.count(scores.truncated)} inputs were cut to fit the model"
    if scores.refused:
        reasons = dict.fromkeys(scores.refused.values())
        yield from (f"{cell.task.name}: {reason.rstrip('.')}" for reason in reasons)
    elif scores.unknown_share:
        yield f"{cell.task.name}: {100 * scores.unknown_share:.2g} % of the scored tokens are unknown ones"
    yield from (f"{cell.task.name}: {note.rstrip('.')}" for note in scores.notes)


def _is_apart(one: Score, other: Score) -> bool:
    """Do their intervals have nothing in common?"""
    if one.ci95 is None or other.ci95 is None:
        return False
    return one.ci95[0] > other.ci95[1] or one.ci95[1] < other.ci95[0]


def _metric_title(run: RunRecords, task: TaskInfo, metric: str | None) -> str:
    sizes = {cell.scores.n for cell in run.cells if cell.task.name == task.name and cell.status == "done"}
    n = f"n {'–'.join(show.count(size) for size in sorted({min(sizes), max(sizes)}))}" if sizes else ""
    return " · ".join(filter(None, [f"{metric}{_arrow(run, task, metric)}" if metric else "not scored", n]))


def _arrow(run: RunRecords, task: TaskInfo, metric: str) -> str:
    for cell in run.cells:
        if cell.task.name == task.name and metric in cell.metrics:
            return "" if cell.metrics[metric].higher_is_better else " ↓"
    return ""


def _about(metric: str) -> str:
    spec = METRICS.get(metric.partition(",")[0])
    return spec.description if spec is not None else ""
