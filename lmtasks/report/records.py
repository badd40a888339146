"""A run folder, or a published one, with all that it stores.

>>> read_run(Path("no-such-folder"))
Traceback (most recent call last):
...
lmtasks.errors.UsageError: no-such-folder is no run: it has no folder 'cells'. Give ...
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeVar

from lmtasks.checksums import file_checksum
from lmtasks.errors import UsageError
from lmtasks.results.base import StoredFile
from lmtasks.results.cell import CellRecord, RowsAsked, TaskInfo, Variant
from lmtasks.results.comparison import PairedRecord, PairedRecords, TogetherRecord
from lmtasks.results.proof import GateRecord, ProofRecord
from lmtasks.results.run import PublishedFigure, RunRecord, StoredPlan
from lmtasks.results.speed import RequiredRecord, SpeedRecord
from lmtasks.results.sweep import SweepRecord
from lmtasks.results.training import TrainingLook, read_looks

_Record = TypeVar("_Record", bound=StoredFile)

MARGIN_POINTS = 1.0
"""Where a plan does not say what a variant may lose."""


@dataclass(frozen=True, kw_only=True)
class RunRecords:
    """Everything that a run has stored."""

    folder: Path
    name: str
    question: str
    about: str
    command: str
    started: str
    plan_text: str
    """The plan's YAML; empty where the folder has none."""
    cells: tuple[CellRecord, ...]
    speeds: Mapping[str, SpeedRecord]
    """By the variant's name."""
    proofs: Mapping[str, ProofRecord]
    """By the package's name, as the gates."""
    gates: Mapping[str, GateRecord]
    paired: PairedRecords | None = None
    """None where the run was made before there were any."""
    published: tuple[PublishedFigure, ...] = ()
    margin: float = MARGIN_POINTS
    """Points that a variant may lose against the best and still keep its quality, as the plan says."""
    reference: str = ""
    """The variant that others are held to, as the plan says; empty: what an export was made from, else the first
    model."""
    sweeps: tuple[SweepRecord, ...] = ()
    """Settings of trainings that were tried, one record a choice."""
    trainings: Mapping[str, tuple[TrainingLook, ...]] = field(default_factory=dict)
    """How each model was trained, by its folder; empty where no log is stored."""
    samples: Mapping[str, Path] = field(default_factory=dict)
    """Files with the scored examples, by cell; empty where none are stored."""
    words: Mapping[str, Path] = field(default_factory=dict)
    """Files with the words that moved some answers, by cell."""
    required: RequiredRecord | None = None
    """Which variants fulfil what the plan requires; None where it requires nothing."""

    @cached_property
    def variants(self) -> tuple[Variant, ...]:
        """Each once, in the plan's order."""
        found: dict[str, Variant] = {}
        for variant in (*(c.variant for c in self.cells), *(s.variant for s in self.speeds.values())):
            found.setdefault(variant.name, variant)
        return tuple(found.values())

    @cached_property
    def tasks(self) -> tuple[TaskInfo, ...]:
        """Each once, in the plan's order."""
        return tuple({cell.task.name: cell.task for cell in self.cells}.values())

    @property
    def comparisons(self) -> tuple[PairedRecord, ...]:
        """All paired comparisons; none where the run has no paired.json."""
        return self.paired.comparisons if self.paired else ()

    @property
    def part_comparisons(self) -> tuple[PairedRecord, ...]:
        """Paired comparisons on parts of the rows: questions with an answer, and without."""
        return self.paired.parts if self.paired else ()

    @property
    def together(self) -> tuple[TogetherRecord, ...]:
        """All variants of a task against all; none where the run was paired before there were any."""
        return self.paired.together if self.paired else ()

    @property
    def rows_asked(self) -> tuple[RowsAsked, ...]:
        """Numbers of training rows that the plan asks with, the fewest first; empty: it does not ask by rows."""
        return _fewest_first({cell.rows.asked for cell in self.cells if cell.rows is not None})

    @property
    def row_counts(self) -> tuple[RowsAsked, ...]:
        """Those of them that a task has."""
        return _fewest_first({cell.rows.asked for cell in self.cells if cell.rows is not None and cell.metrics})

    def at(self, rows: RowsAsked) -> "RunRecords":
        """The run with so many training rows alone, beside what no rows change."""
        kept = tuple(each for each in self.comparisons if each.rows == rows)
        return replace(
            self,
            cells=tuple(cell for cell in self.cells if cell.rows_asked in (rows, None)),
            paired=None
            if self.paired is None
            else self.paired.model_copy(
                update={
                    "comparisons": kept,
                    "parts": tuple(each for each in self.part_comparisons if each.rows == rows),
                    "together": tuple(each for each in self.together if each.rows == rows),
                }
            ),
        )

    def of(self, *, variant: str, task: str) -> tuple[CellRecord, ...]:
        """The cells of a variant on a task, one a seed."""
        return self._by_place.get((variant, task), ())

    @cached_property
    def baselines(self) -> Mapping[str, str]:
        """By the variant's name, of those that are no model."""
        return {cell.variant.name: cell.baseline for cell in self.cells if cell.baseline}

    @cached_property
    def pairs(self) -> Mapping[tuple[str, str, str], tuple[PairedRecord, ...]]:
        """Paired comparisons by task, variant and base."""
        found: dict[tuple[str, str, str], tuple[PairedRecord, ...]] = {}
        for each in self.comparisons:
            place = each.task, each.variant, each.base
            found[place] = (*found.get(place, ()), each)
        return found

    @cached_property
    def _by_place(self) -> Mapping[tuple[str, str], tuple[CellRecord, ...]]:
        """A large table asks for each of its cells many times."""
        found: dict[tuple[str, str], tuple[CellRecord, ...]] = {}
        for cell in self.cells:
            place = cell.variant.name, cell.task.name
            found[place] = (*found.get(place, ()), cell)
        return found


