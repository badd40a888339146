"""Trials of a plan: one seed, and where the plan asks by rows one number of training rows.

    rows: [64, all]    seeds: [1, 2]        a variant that learns: 64 rows with seeds 1, 2; all rows with seeds 1, 2
                                            a variant that does not: seeds 1, 2

Fewer rows are asked for first: what is cheap is there early.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lmtasks.data.mirror import with_stand_ins
from lmtasks.data.sampling import NO_LABEL, labels_of
from lmtasks.data.splits import labels_missing, load_task_data
from lmtasks.evaluation.baselines import BASELINES
from lmtasks.evaluation.rivals import baseline_names
from lmtasks.results.cell import LearnedRows, RowsAsked
from lmtasks.run.plan import Plan, SweepPlan, VariantPlan
from lmtasks.settings.data import DataAccess
from lmtasks.task.task import Task

ALL = "all"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One seed, and a number of training rows."""

    seed: int
    rows: RowsAsked = None
    """None: the plan does not ask by rows, or they are of no matter to the variant."""

    @property
    def suffix(self) -> str:
        """Part of the names of files.

        >>> Trial(seed=1).suffix, Trial(seed=2, rows=64).suffix, Trial(seed=2, rows="all").suffix
        ('s1', 'r64-s2', 'rall-s2')
        """
        return f"s{self.seed}" if self.rows is None else f"r{self.rows}-s{self.seed}"

    @property
    def most(self) -> int | None:
        """Training rows of each task at most; None: all."""
        return self.rows if isinstance(self.rows, int) else None


@dataclass(frozen=True, kw_only=True)
class TrainingSplit:
    """Training rows that a task has, once validation rows are set apart."""

    rows: int
    labels: int
    """Different ones; 0: the task has none that its rows share."""


def learns(plan: Plan, variant: VariantPlan) -> bool:
    """Does the number of training rows matter to a variant?"""
    if variant.baseline:
        return any(BASELINES[name].learns == "train" for name in baseline_names(variant.baseline))
    made = plan.models.get(variant.model or "")
    return made is not None and made.adaptation != "prompt"


def rows_asked(plan: Plan, variant: VariantPlan) -> Sequence[RowsAsked]:
    """Numbers of training rows that a variant is asked with, the fewest first."""
    if not plan.rows or not learns(plan, variant):
        return (None,)
    return sorted(plan.rows, key=lambda rows: (rows == ALL, rows if isinstance(rows, int) else 0))


def trials_of(plan: Plan, variant: VariantPlan) -> tuple[Trial, ...]:
    """Trials of a variant, in the order that they are carried out."""
    return tuple(Trial(seed=seed, rows=rows) for rows in rows_asked(plan, variant) for seed in plan.seeds_of(variant))


def training_splits(tasks: Sequence[Task], *, plan: Plan, options: DataAccess) -> Mapping[str, TrainingSplit]:
    """Training rows of the tasks that have any, by name; none are opened for a plan that does not ask by rows.

    Raises:
        UsageError: rows cannot be read.
        WorkError: the Hub could not be reached.
    """
    found: dict[str, TrainingSplit] = {}
    for task in tasks if plan.rows else ():
        if "train" not in task.sources:
            continue
        opened = with_stand_ins(task, options=options)
        data = load_task_data(opened, options=options, need=frozenset({"train"}), seed=plan.seeds[0])
        assert data.train is not None  # it was needed
        found[task.name] = TrainingSplit(
            rows=len(data.train.rows), labels=len(set(labels_of(task, data.train.rows)) - {NO_LABEL})
        )
    return found


def learned_rows(trial: Trial, split: TrainingSplit | None) -> LearnedRows | None:
    """Record of the rows that a trial learns from; None where the plan does not ask by rows."""
    if trial.rows is None:
        return None
    there = split.rows if split is not None else 0
    learned = there if trial.most is None else min(there, trial.most)
    missing = max(0, split.labels - learned) if split is not None else 0
    return LearnedRows(asked=trial.rows, learned=learned, labels_missing=missing)


def why_too_few(trial: Trial, split: TrainingSplit | None, *, task: str, plan: Plan) -> str:
    """Why a task's curve ends before a trial, as a sentence; empty where it does not.

    >>> plan = Plan(plan="p", tasks=("a",), variants=(VariantPlan(name="v", baseline="tfidf"),), rows=(64, "all"))
    >>> why_too_few(Trial(seed=1, rows=64), TrainingSplit(rows=50, labels=2), task="a", plan=plan)
    'task a has 50 training rows, not 64: its curve ends with all of them.'
    """
    if trial.rows is None:
        return ""
    if split is None:
        return f"task {task} has no training rows."
    if trial.most is None or trial.most < split.rows:
        return ""
    if ALL in plan.rows:
        return f"task {task} has {split.rows:,} training rows, not {trial.most:,}: its curve ends with all of them."
    if trial.most == split.rows:
        return ""
    fewer = [rows for rows in plan.rows if isinstance(rows, int) and rows <= split.rows]
    ends = f"its curve ends at {max(fewer):,}" if fewer else "it has no point"
    return (
        f"task {task} has {split.rows:,} training rows, not {trial.most:,}: {ends}; `all` among the rows has them all."
    )


