"""The folder of a run: what lies where, and how a finished piece is recognised.

run.json                   plan, versions, machine, and the command that repeats the run
plan.yaml                  the plan as it was given
before-1/                  what an earlier form of the plan made, and this one makes otherwise
models/<model>-s<seed>/    adapted models; <model>--<task>-r<rows>-s<seed> of a task alone, from so many rows
packages/<model>-s<seed>-<precision>/
sweeps/<model>.json        settings of its training that were tried, and the chosen ones; <model>--<task>-r<rows>
cells/<id>.json            scores of one variant on one task under one seed, from so many rows
samples/<id>.jsonl         its examples, with prompt, answer and values
words/<id>.json            the words that moved some of its answers, where the plan asks for them
speed/<variant>.json       timings of one variant in a process of its own
paired.json                variants against each other, paired by example
required.json              which variants fulfil what the plan requires, where it requires anything
decision.json              the decision, as its page says it
index.html, report.md, results.csv, charts/
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType

from lmtasks.bench.machine import machine, versions
from lmtasks.checksums import file_checksum
from lmtasks.errors import UsageError
from lmtasks.evaluation.evaluate import TaskResult
from lmtasks.evaluation.protocols import decoding_record
from lmtasks.evaluation.write import scores_of, storable
from lmtasks.files import slug
from lmtasks.records import GenerationSettings, ModelCard, RuntimeCard
from lmtasks.results.cell import CellRecord, LearnedRows, RowsAsked, Status, TaskInfo, TrainedRecord, Variant
from lmtasks.results.run import RunRecord, StoredPlan
from lmtasks.run.plan import Plan, VariantPlan
from lmtasks.run.trials import Trial
from lmtasks.settings.runtimes import MADE_FOR, package_label
from lmtasks.task.task import Task


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """Paths inside a run folder."""

    root: Path

    def model(self, name: str, *, trial: Trial, task: str = "") -> Path:
        """An adapted model; `task` where it is a model of that task alone."""
        return self.root / "models" / _made_of(name, trial=trial, task=task)

    def package(
        self, name: str, *, trial: Trial, precision: str, runtime: str = MADE_FOR, task: str = "", gate: str = ""
    ) -> Path:
        """An exported model; with a gate it may be another one in the same precision."""
        made = f"{_made_of(name, trial=trial, task=task)}-{package_label(runtime, precision)}"
        return self.root / "packages" / f"{made}{f'-{slug(gate)}' if gate else ''}"

    def sweep(self, name: str, *, rows: RowsAsked, task: str = "") -> Path:
        """The settings that were tried for a model."""
        few = "" if rows is None else f"-r{rows}"
        return self.root / "sweeps" / f"{slug(name)}{f'--{slug(task)}' if task else ''}{few}.json"

    def cell(self, identity: str) -> Path:
        """The scores of a cell."""
        return self.root / "cells" / f"{identity}.json"

    def samples(self, identity: str) -> Path:
        """The examples of a cell."""
        return self.root / "samples" / f"{identity}.jsonl"

    def words(self, identity: str) -> Path:
        """The words that moved some answers of a cell."""
        return self.root / "words" / f"{identity}.json"

    def speed(self, variant: str) -> Path:
        """The timings of a variant."""
        return self.root / "speed" / f"{slug(variant)}.json"

    @property
    def paired(self) -> Path:
        """The paired comparisons."""
        return self.root / "paired.json"

    @property
    def required(self) -> Path:
        """Who fulfils what the plan requires."""
        return self.root / "required.json"


def _made_of(name: str, *, trial: Trial, task: str) -> str:
    """A slug has no two hyphens behind each other, so that no model is called as one of a task alone."""
    return f"{slug(name)}{f'--{slug(task)}' if task else ''}-{trial.suffix}"


def cell_id(*, variant: str, task: str, trial: Trial) -> str:
    """The name of a cell's files.

    >>> cell_id(variant="onnx int8", task="sst2", trial=Trial(seed=1))
    'onnx-int8--sst2--s1'
    """
    return f"{slug(variant)}--{slug(task)}--{trial.suffix}"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Variant, task and trial that are scored together."""

    variant: VariantPlan
    task: Task
    trial: Trial

    @property
    def id(self) -> str:
        """Names its files."""
        return cell_id(variant=self.variant.name, task=self.task.name, trial=self.trial)


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


