"""Typed results of the front door; each is a table, too (`to_frame`, and HTML in a notebook)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lmtasks.errors import UsageError, unknown

if TYPE_CHECKING:
    import pandas

    from lmtasks.bench.compare import SideBySide
    from lmtasks.bench.judge import Judged
    from lmtasks.evaluation.comparing import Compared
    from lmtasks.evaluation.write import StoredResults
    from lmtasks.export.package import Package
    from lmtasks.records import Estimate
    from lmtasks.report.table import Table, TableCell
    from lmtasks.report.view import Report
    from lmtasks.workflow.adapt import AdaptedModel
    from lmtasks.workflow.bench import Benched
    from lmtasks.workflow.explain import Explanation
    from lmtasks.workflow.export import ExportedModel

STYLE = "<style>.lmtasks button{all:unset}.lmtasks small{opacity:.65;margin-left:.3rem}</style>"
"""The report's own page styles its tables; a notebook has only this."""


class Tabular(ABC):
    """Has rows of plain values."""

    @abstractmethod
    def records(self) -> Sequence[Mapping[str, object]]:
        """One mapping of plain values a row; all have the same keys."""

    @abstractmethod
    def table(self) -> Table:
        """The same for people, as a report shows it."""

    def to_frame(self) -> pandas.DataFrame:
        """A pandas DataFrame of the records.

        Raises:
            UsageError: pandas is not installed.
        """
        try:
            import pandas
        except ModuleNotFoundError as error:
            raise UsageError("to_frame() needs pandas, which is not installed; install it with pip.") from error
        return pandas.DataFrame(list(self.records()))

    def _repr_html_(self) -> str:
        from lmtasks.report.write import render_table

        return f'<div class="lmtasks">{STYLE}{render_table(self.table())}</div>'


@dataclass(frozen=True, kw_only=True)
class TaskScore:
    """One metric of one model on one task."""

    model: str
    """Its short name."""
    task: str
    """Of the task, `TASK@CHANGE` too."""
    metric: str
    """With its filter, where the task has several."""
    value: float
    """By the metric's scale: a fraction 0-1, points 0-100, or raw (perplexity, bits)."""
    stderr: float | None
    """On the same scale; None: the metric has none."""
    ci95: tuple[float, float] | None
    """Ends of the 95 % interval."""
    n: int
    """Scored examples."""
    scale: Literal["fraction", "points", "raw"]
    """What `value` is on."""
    higher_is_better: bool
    """Else less is better."""


@dataclass(frozen=True, kw_only=True)
class Results(Tabular):
    """Scores of models on tasks, as they are stored in a folder.

    scores = lmtasks.evaluate(["tfidf", "majority"], rows=rows, text="comment", label="stars")
    scores.value("tfidf", metric="acc")
    """

    folder: Path
    """Where they lie, with page and samples."""
    models: Mapping[str, StoredResults]
    """Short name of a model to its stored results."""
    failed: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """(model, task) to why there is no score, of what was evaluated just now."""

    @classmethod
    def load(cls, folder: str | Path) -> Results:
        """The results in a folder that `evaluate` or `lmtasks eval` wrote, of one model or several.

        Raises:
            UsageError: no such folder, no results in it, results of a later version, or a file that was changed.
        """
        from lmtasks.evaluation.write import read_results
        from lmtasks.workflow.compare import results_folders

        place = Path(folder)
        stored = [read_results(each) for each in results_folders(place)]
        names = [each.record.model.name if len(stored) == 1 else each.folder.name for each in stored]
        return cls(folder=place, models=dict(zip(names, stored, strict=True)))

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks that have a score."""
        return tuple(dict.fromkeys(task for stored in self.models.values() for task in stored.tasks))

    @property
    def scores(self) -> tuple[TaskScore, ...]:
        """Every metric of every task, model by model."""
        return tuple(
            _score(model, task, kept.scores.n, metric, estimate)
            for model, stored in self.models.items()
            for task, kept in stored.tasks.items()
            for metric, estimate in kept.metrics.items()
        )

    def value(self, model: str | None = None, task: str | None = None, metric: str | None = None) -> float:
        """One number, by the metric's scale.

        Args:
            model: needed only where there are several.
            task: as `model`.
            metric: None: the task's main one, its first.

        Raises:
            UsageError: no such score, or several models or tasks and none named.
        """
        stored = self.models[_only("model", model, tuple(self.models))]
        kept = stored.tasks[_only("task", task, tuple(stored.tasks))]
        name = next(iter(kept.metrics)) if metric is None else metric
        if name not in kept.metrics:
            raise unknown("metric of these results", name, kept.metrics)
        return kept.metrics[name].value

    def records(self) -> Sequence[Mapping[str, object]]:
        """One row a score: model, task, metric, value, stderr, low, high, n, scale, higher_is_better."""
        return [
            {
                "model": each.model,
                "task": each.task,
                "metric": each.metric,
                "value": each.value,
                "stderr": each.stderr,
                "low": each.ci95[0] if each.ci95 else None,
                "high": each.ci95[1] if each.ci95 else None,
                "n": each.n,
                "scale": each.scale,
                "higher_is_better": each.higher_is_better,
            }
            for each in self.scores
        ]

    def table(self) -> Table:
        """Metrics of tasks as rows, models as columns, in points."""
        from lmtasks.report.table import Column, Line, Table, TableCell

        found = {(each.model, each.task, each.metric): each for each in self.scores}
        rows = dict.fromkeys((each.task, each.metric) for each in self.scores)
        missing = TableCell(text="–", quiet=True)
        return Table(
            caption=f"Scores in {self.folder}, with 95 % intervals; fractions in points, 0-100.",
            corner="metric",
            columns=tuple(Column(title=model) for model in self.models),
            lines=tuple(
                Line(
                    name=metric,
                    cells=tuple(
                        _score_cell(found[model, task, metric]) if (model, task, metric) in found else missing
                        for model in self.models
                    ),
                    group=task,
                )
                for task, metric in rows
            ),
            notes=tuple(f"{model}, {task}: {reason}" for (model, task), reason in self.failed.items()),
        )


@dataclass(frozen=True, kw_only=True)
class Predictions(Tabular):
    """Answers of a model to texts."""

    texts: tuple[str, ...]
    answers: tuple[str, ...]
    """One a text; of several tasks a JSON object of their answers by name."""
    tasks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The answers of each task that was asked."""
    probabilities: tuple[Mapping[str, float] | None, ...] = ()
    """Of each text's labels; None where its answer is none of them."""
    explanations: tuple[Explanation, ...] = ()
    """Of each text the words that moved its answer, where that was asked."""
    truncated: int = 0
    """Texts longer than the model takes, which were cut."""

    def records(self) -> Sequence[Mapping[str, object]]:
        """One row a text: text, answer; of several tasks a column for each."""
        columns = self.tasks if len(self.tasks) > 1 else {"answer": self.answers}
        return [
            {"text": text, **{name: answers[place] for name, answers in columns.items()}}
            for place, text in enumerate(self.texts)
        ]

    def table(self) -> Table:
        """The lines of `records`, for people."""
        cut = (f"{self.truncated} texts are longer than the model takes, and were cut.",) if self.truncated else ()
        return plain_table("Answers", self.records(), notes=cut)


