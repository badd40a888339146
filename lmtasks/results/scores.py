"""Scores of tasks: results.json and statistics.json of `lmtasks eval`, and the parts that cells of a run share."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from lmtasks.records import Estimate, Json, RuntimeCard
from lmtasks.results.base import SPARSE, Flag, Number, StoredFile, StoredModel, StoredModelCard, Table, Whole

Interval = tuple[Number, Number]
Scale = Literal["fraction", "points", "raw"]
"""fraction: 0-1; points: 0-100; raw: perplexity, bits, nats, counts."""


class CleanEstimate(StoredModel):
    """A metric's value on the rows that nobody can have known."""

    value: Number
    stderr: Number | None
    ci95: Interval | None
    higher_is_better: Flag
    scale: Scale


class CleanScores(StoredModel):
    """Scores on the rows that nobody can have known."""

    n: Whole
    metrics: Mapping[str, CleanEstimate]


class RowCounts(StoredModel):
    """Scored rows that stand among others, by what they have in common with them."""

    seen: Whole
    """Any of these."""
    rows: Whole
    """The question and the answer."""
    inputs: Whole
    """The question."""
    targets: Whole
    """A text that is right."""


class KnownOverlap(StoredModel):
    """Scored rows whose answers may have been known before. None among them is not known."""

    learned: RowCounts | None = None
    """Rows that the model learned from."""
    chosen: RowCounts | None = None
    """Rows that something was chosen on."""
    train: RowCounts | None = None
    """The task's training rows, whoever learned from them."""
    own_answers: Whole
    """Rows whose worked examples hold their own answer."""
    seen: Whole
    """Any of these."""
    clean: CleanScores | None
    """The scores on the others; None where there are no known rows."""


class RivalChoice(StoredModel):
    """Which of several baselines answers a task, and what all had on the rows that chose it."""

    chosen: str
    group: str
    """`trivial` or `classical`."""
    metric: str
    scale: Scale
    on: Literal["validation", "test", ""]
    """The split of those rows; empty: only one fits the task."""
    rows: Whole
    scores: Mapping[str, Number]
    failed: Mapping[str, str]


class ChangedScores(StoredModel):
    """The task's first metric on changed rows against the same rows as they are, paired by example."""

    clean: str
    """The task as it is."""
    change: str
    seed: Whole
    metric: str
    scale: Scale
    n: Whole
    before: Number
    """On the rows as they are."""
    difference: Number
    """Changed minus as they are; of fractions in points."""
    ci95: Interval | None
    p_value: Number
    p_holm: Number
    """Adjusted for all changes that were scored together."""


class LabelCount(StoredModel):
    """How often a label was right, and was answered."""

    true: Whole
    answered: Whole
    right: Whole
    """Answered where it was right."""


class TaskScores(StoredModel):
    """The scores of one task."""

    alias: Annotated[str, SPARSE] = ""
    """What tables call the task; empty: its name."""
    kind: Annotated[str, SPARSE] = ""
    """Of the task; empty in results of earlier versions. A cell has it, and the language, beside its scores."""
    language: Annotated[str, SPARSE] = ""
    n: Whole
    """Scored rows."""
    seconds: Number
    """Scoring of requests, with the model loaded and the data ready, without bootstrap."""
    seconds_total: Number
    truncated: Whole
    """Rows of which something was cut off to fit the model."""
    cached: Whole = 0
    """Requests whose answers were known from before."""
    unknown_share: Annotated[Number, SPARSE] = 0.0
    """Of the tokens of scored texts, 0-1: those that stand for something that they do not say."""
    refused: Annotated[Mapping[str, str], SPARSE] = Field(default_factory=dict)
    """Metrics without a value to the reason."""
    notes: Annotated[tuple[str, ...], SPARSE] = ()
    """What a reader must know of the values, in sentences."""
    rival: Annotated[RivalChoice | None, SPARSE] = None
    """None where one baseline was asked for, or a model."""
    metrics: Mapping[str, Estimate]
    """In the task's order: the first is its main metric."""
    conditions: Annotated[Json, SPARSE] = Field(default_factory=dict)
    """All that the scores depend on besides model, runtime and versions. A cell has them beside its scores."""
    overlap: Annotated[KnownOverlap | None, SPARSE] = None
    """None: nobody counted."""
    labels: Annotated[Mapping[str, LabelCount], SPARSE] = Field(default_factory=dict)
    """Of a task with labels, of which one is answered: each label that is right or answered somewhere."""
    changed: Annotated[ChangedScores | None, SPARSE] = None
    """None: the rows are as they are, or were not scored as they are beside it."""


class GroupEstimate(StoredModel):
    """A metric over the tasks of a group."""

    value: Number
    stderr: Number | None
    ci95: Interval | None
    weight_by_size: Flag
    higher_is_better: Flag
    scale: Scale
    tasks: tuple[str, ...]
    """Those that have the metric."""


class GroupScores(StoredModel):
    """Scores of a group over its tasks, those of inner groups too."""

    alias: str
    n: Whole
    tasks: tuple[str, ...]
    metrics: Mapping[str, GroupEstimate]


class ResultsRecord(StoredFile):
    """results.json: the scores of one model on several tasks."""

    remedy: ClassVar[str] = "copy the folder again, or run the evaluation again."

    model: StoredModelCard
    runtime: RuntimeCard
    machine: Json
    versions: Json
    results: Mapping[str, TaskScores]
    """By task."""
    groups: Annotated[Mapping[str, GroupScores], SPARSE] = Field(default_factory=dict)
    processes: Annotated[Whole, SPARSE] = 1
    """That shared the work."""
    failed: Annotated[Mapping[str, str], SPARSE] = Field(default_factory=dict)
    """Tasks without scores to the reason."""
    asked: Annotated[Json | None, SPARSE] = None
    """What the command asked, so that the same can be told from something else."""
    place: Annotated[Whole, SPARSE] = 0
    """Of the model among those of the command, from 0; pages and comparisons keep that order."""
    checksums: Mapping[str, str] = Field(default_factory=dict)
    """sha256 of every other file of the folder; results of earlier versions have none."""


class TaskStatistics(StoredModel):
    """Statistics of a task, from which its metrics are computed. Axes: N examples, K columns, each metric's own."""

    data_fingerprint: str
    recipes: Mapping[str, Json]
    """What each metric is made from."""
    clusters: Annotated[tuple[str, ...] | None, SPARSE] = None
    """(N,) which examples belong together; None: all are independent."""
    parts: Annotated[tuple[str, ...] | None, SPARSE] = None
    """(N,) the part of the rows that an example is of, questions with and without an answer, say; None: there are
    none."""
    tables: Mapping[str, Table] = Field(alias="statistics")
    """(N, K) of each metric."""


class StatisticsRecord(StoredFile):
    """statistics.json: what paired comparisons need."""

    remedy: ClassVar[str] = ResultsRecord.remedy

    tasks: Mapping[str, TaskStatistics]
