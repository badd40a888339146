"""shard.json: a shard of an evaluation, one part of several of every task's rows, before all are merged."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from lmtasks.records import Json, RuntimeCard
from lmtasks.results.base import SPARSE, Flag, Number, StoredFile, StoredModel, StoredModelCard, Whole
from lmtasks.results.scores import RivalChoice

Numbers = tuple[Whole, ...]
"""`doc_id` of examples."""


class MarkedRows(StoredModel):
    """Examples that stand among other rows, by what they have in common with them."""

    rows: Numbers
    """The question and the answer."""
    inputs: Numbers
    """The question."""
    targets: Numbers
    """A text that is right."""


class ShardMarks(StoredModel):
    """Examples whose answers may have been known before; None: not known."""

    learned: MarkedRows | None
    chosen: MarkedRows | None
    train: MarkedRows | None
    own_answers: Numbers
    """Examples of all shards whose worked examples hold their own answer."""


class ValuePlace(StoredModel):
    """Value that a task's own code makes and no metric of it names."""

    name: str
    filter_name: str
    maker: str = ""


class ShardChange(StoredModel):
    """A task whose rows are changed, and the task as it is."""

    clean: str
    change: str
    seed: Whole
    metric: str


class ShardTask(StoredModel):
    """A task's answers in one shard; the answers themselves are its samples."""

    alias: str
    kind: str
    language: str
    hash: str
    labels: tuple[str, ...]
    rows: Whole
    """Scored in all shards together."""
    n: Whole
    """Scored here."""
    truncated: Whole
    cached: Whole
    seconds: Number
    seconds_total: Number
    conditions: Json
    recipes: Mapping[str, Json]
    """What each metric is made from."""
    remarks: Annotated[Mapping[str, Whole], SPARSE] = Field(default_factory=dict)
    """What a reader must know of the values, and of how many examples it is true."""
    unlisted: Annotated[tuple[ValuePlace, ...], SPARSE] = ()
    notes: Annotated[tuple[str, ...], SPARSE] = ()
    """What a reader must know beside what the answers say, in sentences."""
    refused: Annotated[Mapping[str, str], SPARSE] = Field(default_factory=dict)
    """Metrics that were not looked at to the reason."""
    unanswered: Annotated[Mapping[int, str], SPARSE] = Field(default_factory=dict)
    """Numbers of the rows without an answer to the reason."""
    rival: Annotated[RivalChoice | None, SPARSE] = None
    change: Annotated[ShardChange | None, SPARSE] = None
    told_apart: Flag
    """Have the rows something to be right?"""
    marks: Annotated[ShardMarks | None, SPARSE] = None
    """None: nobody could tell."""


class ShardGroup(StoredModel):
    """A group of tasks; members are names, and groups inside."""

    name: str
    alias: str
    members: tuple["str | ShardGroup", ...]
    aggregations: tuple["ShardGroupMetric", ...]
    version: str = "1"


class ShardGroupMetric(StoredModel):
    """One value of a group."""

    metric: str
    filters: tuple[str, ...] | None
    aggregation: Literal["mean"] = "mean"
    weight_by_size: Flag


class ShardRecord(StoredFile):
    """The part of an evaluation that one process answered, apart from the others."""

    remedy: ClassVar[str] = "delete its folder and evaluate this shard again."

    index: Whole
    """Counted from 1."""
    count: Whole
    model: StoredModelCard
    runtime: RuntimeCard
    machine: Json
    versions: Json
    seed: Whole
    resamples: Whole | None
    draws: Literal["ours", "lm-eval"]
    tasks: Mapping[str, ShardTask]
    groups: tuple[ShardGroup, ...] = ()
    failed: Annotated[Mapping[str, str], SPARSE] = Field(default_factory=dict)
    """Tasks without answers to the reason."""
    asked: Json
    """What the command asked but for the shard."""
    place: Annotated[Whole, SPARSE] = 0
    """Of the model among those of the command, from 0."""
    checksums: Mapping[str, str] = Field(default_factory=dict)
    """sha256 of the files of samples."""
