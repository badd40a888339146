"""What a run has stored, as checked values. `read.py` makes them of files."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lmtasks.records import Estimate, Json
from lmtasks.report.fields import Fields
from lmtasks.report.paired_records import PairedRecords

Status = Literal["done", "failed", "not-applicable"]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """What was compared."""

    name: str
    model: str
    adaptation: str
    runtime: str
    device: str
    precision: str
    threads: int | None
    written: str = ""
    """How texts were written, where the plan says it of this variant: `num_beams=4`."""


@dataclass(frozen=True, kw_only=True)
class TaskInfo:
    """On what."""

    name: str
    kind: str
    language: str
    hash: str


@dataclass(frozen=True, kw_only=True)
class TrainedRecord:
    """How a model of the run was trained."""

    seconds: float
    steps: int
    weights: int
    """That learned."""
    stopped: str
    """Why it ended: `steps`, `minutes` or `patience`."""


@dataclass(frozen=True, kw_only=True)
class CellRecord:
    """One variant on one task with one seed."""

    id: str
    variant: Variant
    task: TaskInfo
    seed: int
    status: Status
    reason: str
    metrics: Mapping[str, Estimate]
    """In the task's order: the first is its main metric."""
    n: int
    truncated: int
    seconds: float | None
    conditions: Json
    model: Json
    runtime: Json
    machine: Json
    versions: Json
    trained: TrainedRecord | None = None
    """None where the run trained no model for the cell."""
    samples_checksum: str = ""
    """sha256 of the file with its samples; empty where none were kept, or an older version wrote the cell."""
    unknown_share: float = 0.0
    """Of the tokens of scored texts, 0-1: those that stand for something that they do not say."""
    rival: Json = field(default_factory=dict)
    """Which of several baselines this is, and what all had on the rows that chose it; empty for others, and where an
    older run took the first that fitted."""
    refused: tuple[str, ...] = ()
    """Why some metrics of the task have no value, a sentence each."""
    overlap: Json = field(default_factory=dict)
    """Scored rows that may have been known, see `report.overlap`; empty: nobody counted."""
    notes: tuple[str, ...] = ()
    """What a reader must know of its values, in sentences."""

    @property
    def baseline(self) -> str:
        """The baseline's name (`majority`, `tfidf`, ...); empty for a model."""
        # What a plan fits (n-grams, linear classifiers) runs in native too, and is a model.
        if self.model.get("kind") == "baseline" or self.variant.adaptation == "none":
            return str(self.model.get("family") or self.variant.model)
        return ""


@dataclass(frozen=True, kw_only=True)
class Percentiles:
    """Milliseconds; None where there are too few samples."""

    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None
    n: int


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One variant's speed on one task at one batch size."""

    task: str
    kind: str
    batch_size: int
    unit: str
    new_tokens: int
    latency: Percentiles
    throughput: float
    throughput_ci95: tuple[float, float] | None
    note: str
    examples_per_s: float | None
    """What all variants have in common, whatever they ask for an example; None where an older record does not tell."""
    length: int = 0
    """Tokens of every request; 0: as the task's rows have them."""
    first_token: Percentiles | None = None
    """None where no text was streamed."""
    next_token: Percentiles | None = None
    limit: Json = field(default_factory=dict)
    """Distance from what the machine allows: {"share", "bound", "of", "how"}; empty where it is unknown."""
    flags: tuple[str, ...] = ()
    """What disturbed the machine meanwhile."""

    @property
    def examples_ci95(self) -> tuple[float, float] | None:
        """The interval of the throughput, in examples a second."""
        if self.throughput_ci95 is None or self.examples_per_s is None or not self.throughput:
            return None
        low, high = self.throughput_ci95
        return low * self.examples_per_s / self.throughput, high * self.examples_per_s / self.throughput


@dataclass(frozen=True, kw_only=True)
class LoadTiming:
    """One variant's latency on one task while requests come by a schedule."""

    task: str
    rate: float
    """Requests a second."""
    arrival: str
    batching: str
    latency: Percentiles
    first_token: Percentiles | None
    next_token: Percentiles | None
    busy_share: float
    note: str
    flags: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class SpeedRecord:
    """What one fresh process measured."""

    variant: Variant
    size_bytes: int
    load_seconds: float
    import_seconds: float
    import_memory_bytes: int
    """Of the libraries, before anything is loaded."""
    peak_memory_bytes: int
    """Those among it."""
    timings: tuple[Timing, ...]
    """Of the rows' own lengths."""
    at_lengths: tuple[Timing, ...]
    """Of requests that all have as many tokens."""
    loads: tuple[LoadTiming, ...]
    first_seconds: float | None
    """The first answer, once it is open."""
    layout: str
    """Threads inside a step, and callers beside each other."""
    rounds: int
    limits: Json
    notes: tuple[str, ...]
    machine: Json
    versions: Json


@dataclass(frozen=True, kw_only=True)
class PublishedFigure:
    """What somebody else found, as the plan has it."""

    task: str
    variant: str
    metric: str
    """Empty: the task's main metric."""
    value: float
    """Fractions in points."""
    wanted: float
    """What is to be reached here."""
    by: str


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
    proofs: Mapping[str, Fields]
    gates: Mapping[str, Fields]
    """Parity records of exported packages, by the package's name."""
    paired: PairedRecords | None = None
    """None where the run was made before there were any."""
    published: tuple[PublishedFigure, ...] = ()
    margin: float = 1.0
    """Points that a variant may lose against the best and still keep its quality, as the plan says."""
    required: Fields | None = None
    """Which variants fulfil what the plan requires; None where it requires nothing."""

    @property
    def variants(self) -> tuple[Variant, ...]:
        """Each once, in the plan's order."""
        found: dict[str, Variant] = {}
        for variant in (*(c.variant for c in self.cells), *(s.variant for s in self.speeds.values())):
            found.setdefault(variant.name, variant)
        return tuple(found.values())

    @property
    def tasks(self) -> tuple[TaskInfo, ...]:
        """Each once, in the plan's order."""
        return tuple({cell.task.name: cell.task for cell in self.cells}.values())

    def of(self, *, variant: str, task: str) -> tuple[CellRecord, ...]:
        """The cells of a variant on a task, one a seed."""
        return tuple(cell for cell in self.cells if cell.variant.name == variant and cell.task.name == task)
