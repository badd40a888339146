"""Everything that a report says, once, before it is HTML or Markdown: so both say the same."""

from dataclasses import dataclass, replace

from lmtasks.report import format as show
from lmtasks.report.charts import Chart, calibration_charts, load_charts, quality_charts, scaling_charts
from lmtasks.report.chosen_settings import settings_charts, settings_sentences, settings_tables
from lmtasks.report.conditions import conditions_table, machine_facts, training_table, version_facts
from lmtasks.report.curves import curves_table, learning_curves, rows_text
from lmtasks.report.decision import Fact, decide, facts, with_rows
from lmtasks.report.grid import baseline_of, models
from lmtasks.report.groups import groups_table
from lmtasks.report.paired import paired_tables, published_table
from lmtasks.report.proofs import gates_table, proofs_table
from lmtasks.report.quality import label_tables, metric_tables, quality_table
from lmtasks.report.records import RunRecords
from lmtasks.report.samples import TaskSamples, samples_table
from lmtasks.report.speed_tables import (
    cost_table,
    load_table,
    rate_table,
    required_table,
    sweep_table,
    timing_table,
    variant_table,
)
from lmtasks.report.summary import against_trivial
from lmtasks.report.table import Column, Line, Table, TableCell
from lmtasks.report.training_curves import training_charts, training_sentences
from lmtasks.results.cell import RowsAsked
from lmtasks.results.decision import DecisionRecord, TaskAnswer

READING = (
    "Fractions are given in points, 0-100, as BLEU, chrF and ROUGE are. ± and [low, high] are 95 % intervals over the "
    "examples. ↓ marks metrics of which less is better. A value is marked where it is better than every other one "
    "of its task by more than chance."
)


