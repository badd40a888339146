"""Tasks become the quality gate of an export: scored on the rows that choices are made on, never on the scored ones."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from lmtasks.data.rows import Rows
from lmtasks.data.sampling import label_shift
from lmtasks.data.splits import load_task_data
from lmtasks.errors import UsageError
from lmtasks.evaluation.engine_solver import EngineSolver
from lmtasks.evaluation.evaluate import evaluate
from lmtasks.evaluation.prepare import EvalOptions, first_rows
from lmtasks.evaluation.scoring import scorings_for
from lmtasks.export.package import load_package
from lmtasks.model.store import read_provenance
from lmtasks.prove.gate import Gate, ScoredTask
from lmtasks.prove.layer_sensitivity import ROWS, Probe
from lmtasks.records import HeadSpec, Progress
from lmtasks.settings.data import DataAccess
from lmtasks.task.task import Task
from lmtasks.workflow.open_model import open_engine

if TYPE_CHECKING:
    from lmtasks.data.examples import ReadingSettings

log = logging.getLogger(__name__)

NO_LABELS: Mapping[str, str] = MappingProxyType({})


def gate_of(
    tasks: Sequence[Task],
    *,
    model: Path,
    most: float,
    options: DataAccess,
    report: Callable[[Progress], None],
    limit: int | None = None,
    threads: int | None = None,
    label_names: Mapping[str, str] = NO_LABELS,
) -> Gate:
    """The gate that an export of `model` has to hold.

    Args:
        model: says by which seed its validation rows were taken from training data, so that these are the same.
        most: the largest drop in points; of metrics that have no scale of 100, in percent.
        limit: so many first validation rows of each task at most.

    Raises:
        UsageError: the drop is below zero, or a task has no rows to choose on.
    """
    if not most >= 0:
        raise UsageError(f"--max-drop must be a number of points of at least 0, was {most:g}.")
    asked = _Asked(
        tasks=tuple(tasks),
        options=EvalOptions(data=options, split="validation", limit=limit, seed=seed_of(model), overlap=False),
        threads=threads,
        label_names=label_names,
        report=report,
    )
    asked.check()
    return Gate(most=most, score=asked.score, probes=asked.probes)


@dataclass(frozen=True, kw_only=True)
class _Asked:
    tasks: tuple[Task, ...]
    options: EvalOptions
    threads: int | None
    label_names: Mapping[str, str]
    report: Callable[[Progress], None]

    def check(self) -> None:
        """Find out before the export whether there are rows."""
        for task in self.tasks:
            rows = self._data(task, whole=True)
            unlike = label_shift(task, rows.rows, first=self.options.limit) if self.options.limit else ""
            if unlike:
                log.warning("task %s, validation rows: %s", task.name, unlike.partition("; --sample")[0])

    def score(self, package: Path) -> tuple[ScoredTask, ...]:
        """The main metric of each task over the answers of a package."""
        with open_engine(package, device=load_package(package).device, threads=self.threads, force=True) as engine:
            solver = EngineSolver(engine, label_names=self.label_names)
            results = evaluate(
                solver=solver,
                tasks=self.tasks,
                options=self.options,
                on_progress=lambda told: self.report(replace(told, stage=f"gate: {package.name}, {told.stage}")),
                keep_samples=False,
            )
            main = [scorings_for(task)[0] for task in self.tasks]
        return tuple(
            ScoredTask(
                task=task.name,
                metric=scoring.metric,
                name=scoring.name,
                statistics=result.statistics[scoring.name],
                clusters=result.clusters,
                rows=self._data(task).where,
            )
            for task, scoring, result in zip(self.tasks, main, results, strict=True)
        )

    def probes(self, package: Path) -> tuple[Probe, ...]:
        """Rows of each task as the package would read them."""
        from lmtasks.data.examples import ReadingSettings

        with open_engine(package, device=load_package(package).device, threads=self.threads, force=True) as engine:
            solver = EngineSolver(engine, label_names=self.label_names)
            heads = {task.name: solver.head(task, way="auto") for task in self.tasks}
            card, tokenizer = engine.model, engine.tokenizer
        reading = ReadingSettings(
            tokenizer=tokenizer,
            max_length=card.max_length_tokens,
            causal=card.attention == "causal",
            heads={task: head for task, head in heads.items() if head is not None},
            decoder_start=card.decoder_start,
        )
        return tuple(self._probe(task, heads[task.name], reading) for task in self.tasks)

    def _probe(self, task: Task, head: HeadSpec | None, reading: "ReadingSettings") -> Probe:
        from lmtasks.data.examples import row_encoder

        predicting = head if head is not None and head.predicts else None
        encode = row_encoder(task, reading=reading, by_head=predicting is not None)
        each = -(-ROWS // len(self.tasks))
        rows = self._data(task).rows[:each]
        encoded = [encode(task, row, number, reading).examples for number, row in enumerate(rows)]
        examples = [example for found in encoded for example in found][:each]
        return Probe(
            head=None if predicting is None else predicting.name,
            rows=tuple(example.ids for example in examples),
            types=tuple(example.types for example in examples) if examples and examples[0].types else (),
            targets=tuple(tuple(map(int, example.targets)) for example in examples if example.decoder_ids),
        )

    def _data(self, task: Task, *, whole: bool = False) -> Rows:
        data = load_task_data(task, options=self.options.data, need=frozenset({"validation"}), seed=self.options.seed)
        rows = first_rows(data.validation, None if whole else self.options.limit)
        assert rows is not None  # it was needed
        return rows


def seed_of(model: Path) -> int:
    """The seed under which a model was adapted, which chose its validation rows where a task has no such split."""
    settings = read_provenance(model).get("settings")
    seed = settings.get("seed") if isinstance(settings, dict) else None
    return seed if isinstance(seed, int) else EvalOptions().seed
