"""A model to an ONNX package, kept only if it is proved equal to the model and rounding costs no more than allowed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lmtasks.errors import UsageError
from lmtasks.files import locked
from lmtasks.workflow.choose_tasks import TaskRequest, chosen_tasks

if TYPE_CHECKING:
    from lmtasks.export.package import Package
    from lmtasks.export.ranges import CalibrationRow
    from lmtasks.prove.gate import Gated
    from lmtasks.prove.parity import Parity
    from lmtasks.records import Progress
    from lmtasks.settings.data import DataAccess
    from lmtasks.task.task import Task

CALIBRATED = "int8-static"
PROOF_TASKS = "starter_paragraphs_*"
TEXTS = 12
"""Texts that the answers are compared on."""


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """Which model is exported, and on what it is proved."""

    model: str
    out: Path
    precision: str = "fp32"
    tasks: TaskRequest = field(default_factory=TaskRequest)
    """Nothing chosen: the proof is on embedded texts."""
    data: DataAccess
    max_drop: float | None = None
    """Points of the main metric that rounding may cost on validation rows; None: it is not measured."""
    label_names: Mapping[str, str] = field(default_factory=dict)
    limit: int | None = None
    """Validation rows of each task at most, for `max_drop`."""
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.max_drop is None and (self.limit is not None or self.label_names):
            raise UsageError("--limit and --label-map are about --max-drop, which is not given.")
        if self.max_drop is not None and not self.is_about_tasks:
            raise UsageError(
                "--max-drop is measured on tasks; name them with --tasks, or give --data, --text and --label."
            )

    @property
    def is_about_tasks(self) -> bool:
        """Were tasks or data chosen?"""
        return bool(self.tasks.tasks) or self.tasks.data is not None


@dataclass(frozen=True, kw_only=True)
class ExportedModel:
    """A package, and how it was proved."""

    package: Package
    parity: Parity
    gated: Gated | None = None
    """Cost of rounding, where it was measured."""


def export_model(request: ExportRequest, *, report: Callable[[Progress], None]) -> ExportedModel:
    """Export a model and prove it.

    Raises:
        UsageError: the model is a package already, or an option does not fit.
        WorkError: the package does not answer as the model does; nothing is kept.
        GateError: rounding costs more than is allowed; nothing is kept.
    """
    from lmtasks.export.emit import check_precision
    from lmtasks.export.package import is_package, load_package
    from lmtasks.model.resolve import resolve
    from lmtasks.model.store import card_of
    from lmtasks.prove.export import export_and_prove
    from lmtasks.workflow.calibration import calibration_rows
    from lmtasks.workflow.quality_gate import gate_of

    data = request.data
    folder = resolve(request.model, offline=data.offline, token=data.token)
    if is_package(folder):
        raise UsageError(f"{request.model} is exported already; give the model folder that it was made from.")
    choice = request.tasks if request.is_about_tasks else replace(request.tasks, tasks=PROOF_TASKS)
    tasks = chosen_tasks(choice, use="both" if choice.is_single else "score")
    texts = _texts(tasks, data)
    with locked(request.out):
        gate = None
        if request.max_drop is not None:
            gate = gate_of(
                tasks,
                model=folder,
                most=request.max_drop,
                options=data,
                report=report,
                limit=request.limit,
                threads=request.threads,
                label_names=request.label_names,
            )
        rows: Sequence[CalibrationRow] = ()
        if request.precision == CALIBRATED:
            check_precision(request.precision, card_of(folder))
            if not request.is_about_tasks:
                raise UsageError(
                    f"{CALIBRATED} measures its scales on real rows; name --tasks with training rows, or give --data "
                    "FILE --text COLUMN."
                )
            rows = calibration_rows(tasks, model=folder, options=data, own=request.tasks.data is not None)
        proved = export_and_prove(
            folder,
            out=request.out,
            precision=request.precision,
            texts=texts,
            threads=request.threads,
            report=report,
            gate=gate,
            rows=rows,
        )
    return ExportedModel(package=load_package(request.out), parity=proved.parity, gated=proved.gated)


def _texts(tasks: Sequence[Task], data: DataAccess) -> tuple[str, ...]:
    """Texts of several lengths from the tasks' scored rows.

    Raises:
        UsageError: the rows hold no text.
    """
    from lmtasks.data.splits import load_task_data
    from lmtasks.task.kinds import baseline_source

    texts: list[str] = []
    each = -(-TEXTS // len(tasks))
    for task in tasks:
        found = load_task_data(task, options=data, need=frozenset({"test"}), limit=each)
        assert found.test is not None  # it was needed
        texts += [baseline_source(task, row) for row in found.test.rows]
    kept = tuple(dict.fromkeys(text for text in texts if text.strip()))[:TEXTS]
    if not kept:
        raise UsageError("the tasks' rows hold no text that the answers could be compared on; name other --tasks.")
    return kept
