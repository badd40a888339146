"""One cell of a run, a variant on a task with a seed: its file, written once it has ended."""

import json
from dataclasses import dataclass, fields

from lmtasks.bench.machine import machine, versions
from lmtasks.checksums import file_checksum
from lmtasks.evaluation.evaluate import TaskResult
from lmtasks.evaluation.protocols import decoding_record
from lmtasks.evaluation.write import scores_of, storable
from lmtasks.records import GenerationSettings, ModelCard, RuntimeCard
from lmtasks.results.cell import CellRecord, Status, TaskInfo, TrainedRecord, Variant
from lmtasks.run.folder import RunFolder, cell_id
from lmtasks.run.plan import VariantPlan
from lmtasks.task.task import Task


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What is scored."""

    variant: VariantPlan
    task: Task
    seed: int

    @property
    def id(self) -> str:
        """Names its files."""
        return cell_id(variant=self.variant.name, task=self.task.name, seed=self.seed)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How that went."""

    status: Status
    reason: str = ""
    """Why there is no result; empty where there is one."""
    model: ModelCard | None
    """None: there was none to score, its export failed, say."""
    runtime: RuntimeCard | None
    result: TaskResult | None = None
    settings: str = ""
    """Of the model's or package's folder, by `settings_hash`; empty for a baseline."""
    samples_checksum: str | None = None
    """Of the file of its samples; None: none were kept."""


def is_finished(folder: RunFolder, cell: Cell, *, model: ModelCard, settings: str = "") -> bool:
    """Is the cell stored, for this very task and this very model, and would texts be written by the same settings?
    A failed or a damaged one is tried again.

    Args:
        settings: of `settings_hash`; cells of earlier versions hold none.
    """
    record = CellRecord.read_if_whole(folder.cell(cell.id))
    if record is None or record.status == "failed" or record.model is None or damage_of(folder, cell):
        return False
    scored = record.model
    held = (record.task.hash, scored.weights_hash, scored.tokenizer_hash, record.settings_hash or settings)
    same = held == (cell.task.hash, model.weights_hash, model.tokenizer_hash, settings)
    return same and _writes_the_same(record, scored, cell.task, model)


def _writes_the_same(record: CellRecord, scored: ModelCard, task: Task, model: ModelCard) -> bool:
    """Are texts of the model written as they were? Of settings that an older version did not store nothing is known."""
    then = record.conditions.get("decoding")
    if task.output_type != "generate_until" or not isinstance(then, dict):
        return True
    now = json.loads(json.dumps(decoding_record(model, task.generation)))
    names = [field.name for field in fields(GenerationSettings) if field.name in then]
    same = all(now[name] == then[name] for name in names)
    return same and (scored.rules, scored.ends) == (model.rules, model.ends)


def damage_of(folder: RunFolder, cell: Cell) -> str:
    """What of a stored cell is not what was written; empty where all is, or nothing is stored."""
    file, samples = folder.cell(cell.id), folder.samples(cell.id)
    record = CellRecord.read_if_whole(file)
    if record is None:
        return f"{file} was changed since it was written, or is cut short" if file.is_file() else ""
    if record.samples_checksum and samples.is_file() and file_checksum(samples) != record.samples_checksum:
        return f"{samples} was changed since it was written"
    return ""


def write_cell(folder: RunFolder, cell: Cell, ended: Ended, *, variant: Variant, trained: TrainedRecord | None) -> None:
    """Store how a cell ended.

    Args:
        trained: what its training took; None where the run trained nothing for it.
    """
    task, result = cell.task, ended.result
    record = CellRecord(
        id=cell.id,
        variant=variant,
        task=TaskInfo(name=task.name, kind=task.kind, language=task.language, hash=task.hash),
        seed=cell.seed,
        status=ended.status,
        reason=ended.reason,
        model=ended.model,
        runtime=ended.runtime,
        machine=machine(),
        versions=versions(),
        conditions=result.conditions if result else {},
        trained=trained,
        settings_hash=ended.settings,
        samples_checksum=ended.samples_checksum or "",
        result=None if result is None else scores_of(result).model_copy(update={"alias": "", "conditions": {}}),
        recipes=result.recipes if result else {},
        statistics=storable(result.statistics) if result else None,
    )
    if result is not None:
        record = record.model_copy(update={"clusters": result.clusters})
    if not ended.samples_checksum:
        folder.samples(cell.id).unlink(missing_ok=True)  # those of an earlier result
    record.write(folder.cell(cell.id))