def few_rows(plan: Plan, splits: Mapping[str, TrainingSplit]) -> Mapping[str, str]:
    """Tasks that have fewer rows than a plan asks, or labels without an example among few; each with what is told."""
    found: dict[str, str] = {}
    for name, split in splits.items():
        counts = sorted(rows for rows in plan.rows if isinstance(rows, int))
        ends = [why_too_few(Trial(seed=0, rows=rows), split, task=name, plan=plan) for rows in counts]
        told = [reason.rstrip(".").removeprefix(f"task {name} ") for reason in ends if reason]
        told += [labels_missing(rows, labels=split.labels) for rows in counts if rows < min(split.labels, split.rows)]
        if told:
            found[name] = "; ".join(told)
    return found


def trainings_of(plan: Plan, tasks: Sequence[Task], splits: Mapping[str, TrainingSplit]) -> Mapping[str, int]:
    """How many trainings each model of a plan takes: one a trial of any of its variants, of models apart one a task.

    Args:
        tasks: of the plan.
        splits: of a task that is not among them nobody knows whether it has too few rows.
    """
    found: dict[str, int] = {}
    for name, model in plan.models.items():
        asked = {
            (trial, "" if model.together else task)
            for variant in plan.variants
            if variant.model == name
            for trial in trials_of(plan, variant)
            for task in variant.tasks or [each.name for each in tasks]
            if model.together or not model.tasks or task in model.tasks
            if task not in splits or not why_too_few(trial, splits[task], task=task, plan=plan)
        }
        if model.sweep is not None:
            choices = {(trial.rows, task) for trial, task in asked}
            points = len(list(model.sweep.points())) * model.sweep.seeds
            # Of the chosen settings there is a model for each seed that they were tried with.
            more = sum(
                max(0, len({t.seed for t, task in asked if (t.rows, task) == one}) - model.sweep.seeds)
                for one in choices
            )
            found[name] = len(choices) * points + more
        else:
            found[name] = 0 if model.adaptation == "prompt" else len(asked)
    return found


def sweep_text(sweep: SweepPlan) -> str:
    """Tell people how much it is: `sweep of learning_rate (3 values), 2 seeds: 6 trainings, at most 60 minutes`."""
    points = len(list(sweep.points())) * sweep.seeds
    values = ", ".join(f"{name} ({len(values)} values)" for name, values in sweep.values.items())
    seeds = f", {sweep.seeds} seeds" if sweep.seeds > 1 else ""
    budget = f", at most {sweep.budget_minutes:g} minutes" if sweep.budget_minutes is not None else ""
    return f"sweep of {values}{seeds}: {points} trainings a choice{budget}"


@dataclass(kw_only=True)
class TimeLeft:
    """Estimates the time of the cells to come from those that were carried out.

    A cell takes as long as the mean of its variant's with as many rows; where there is none as that with the nearest
    number, by the ratio of rows. Of a variant that has none yet nothing is known: a baseline and a training have no
    time in common.
    """

    _means: dict[str, dict[int, tuple[float, int]]] = field(default_factory=dict)
    """Sum and number of the times, by the variant's name and the rows that were learned from; 0: nobody knows."""

    def took(self, variant: str, *, rows: int, seconds: float) -> None:
        """Note a cell that was carried out."""
        known = self._means.setdefault(variant, {})
        total, count = known.get(rows, (0.0, 0))
        known[rows] = (total + seconds, count + 1)

    def of(self, cells: Mapping[tuple[str, int], int]) -> float | None:
        """Seconds that these cells take; None where that is not known.

        Args:
            cells: variant and rows to how many they are.

        >>> left = TimeLeft()
        >>> left.took("mini", rows=64, seconds=10.0)
        >>> left.of({("mini", 64): 1, ("mini", 256): 1}), left.of({("other", 64): 1})
        (50.0, None)
        """
        if {variant for variant, _ in cells} - self._means.keys():
            return None
        return sum((count * self._one(variant, rows) for (variant, rows), count in cells.items()), 0.0)

    def _one(self, variant: str, rows: int) -> float:
        known = self._means[variant]
        nearest = min(known, key=lambda count: (abs(count - rows), count))
        total, count = known[nearest]
        return total / count * (rows / nearest if rows and nearest else 1.0)