def read_run(folder: Path) -> RunRecords:
    """Read a run folder (`runs/<plan>`) or a published one (`reports/<plan>`).

    Raises:
        UsageError: the folder is no run, has no finished cell, or a file in it is damaged or foreign (named).
    """
    cells_folder = folder / "cells"
    if not cells_folder.is_dir():
        raise UsageError(
            f"{folder} is no run: it has no folder 'cells'. Give the folder of a run (runs/<plan>) or of a "
            "published report (reports/<plan>)."
        )
    cells = [CellRecord.read(file) for file in sorted(cells_folder.glob("*.json"))]
    for cell in cells:
        _check_samples(cell, folder)
    cells = list(told_apart(cells))
    if not cells:
        raise UsageError(f"{folder} has no finished cell yet; carry out the plan first (lmtasks run).")
    header = _read_if_there(RunRecord, folder / "run.json") or RunRecord()
    plan = header.plan
    speeds = [SpeedRecord.read(file) for file in sorted((folder / "speed").glob("*.json"))]
    plan_file = folder / "plan.yaml"
    return RunRecords(
        folder=folder,
        name=plan.plan or folder.resolve().name,
        question=plan.question,
        about=plan.about,
        command=header.command,
        started=header.started,
        plan_text=plan_file.read_text(encoding="utf-8") if plan_file.is_file() else "",
        cells=tuple(_in_order(cells, plan)),
        speeds={speed.variant.name: speed for speed in speeds},
        proofs={name: ProofRecord.read(file) for name, file in _package_files(folder, "parity").items()},
        gates={name: GateRecord.read(file) for name, file in _package_files(folder, "gate").items()},
        published=plan.published,
        reference=plan.reference,
        margin=MARGIN_POINTS if plan.margin is None else plan.margin,
        paired=_pairs_apart(_read_if_there(PairedRecords, folder / "paired.json"), cells),
        sweeps=tuple(sorted(map(SweepRecord.read, (folder / "sweeps").glob("*.json")), key=_sweep_place)),
        trainings=read_looks(folder),
        samples={cell.id: file for cell in cells if (file := folder / "samples" / f"{cell.id}.jsonl").is_file()},
        words={cell.id: file for cell in cells if (file := folder / "words" / f"{cell.id}.json").is_file()},
        required=_read_if_there(RequiredRecord, folder / "required.json"),
    )


def told_apart(cells: Sequence[CellRecord]) -> tuple[CellRecord, ...]:
    """Cells of a task that were scored on other rows, or were asked otherwise, as those of a task of their own.

    Nothing of theirs can be compared with the others', so that tables, decisions and paired comparisons take them for
    another task. The rows that most variants were scored on keep the name; the others are called `sst2 (50 rows)`, or
    `sst2 (other rows)` and `sst2 (asked otherwise)`.
    """
    renamed = {
        id(cell): name
        for task, groups in _groups(cells).items()
        if len(groups) > 1
        for name, group in zip(_names(task, groups), groups, strict=True)
        for cell in group
    }
    return tuple(_renamed(cell, renamed.get(id(cell), cell.task.name)) for cell in cells)


