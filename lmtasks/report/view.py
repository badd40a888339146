"""Everything that a report says, once, before it is HTML or Markdown: so both say the same."""

from dataclasses import dataclass

from lmtasks.report import format as show
from lmtasks.report.charts import Chart, quality_charts
from lmtasks.report.conditions import conditions_table, machine_facts, training_table, version_facts
from lmtasks.report.grid import baseline_of, models
from lmtasks.report.paired import paired_tables, published_table
from lmtasks.report.proofs import gates_table, proofs_table
from lmtasks.report.quality import metric_tables, quality_table
from lmtasks.report.records import RunRecords
from lmtasks.report.speed_tables import load_table, required_table, sweep_table, timing_table, variant_table
from lmtasks.report.summary import against_trivial, answer, troubles
from lmtasks.report.table import Table

READING = (
    "Fractions are given in points, 0-100, as BLEU, chrF and ROUGE are. ± and [low, high] are 95 % intervals over the "
    "examples. ↓ marks metrics of which less is better. The best value of each task is marked, and any equal one."
)


@dataclass(frozen=True, kw_only=True)
class Report:
    """The contents of index.html and report.md."""

    title: str
    question: str
    about: str
    scope: tuple[str, ...]
    """How much was compared, and when."""
    answer: tuple[str, ...]
    troubles: tuple[str, ...]
    against_trivial: tuple[str, ...]
    reading: str
    quality: Table
    published: Table | None
    """Only where the plan names figures of others."""
    paired: tuple[Table, ...]
    """Variants against each other, on the same examples."""
    metrics: tuple[Table, ...]
    """Only of tasks with more than one metric."""
    trainings: Table | None
    """Only where the run trained models."""
    variants: Table | None
    timings: Table | None
    loads: Table | None
    """Only where requests came by a schedule."""
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
    plan_text: str


def view(run: RunRecords) -> Report:
    """Contents of the pages, computed from the run's records."""
    return Report(
        title=run.name,
        question=run.question,
        about=run.about,
        scope=_scope(run),
        answer=answer(run),
        troubles=troubles(run),
        against_trivial=against_trivial(run),
        reading=READING,
        quality=quality_table(run),
        published=published_table(run),
        paired=paired_tables(run),
        metrics=tuple(table for table in metric_tables(run) if len(table.columns) > 1),
        trainings=training_table(run),
        variants=variant_table(run),
        timings=timing_table(run),
        loads=load_table(run),
        sweeps=sweep_table(run),
        required=required_table(run),
        charts=quality_charts(run),
        proofs=proofs_table(run),
        gates=gates_table(run),
        machine=machine_facts(run),
        conditions=conditions_table(run),
        versions=version_facts(run),
        command=run.command,
        plan_text=run.plan_text,
    )


def _scope(run: RunRecords) -> tuple[str, ...]:
    baselines = sum(bool(baseline_of(run, variant)) for variant in run.variants)
    counted = [
        _counted(len(models(run)), "variant"),
        _counted(baselines, "baseline") if baselines else "",
        _counted(len(run.tasks), "task"),
        f"{show.count(_examples(run))} scored examples",
        run.started[:10],
    ]
    return tuple(filter(None, counted))


def _examples(run: RunRecords) -> int:
    """Of all tasks together, each counted once."""
    return sum(max((c.scores.n for c in run.cells if c.task.name == task.name), default=0) for task in run.tasks)


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