SHOWN_NAMES = 3
"""In a cell of the answers task by task."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """The contents of index.html and report.md."""

    title: str
    question: str
    about: str
    scope: tuple[str, ...]
    """How much was compared, and when."""
    decision: DecisionRecord
    answer: tuple[str, ...]
    facts: tuple[Fact, ...]
    """Quality, speed, costs and caveats of the recommended variant."""
    by_task: Table | None
    """Who is best on each task; only where nobody keeps the quality of the best on all of them."""
    troubles: tuple[str, ...]
    against_trivial: tuple[str, ...]
    reading: str
    curves: Table | None
    """Scores by the number of training rows; only where the plan asks by rows. What follows is then of the largest
    number, but for comparisons, which are made at each."""
    curve_charts: tuple[Chart, ...]
    quality: Table
    published: Table | None
    """Only where the plan names figures of others."""
    paired: tuple[Table, ...]
    """Variants against each other, on the same examples."""
    groups: Table | None
    """Who cannot be told apart; only where a task has three variants."""
    metrics: tuple[Table, ...]
    """Only of tasks with more than one metric."""
    labels: tuple[Table, ...]
    """Recall of each label, of tasks of which one is answered."""
    samples: Table | None
    """How many examples of each kind there are; None where no samples are stored."""
    shown_samples: tuple[TaskSamples, ...]
    trainings: Table | None
    """Only where the run trained models."""
    overfitting: tuple[str, ...]
    """Trainings in which the gap between training and validation rows grew."""
    training_charts: tuple[Chart, ...]
    settings: tuple[Table, ...]
    """Settings of trainings that the plan let choose on validation rows, a table a model."""
    settings_charts: tuple[Chart, ...]
    calibration_charts: tuple[Chart, ...]
    speed_charts: tuple[Chart, ...]
    """Under a load, and by batch size, length and threads, where several were timed."""
    variants: Table | None
    timings: Table | None
    loads: Table | None
    """Only where requests came by a schedule."""
    rates: Table | None
    """Only where a largest rate was looked for."""
    costs: Table | None
    """Only where a price was given."""
    sweeps: Table | None
    """Only where several batch sizes or lengths were timed."""
    required: Table | None
    charts: tuple[Chart, ...]
    proofs: Table | None
    gates: Table | None
    machine: tuple[tuple[str, str], ...]
    conditions: Table
    versions: tuple[tuple[str, str], ...]
    command: str
    by_hand: tuple[str, ...]
    """Commands that repeat one cell of each variant."""
    plan_text: str

    @property
    def all_charts(self) -> tuple[Chart, ...]:
        """In the order of the page."""
        return (
            *self.curve_charts,
            *self.calibration_charts,
            *self.settings_charts,
            *self.training_charts,
            *self.speed_charts,
            *self.charts,
        )


def view(run: RunRecords, *, samples: tuple[TaskSamples, ...] = ()) -> Report:
    """Contents of the pages, computed from the run's records.

    Args:
        samples: those of `read_samples`; none: the pages show none.
    """
    decision = decide(run)
    by_rows = [(rows, run.at(rows)) for rows in run.row_counts]
    whole, run = run, by_rows[-1][1] if by_rows else run
    return Report(
        title=run.name,
        question=run.question,
        about=run.about,
        scope=_scope(whole),
        decision=decision,
        answer=decision.said,
        facts=facts(decision),
        by_task=_task_table(decision),
        troubles=(*decision.troubles, *settings_sentences(whole)),
        against_trivial=with_rows(whole, against_trivial) if by_rows else against_trivial(run),
        reading=READING,
        curves=curves_table(whole),
        curve_charts=learning_curves(whole),
        quality=_of_rows(quality_table(run), whole),
        published=published_table(run),
        paired=tuple(
            replace(table, caption=f"{_headed(rows)}: {table.caption}")
            for rows, each in by_rows
            for table in paired_tables(each)
        )
        if by_rows
        else paired_tables(run),
        groups=_of_rows(groups, whole) if (groups := groups_table(run)) is not None else None,
        labels=label_tables(run),
        metrics=tuple(table for table in metric_tables(run) if len(table.columns) > 1),
        samples=samples_table(samples),
        shown_samples=samples,
        trainings=_of_rows(trainings, whole) if (trainings := training_table(run)) is not None else None,
        overfitting=training_sentences(whole),
        training_charts=training_charts(whole),
        settings=settings_tables(whole),
        settings_charts=settings_charts(whole),
        calibration_charts=calibration_charts(samples),
        speed_charts=(*load_charts(run), *scaling_charts(run)),
        variants=variant_table(run),
        timings=timing_table(run),
        loads=load_table(run),
        rates=rate_table(run),
        costs=cost_table(run),
        sweeps=sweep_table(run),
        required=required_table(run),
        charts=quality_charts(run),
        proofs=proofs_table(run),
        gates=gates_table(run),
        machine=machine_facts(run),
        conditions=conditions_table(whole),
        versions=version_facts(run),
        command=run.command,
        by_hand=_by_hand(whole),
        plan_text=run.plan_text,
    )


def _by_hand(run: RunRecords) -> tuple[str, ...]:
    """The commands of the first cell of each variant, each command once."""
    firsts = [
        next((cell for cell in run.cells if cell.variant.name == each.name and cell.status == "done"), None)
        for each in run.variants
    ]
    return tuple(dict.fromkeys(command for cell in firsts if cell is not None for command in cell.repeat))


def _task_table(decision: DecisionRecord) -> Table | None:
    """Who is best on each task, where no variant is for all."""
    if len(decision.by_task) < 2:
        return None
    columns = ("take", "best", "keeps its quality", "not told apart", "worse", "no score")
    lines = tuple(
        Line(
            name=each.task,
            detail=each.metric,
            cells=(
                TableCell(text=each.advice, sort=each.advice),
                TableCell(text=each.best, detail=" · ".join(filter(None, [each.shown, _rival(each)]))),
                *(_names(those) for those in (each.keeps, each.open, each.worse, each.missing)),
            ),
        )
        for each in decision.by_task
    )
    kept = [place for place in range(len(columns)) if any(line.cells[place].text != show.MISSING for line in lines)]
    return Table(
        caption="Task by task, paired by example: the best, who keeps its quality (a loss beyond the margin is "
        "excluded), who is not told apart from it (with the loss that is not excluded), and who is worse by more than "
        "chance. To take: the fastest of the best and of those that keep its quality, where they were timed.",
        corner="task",
        columns=tuple(Column(title=columns[place]) for place in kept),
        lines=tuple(replace(line, cells=tuple(line.cells[place] for place in kept)) for line in lines),
    )


def _rival(answer: TaskAnswer) -> str:
    if not answer.rival or answer.rival == answer.best:
        return "a rival" if answer.rival else ""
    return f"{answer.rival}, a rival"


def _names(those: tuple[str, ...]) -> TableCell:
    """A few names; of more, the first ones and how many others."""
    shown = those if len(those) <= SHOWN_NAMES else (*those[: SHOWN_NAMES - 1], f"{len(those) - SHOWN_NAMES + 1} more")
    return TableCell(text=", ".join(shown) or show.MISSING, sort=len(those), quiet=not those)


def _headed(rows: RowsAsked) -> str:
    return f"With {rows_text(rows)}"


def _of_rows(table: Table, whole: RunRecords) -> Table:
    """A table of the largest number of rows says so."""
    if not whole.row_counts:
        return table
    return replace(table, caption=f"{_headed(whole.row_counts[-1])}: {table.caption}")


def _scope(run: RunRecords) -> tuple[str, ...]:
    baselines = sum(bool(baseline_of(run, variant)) for variant in run.variants)
    counted = [
        _counted(len(models(run)), "variant") if models(run) else "",
        _counted(baselines, "baseline") if baselines else "",
        _counted(len(run.tasks), "task"),
        f"learned from {', '.join(map(rows_text, run.row_counts))}" if run.row_counts else "",
        f"{show.count(_examples(run))} scored examples",
        run.started[:10],
    ]
    return tuple(filter(None, counted))


def _examples(run: RunRecords) -> int:
    """Of all tasks together, each counted once."""
    return sum(max((c.scores.n for c in run.cells if c.task.name == task.name), default=0) for task in run.tasks)


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