def _groups(cells: Sequence[CellRecord]) -> Mapping[str, list[list[CellRecord]]]:
    """Task -> its done cells by what was asked of which rows, those of most variants first."""
    found: dict[str, dict[tuple[str, str], list[CellRecord]]] = {}
    for task in dict.fromkeys(cell.task.name for cell in cells):
        own = [cell for cell in cells if cell.task.name == task and cell.status == "done"]
        field = "asked_hash" if all(cell.conditions.get("asked_hash") for cell in own) else "task_hash"
        for cell in own:
            key = str(cell.conditions.get("data_fingerprint")), str(cell.conditions.get(field))
            found.setdefault(task, {}).setdefault(key, []).append(cell)
    return {
        task: sorted(groups.values(), key=lambda group: (-len({c.variant.name for c in group}), -group[0].scores.n))
        for task, groups in found.items()
    }


def _names(task: str, groups: Sequence[Sequence[CellRecord]]) -> list[str]:
    """A name for each group, the task's own for the first."""
    first, names = groups[0][0], [task]
    for group in groups[1:]:
        rows, own = group[0].scores.n, group[0].conditions.get("data_fingerprint")
        same = own == first.conditions.get("data_fingerprint")
        what = "asked otherwise" if same else "other rows" if rows == first.scores.n else f"{rows} rows"
        name = f"{task} ({what})"
        names.append(name if name not in names else f"{task} ({what}, {names.count(name) + len(names)})")
    return names


def _renamed(cell: CellRecord, name: str) -> CellRecord:
    if cell.task.name == name:
        return cell
    return cell.model_copy(update={"task": cell.task.model_copy(update={"name": name, "apart_from": cell.task.name})})


def _pairs_apart(paired: PairedRecords | None, cells: Sequence[CellRecord]) -> PairedRecords | None:
    """Stored comparisons under the names of cells that are told apart; those across them are gone."""
    apart = {(cell.variant.name, cell.task.apart_from): cell.task.name for cell in cells if cell.task.apart_from}
    if paired is None or not apart:
        return paired
    kept = []
    for each in paired.comparisons:
        sides = {apart.get((name, each.task), each.task) for name in (each.variant, each.base)}
        if len(sides) == 1:
            kept.append(each.model_copy(update={"task": sides.pop()}))
    own = [each for each in paired.together if not any((name, each.task) in apart for name in each.variants)]
    return paired.model_copy(update={"comparisons": tuple(kept), "parts": (), "together": tuple(own)})


def _sweep_place(record: SweepRecord) -> tuple[str, str, bool, int]:
    return record.model, record.task, record.rows == "all", record.rows if isinstance(record.rows, int) else 0


def _fewest_first(counts: set[int | Literal["all"]]) -> tuple[RowsAsked, ...]:
    return tuple(sorted(counts, key=lambda rows: (rows == "all", rows if isinstance(rows, int) else 0)))


def _read_if_there(model: type[_Record], file: Path) -> _Record | None:
    return model.read(file) if file.is_file() else None


def _check_samples(cell: CellRecord, folder: Path) -> None:
    """Raises: UsageError: the samples that lie there are not those that the cell was written with."""
    samples = folder / "samples" / f"{cell.id}.jsonl"
    if cell.samples_checksum and samples.is_file() and file_checksum(samples) != cell.samples_checksum:
        raise UsageError(
            f"{samples} was changed since it was written (its checksum differs); delete it, and cells/{cell.id}.json "
            "too, and run the plan again, which makes what is missing."
        )


def _package_files(folder: Path, kind: str) -> Mapping[str, Path]:
    """packages/<package>/<kind>.json of a run, or <kind>/<package>.json of a published one, by package."""
    made = sorted((folder / "packages").glob(f"*/{kind}.json"))
    files = {file.parent.name: file for file in made if file.parent.suffix != ".part"}
    return files | {file.stem: file for file in sorted((folder / kind).glob("*.json"))}


def _in_order(cells: Sequence[CellRecord], plan: StoredPlan) -> list[CellRecord]:
    """By the plan's variants, then its tasks (names or patterns), training rows and seed; what it does not name comes
    behind."""
    variants = [variant.name for variant in plan.variants]

    def place(cell: CellRecord) -> tuple[int, bool, str, int, str, bool, int, int]:
        variant, task = cell.variant.name, cell.task.name
        by_variant = variants.index(variant) if variant in variants else len(variants)
        by_task = next((n for n, pattern in enumerate(plan.tasks) if fnmatchcase(task, pattern)), len(plan.tasks))
        rows = cell.rows_asked
        of_rows = rows == "all", rows if isinstance(rows, int) else 0
        return by_variant, bool(cell.baseline), variant, by_task, task, *of_rows, cell.seed

    return sorted(cells, key=place)
