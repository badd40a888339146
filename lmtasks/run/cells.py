"""One cell of a run, a variant on a task with a seed: its file, written once it has ended."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Literal

from lmtasks.bench.machine import machine, versions
from lmtasks.checksums import file_checksum
from lmtasks.evaluation.evaluate import TaskResult
from lmtasks.evaluation.protocols import decoding_record
from lmtasks.evaluation.write import storable
from lmtasks.files import write_record
from lmtasks.records import GenerationSettings, Json, ModelCard, RuntimeCard
from lmtasks.run.folder import SCHEMA, RunFolder, cell_id, is_damaged, read_json
from lmtasks.run.plan import VariantPlan
from lmtasks.task.task import Task

SETTINGS = "settings_hash"
"""Field of a cell's record: of everything that says how its model computes, but for the weights."""
SAMPLES = "samples_checksum"
"""Field of a cell's record: sha256 of the file with its samples."""


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

    status: Literal["done", "failed", "not-applicable"]
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
    record = read_json(folder.cell(cell.id))
    if record is None or record.get("status") == "failed" or damage_of(folder, cell):
        return False
    task, scored = record.get("task"), record.get("model")
    if not (isinstance(task, dict) and isinstance(scored, dict)):
        return False
    held = (task.get("hash"), scored.get("weights_hash"), scored.get("tokenizer_hash"), record.get(SETTINGS, settings))
    same = held == (cell.task.hash, model.weights_hash, model.tokenizer_hash, settings)
    return same and _writes_the_same(record, cell.task, model)


def _writes_the_same(record: Json, task: Task, model: ModelCard) -> bool:
    """Are texts of the model written as they were? Of settings that an older version did not store nothing is known."""
    conditions, scored = record.get("conditions"), record.get("model")
    stored = conditions.get("decoding") if isinstance(conditions, dict) else None
    if task.output_type != "generate_until" or not isinstance(stored, dict) or not isinstance(scored, dict):
        return True
    now = decoding_record(model, task.generation) | {"rules": asdict(model.rules), "ends": model.ends}
    names = [field.name for field in fields(GenerationSettings) if field.name in stored]
    then = {name: stored[name] for name in names} | {name: scored[name] for name in ("rules", "ends") if name in scored}
    told = json.loads(json.dumps(now))
    return all(told[name] == value for name, value in then.items())


def damage_of(folder: RunFolder, cell: Cell) -> str:
    """What of a stored cell is not what was written; empty where all is, or nothing is stored."""
    file, samples = folder.cell(cell.id), folder.samples(cell.id)
    if is_damaged(file):
        return f"{file} was changed since it was written, or is cut short"
    checksum = (read_json(file) or {}).get(SAMPLES)
    if checksum is not None and samples.is_file() and file_checksum(samples) != checksum:
        return f"{samples} was changed since it was written"
    return ""


def write_cell(
    folder: RunFolder, cell: Cell, ended: Ended, *, variant: Mapping[str, object], trained: Mapping[str, object]
) -> None:
    """Store how a cell ended.

    Args:
        variant: as it is told to readers of the report.
        trained: what its training took; empty where the run trained nothing for it.
    """
    task, model, runtime, result = cell.task, ended.model, ended.runtime, ended.result
    record: dict[str, object] = {
        "schema": SCHEMA,
        "id": cell.id,
        "variant": variant,
        "task": {"name": task.name, "kind": task.kind, "language": task.language, "hash": task.hash},
        "seed": cell.seed,
        "status": ended.status,
        "reason": ended.reason,
        "model": asdict(model) if model else {},
        "runtime": asdict(runtime) if runtime else {},
        "machine": machine(),
        "versions": versions(),
        "conditions": dict(result.conditions) if result else {},
        "trained": trained,
        **({SETTINGS: ended.settings} if ended.settings else {}),
        **({SAMPLES: ended.samples_checksum} if ended.samples_checksum else {}),
    }
    if result:
        record["result"] = {
            "n": result.n,
            "seconds": round(result.seconds, 3),
            "seconds_total": round(result.seconds_total, 3),
            "truncated": result.truncated,
            "cached": result.cached,
            **({"unknown_share": result.unknown_share} if result.unknown_share else {}),
            **({"refused": dict(result.refused)} if result.refused else {}),
            **({"rival": result.rival} if result.rival else {}),
            **({"notes": list(result.notes)} if result.notes else {}),
            **({} if result.overlap is None else {"overlap": result.overlap}),
            "metrics": {name: asdict(estimate) for name, estimate in result.metrics.items()},
        }
        record["recipes"] = dict(result.recipes)
        record["statistics"] = {name: rows.tolist() for name, rows in storable(result.statistics).items()}
        record["clusters"] = result.clusters
    if not ended.samples_checksum:
        folder.samples(cell.id).unlink(missing_ok=True)  # those of an earlier result
    write_record(folder.cell(cell.id), record)
