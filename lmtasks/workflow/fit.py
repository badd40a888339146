"""Tasks to a model of a family that is fitted at once: hands rows and settings to the fit, and keeps the model."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from lmtasks.errors import UsageError
from lmtasks.records import TRAINING_ROWS, WRITING_HEAD, Progress
from lmtasks.settings.data import DataAccess
from lmtasks.task.kinds import kind_of
from lmtasks.task.task import Task
from lmtasks.workflow.new_backbone import Start, started_tokenizer

if TYPE_CHECKING:
    from lmtasks.settings.training import AdaptSettings


def fit_to_tasks(
    *,
    start: Start,
    tasks: Sequence[Task],
    settings: "AdaptSettings",
    options: DataAccess,
    out: Path,
    report: Callable[[Progress], None],
    rows: int | None = None,
) -> None:
    """Fit a new model to the training rows of tasks, and write the model folder `out`.

    Args:
        settings: the seed counts; a fit has no steps, so nothing else does.
        rows: training rows of each task at most, drawn by the seed; None: all.

    Raises:
        UsageError: what was asked does not go with the family, or the rows teach it nothing.
    """
    from lmtasks.data.examples import ReadingSettings
    from lmtasks.data.row_hashes import TrainingRows, write_training_rows
    from lmtasks.model.closed_form import FITTED, NO_LIMIT, parse_fitted, save_fitted
    from lmtasks.training.closed_form import fit_model, fitting_record
    from lmtasks.workflow.task_examples import task_examples

    family, _ = parse_fitted(start.backbone)
    if settings.method != "full":
        raise UsageError(f"{family} {FITTED[family].why_no_steps}: use --method full, was {settings.method}.")
    if start.vectors is not None:
        raise UsageError(f"{family} has no embeddings that could start from word vectors; leave --vectors out.")
    aside = out.with_name(out.name + ".new")
    shutil.rmtree(aside, ignore_errors=True)  # a fit has nothing that it could go on from
    tokenizer = started_tokenizer(
        start.tokenizer,
        default=_default_tokenizer(family, tasks),
        tasks=tasks,
        options=options,
        seed=settings.seed,
        folder=aside,
        report=report,
    )
    reading = ReadingSettings(tokenizer=tokenizer, max_length=NO_LIMIT, causal=True, carries=True)
    heads = task_examples(tasks, reading=reading, options=options, seed=settings.seed, rows=rows, report=report)
    began = perf_counter()
    model = fit_model(
        start.backbone,
        heads,
        tokenizer=tokenizer,
        name=out.name,
        text_heads=frozenset(task.name for task in tasks if kind_of(task).answer == "likelihood"),
        report=report,
    )
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    provenance = {
        "task_hashes": {task.name: task.hash for task in tasks},
        "start": start.told(),
        "rows_at_most": rows,
        "cleaning": list(tokenizer.cleaning),
        "seed": settings.seed,
        "tasks": fitting_record(heads),
        "trained": {"steps": 0, "seconds": round(perf_counter() - began, 3), "stopped": "steps"},
    }
    save_fitted(model, part, tokenizer=aside, provenance=provenance)
    seen = TrainingRows()
    for head in heads:
        seen = seen.united(TrainingRows(learned=head.seen.learned))  # a fit chooses nothing
    write_training_rows(part / TRAINING_ROWS, seen)
    part.rename(out)
    shutil.rmtree(aside)


def _default_tokenizer(family: str, tasks: Sequence[Task]) -> str:
    """The family's own tokenizer for these tasks."""
    from lmtasks.model.closed_form import FITTED

    predicts = any(kind_of(task).head == WRITING_HEAD for task in tasks)
    return (FITTED[family].text_tokenizer if predicts else "") or FITTED[family].tokenizer