@dataclass(frozen=True, kw_only=True)
class TrainedModel(Tabular):
    """A model folder that `adapt` has made or found; every function takes it where it takes a model."""

    adapted: AdaptedModel

    @property
    def folder(self) -> Path:
        """Folder of the model."""
        return self.adapted.folder

    def records(self) -> Sequence[Mapping[str, object]]:
        """The training's log, a row a step; empty where nothing was trained step by step."""
        from lmtasks.training.curve import LOG, read_log

        rows = read_log(self.folder / LOG)
        names = tuple(dict.fromkeys(name for row in rows for name in row))
        return [{name: row.get(name) for name in names} for row in rows]

    def table(self) -> Table:
        """How the training ended."""
        trained = self.adapted.trained
        facts = {
            "folder": str(self.folder),
            "steps": None if trained is None else trained.steps,
            "minutes": None if trained is None else round(trained.seconds / 60, 2),
            "ended by": "made before" if self.adapted.found else "one fit" if trained is None else trained.stopped,
            "validation score": None if trained is None else trained.best,
        }
        both = [name for name, attention in self.adapted.attention.items() if attention == "both"]
        facts |= {"read both ways": ", ".join(both)} if both else {}
        return plain_table("Adapted model", [facts])


@dataclass(frozen=True, kw_only=True)
class ProvedPackage(Tabular):
    """An exported package and its proof; every function takes it where it takes a model."""

    exported: ExportedModel

    @property
    def package(self) -> Package:
        """Its graphs, sizes and precision."""
        return self.exported.package

    @property
    def folder(self) -> Path:
        """Folder of the package."""
        return self.package.folder

    def records(self) -> Sequence[Mapping[str, object]]:
        """One row a comparison with the model: graph, case, largest and mean difference, share of equal choices."""
        return [check.model_dump() for check in self.exported.parity.checks]

    def table(self) -> Table:
        """The lines of `records`, for people."""
        return plain_table(f"Proof of {self.folder}, in {self.exported.parity.precision}", self.records())


@dataclass(frozen=True, kw_only=True)
class Timings(Tabular):
    """Speed of variants side by side."""

    benched: Benched

    @property
    def file(self) -> Path:
        """Holds every timing."""
        return self.benched.file

    @property
    def judged(self) -> Sequence[Judged]:
        """Each variant against each requirement; empty where nothing was required."""
        return self.benched.judged

    @property
    def costs(self) -> Mapping[tuple[str, str], float]:
        """(variant, task) to the cost of 1,000 answers; empty where no price was given."""
        return {
            (record.variant.name, each.task): each.per_1000
            for record in self.benched.compared.variants
            for each in record.costs
        }

    @property
    def best(self) -> str | None:
        """The variant that fulfils all requirements for the fewest core-seconds an answer."""
        return None if self.benched.best is None else self.benched.best.variant

    def records(self) -> Sequence[Mapping[str, object]]:
        """One row a variant and workload: examples a second, and the ratio to the first variant."""
        return [
            {
                "variant": row.variant,
                "task": row.task,
                "batch_size": row.batch_size,
                "length": row.length,
                "examples_per_s": row.examples_per_s,
                "ratio": row.ratio.value,
                "low": None if row.ratio.ci95 is None else row.ratio.ci95[0],
                "high": None if row.ratio.ci95 is None else row.ratio.ci95[1],
                "verdict": row.verdict,
            }
            for row in self.benched.compared.rows
        ]

    def table(self) -> Table:
        """The lines of `records`, for people."""
        return plain_table("Speed, beside the first variant", self.records())


