"""What making the models took: one row a model that the run has trained, beside what came of it."""

from collections.abc import Sequence
from statistics import fmean

from lmtasks.report import format as show
from lmtasks.report.grid import main_score
from lmtasks.report.records import RunRecords
from lmtasks.report.table import Column, Line, Notes, Table, TableCell
from lmtasks.results.cell import CellRecord, TrainedRecord, Variant

CAPTION = (
    "Seconds of training steps and of looks at the validation rows between them, or of the fit of a family that takes "
    "no steps; without reading the data; the mean over seeds."
)


def training_table(run: RunRecords) -> Table | None:
    """None where the run has trained nothing. Variants that share a model share its row."""
    lines: list[Line] = []
    seen: set[str] = set()
    notes = Notes()
    for variant in run.variants:
        cells = [cell for cell in run.cells if cell.variant.name == variant.name and cell.trained]
        if cells and variant.model not in seen:
            seen.add(variant.model)
            lines.append(_line(run, variant, cells, notes))
    if not lines:
        return None
    return Table(
        caption=CAPTION,
        corner="model",
        columns=(
            Column(title="training", detail="of one seed"),
            Column(title="seeds"),
            Column(title="steps"),
            Column(title="weights", detail="that learned"),
            Column(title="scores"),
        ),
        lines=tuple(lines),
        notes=notes.texts,
    )


def _line(run: RunRecords, variant: Variant, cells: Sequence[CellRecord], notes: Notes) -> Line:
    by_seed = {cell.seed: cell.trained for cell in cells if cell.trained is not None}
    trainings = list(by_seed.values())
    seconds, steps = fmean(each.seconds for each in trainings), fmean(each.steps for each in trainings)
    early = [seed for seed, each in by_seed.items() if each.stopped != "steps"]
    marks = [notes.number(f"{variant.model}: {_ended(by_seed[seed])} (seed {seed})") for seed in early]
    return Line(
        name=variant.model,
        cells=(
            TableCell(text=show.duration(seconds), sort=seconds, notes=tuple(marks)),
            TableCell(text=show.count(len(trainings)), sort=len(trainings)),
            TableCell(text=show.count(round(steps)), sort=steps),
            TableCell(text=show.count(trainings[0].weights), sort=trainings[0].weights),
            TableCell(text=_scores(run, variant)),
        ),
    )


def _scores(run: RunRecords, variant: Variant) -> str:
    scored = [(task, main_score(run, variant=variant, task=task)) for task in run.tasks]
    return ", ".join(f"{task.name} {show.value(each.value, each.scale)}" for task, each in scored if each is not None)


def _ended(trained: TrainedRecord) -> str:
    how = {"minutes": "its time was up", "patience": "it had stopped to gain"}
    return f"{how.get(trained.stopped, trained.stopped)} after {show.count(trained.steps)} steps"