def held_plan(folder: RunFolder) -> tuple[Mapping[str, object], str] | None:
    """The plan that the folder holds a run of, as it was written, and its hash; None: it holds none.

    Raises:
        UsageError: the file that says so is damaged.
    """
    file = folder.root / "run.json"
    if not file.is_file():
        return None
    record = RunRecord.read_if_whole(file)
    if record is None or not record.plan_hash:
        raise UsageError(
            f"{file} was changed since it was written, or is cut short, so what the run was of cannot be said; give "
            "another --out, or delete the folder to start again."
        )
    return record.plan.content(), record.plan_hash


def claim(folder: RunFolder, plan: Plan, *, plan_file: Path, header: RunRecord) -> None:
    """Make the folder this plan's.

    Args:
        header: who began it; the plan is put in.

    Raises:
        WorkError: it cannot be written.
    """
    stored = StoredPlan.model_validate(plan.model_dump(mode="json"))
    header.model_copy(update={"plan": stored, "plan_hash": plan.hash}).write(folder.root / "run.json")
    (folder.root / "plan.yaml").write_bytes(plan_file.read_bytes())


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


def damage_of(folder: RunFolder, cell: Cell) -> str:
    """Sentence part on a file of the cell that is not what was written; empty where all are, or none is there."""
    file, samples = folder.cell(cell.id), folder.samples(cell.id)
    record = CellRecord.read_if_whole(file)
    if record is None:
        return f"{file} was changed since it was written, or is cut short" if file.is_file() else ""
    if record.samples_checksum and samples.is_file() and file_checksum(samples) != record.samples_checksum:
        return f"{samples} was changed since it was written"
    return ""


BESIDE: Mapping[str, object] = MappingProxyType({"alias": "", "kind": "", "language": "", "conditions": {}})
"""Of scores, what a cell holds beside them."""


def write_cell(
    folder: RunFolder,
    cell: Cell,
    ended: Ended,
    *,
    variant: Variant,
    rows: LearnedRows | None,
    trained: TrainedRecord | None,
    repeat: Sequence[str] = (),
) -> None:
    """Store how a cell ended.

    Args:
        rows: that it learned from; None where the plan does not ask by rows.
        trained: what its training took; None where the run trained nothing for it.
        repeat: commands that repeat it by hand.
    """
    task, result = cell.task, ended.result
    record = CellRecord(
        id=cell.id,
        variant=variant,
        task=TaskInfo(name=task.name, kind=task.kind, language=task.language, hash=task.hash),
        seed=cell.trial.seed,
        rows=rows,
        status=ended.status,
        reason=ended.reason,
        model=ended.model,
        runtime=ended.runtime,
        machine=machine(),
        versions=versions(),
        conditions=result.conditions if result else {},
        trained=trained,
        repeat=tuple(repeat),
        settings_hash=ended.settings,
        samples_checksum=ended.samples_checksum or "",
        result=None if result is None else scores_of(result).model_copy(update=BESIDE),
        recipes=result.recipes if result else {},
        statistics=storable(result.statistics) if result else None,
    )
    if result is not None:
        record = record.model_copy(update={"clusters": result.clusters})
        if result.parts is not None:
            record = record.model_copy(update={"parts": result.parts})
    if not ended.samples_checksum:
        folder.samples(cell.id).unlink(missing_ok=True)  # those of an earlier result
    record.write(folder.cell(cell.id))


def _writes_the_same(record: CellRecord, scored: ModelCard, task: Task, model: ModelCard) -> bool:
    """Are texts of the model written as they were? Of settings that an older version did not store nothing is known."""
    then = record.conditions.get("decoding")
    if task.output_type != "generate_until" or not isinstance(then, dict):
        return True
    now = json.loads(json.dumps(decoding_record(model, task.generation)))
    names = [field.name for field in fields(GenerationSettings) if field.name in then]
    same = all(now[name] == then[name] for name in names)
    return same and (scored.rules, scored.ends) == (model.rules, model.ends)