@dataclass(frozen=True, kw_only=True)
class ComparedResults(Tabular):
    """Stored results paired by example, all held to the first."""

    compared: Compared

    @property
    def speeds(self) -> Sequence[SideBySide]:
        """The timings that `evaluate(..., speed=True)` stored, beside those of the base, a line a workload.

        Raises:
            UsageError: one has no timings, or they are of different machines or share no workload.
        """
        from lmtasks.workflow.compare import compare_speeds

        return compare_speeds(self.compared.base, self.compared.others)

    def records(self) -> Sequence[Mapping[str, object]]:
        """One row a metric: base and other, difference in points, p-value by Holm, verdict."""
        return [
            {
                "base": str(self.compared.base.folder),
                "other": str(each.other.folder),
                "task": each.task,
                "metric": each.name,
                "n": each.result.n,
                "base_value": each.result.a,
                "other_value": each.result.b,
                "difference": each.result.difference,
                "low": None if each.result.ci95 is None else each.result.ci95[0],
                "high": None if each.result.ci95 is None else each.result.ci95[1],
                "p_value": each.result.p_value,
                "p_holm": each.p_adjusted,
                "verdict": each.verdict,
            }
            for each in self.compared.comparisons
        ]

    def table(self) -> Table:
        """The lines of `records`, for people."""
        return plain_table(f"Held to {self.compared.base.folder}", self.records(), notes=self.compared.left_out)


@dataclass(frozen=True, kw_only=True)
class ReportPage(Tabular):
    """The pages of a run."""

    page: Path
    """index.html."""
    report: Report

    @property
    def answer(self) -> tuple[str, ...]:
        """Decision of the report, in sentences."""
        return self.report.answer

    def records(self) -> Sequence[Mapping[str, object]]:
        """The quality table as texts, a row a variant or task."""
        table = self.report.quality
        titles = [column.title for column in table.columns]
        return [
            {table.corner: line.name, **dict(zip(titles, (cell.text for cell in line.cells), strict=True))}
            for line in table.lines
        ]

    def table(self) -> Table:
        """The quality table."""
        return self.report.quality


@dataclass(frozen=True, kw_only=True)
class TriedReport(ReportPage):
    """The pages of `try_`, and what they were made of."""

    plan: Path
    """plan.yaml, to be edited and run again."""
    found: tuple[str, ...]
    """Sentences on what the data is."""
    notes: tuple[str, ...]
    """Sentences about the data that one should mind."""
    failed: tuple[str, ...]
    """A sentence for each cell or timing that failed."""

    @property
    def folder(self) -> Path:
        """Folder of the run."""
        return self.page.parent


def plain_table(caption: str, records: Sequence[Mapping[str, object]], *, notes: Sequence[str] = ()) -> Table:
    """Records as a table for people; the first column names the rows."""
    from lmtasks.report.table import Column, Line, Table, TableCell

    corner, *others = records[0] if records else ("",)
    return Table(
        caption=caption,
        corner=str(corner),
        columns=tuple(Column(title=name.replace("_", " ")) for name in others),
        lines=tuple(
            Line(name=str(row[corner]), cells=tuple(TableCell(text=_shown(row[name])) for name in others))
            for row in records
        ),
        notes=tuple(notes),
    )


def _shown(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _score(model: str, task: str, n: int, metric: str, estimate: Estimate) -> TaskScore:
    return TaskScore(
        model=model,
        task=task,
        metric=metric,
        value=estimate.value,
        stderr=estimate.stderr,
        ci95=estimate.ci95,
        n=n,
        scale=estimate.scale,
        higher_is_better=estimate.higher_is_better,
    )


def _score_cell(score: TaskScore) -> TableCell:
    from lmtasks.report import format as form
    from lmtasks.report.table import TableCell

    return TableCell(
        text=form.value(score.value, score.scale),
        detail=form.uncertainty(score.value, score.ci95, score.scale),
        sort=score.value,
    )


def _only(what: str, given: str | None, there: Sequence[str]) -> str:
    """The one that was named, or the only one that there is."""
    if given is None and len(there) == 1:
        return there[0]
    if given is None:
        raise UsageError(f"these results are of several {what}s; name one of: {', '.join(there)}.")
    if given not in there:
        raise unknown(f"{what} of these results", given, there)
    return given
