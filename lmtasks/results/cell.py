"""cells/<id>.json of a run: how one variant did on one task with one seed."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, PlainSerializer, model_validator
from pydantic_core import PydanticCustomError

from lmtasks.records import Estimate, Json
from lmtasks.results.base import (
    SPARSE,
    Empty,
    Number,
    OptionalModelCard,
    OptionalRuntimeCard,
    StoredFile,
    StoredModel,
    Table,
    Whole,
    none_for_empty,
)
from lmtasks.results.scores import TaskScores

Status = Literal["done", "failed", "not-applicable"]
RowsAsked = Whole | Literal["all"] | None
"""Training rows that a plan asks with; None: it does not ask by rows, or they are of no matter."""

NO_SCORES = TaskScores(n=0, seconds=0.0, seconds_total=0.0, truncated=0, metrics={})


class Variant(StoredModel):
    """A variant of a run: a model, how it was adapted, and what it runs on."""

    name: str
    model: str = ""
    adaptation: str = ""
    runtime: str = ""
    device: str = ""
    precision: str = ""
    threads: Whole | None = None
    generation_kwargs: Annotated[Json, SPARSE] = Field(default_factory=dict)
    """How texts are written, where the plan says it of this variant."""

    @property
    def written(self) -> str:
        """How texts are written, for people: `num_beams=4`."""
        return ", ".join(f"{name}={value}" for name, value in self.generation_kwargs.items())


class TaskInfo(StoredModel):
    """A task of a run."""

    name: str
    kind: str = ""
    language: str = ""
    hash: str = ""
    apart_from: Annotated[str, SPARSE] = ""
    """The task's own name, where the cell stands apart from others of it that were scored on other rows."""


class TrainedRecord(StoredModel):
    """Training of a model: time, steps, weights."""

    steps: Whole
    seconds: Number
    stopped: str = ""
    """Why it ended: `steps`, `minutes` or `patience`; `fitted` where no step was needed."""
    best: Number | None = None
    """The validation score of the weights that were kept; None where nothing was validated."""
    best_step: Whole | None = None
    weights: Whole
    """That learned."""
    words: Annotated[Whole, SPARSE] = 0
    """Tokens and pairs of tokens that the head of the cell's task weighs beside the backbone's states."""


class LearnedRows(StoredModel):
    """Training rows of the cell's task, where the plan asks by rows."""

    asked: Whole | Literal["all"]
    learned: Whole
    """The same number, or how many all are."""
    labels_missing: Annotated[Whole, SPARSE] = 0
    """Labels without an example among them."""


def _or_empty(trained: TrainedRecord | None) -> dict[str, object]:
    return {} if trained is None else trained.content()


OptionalTraining = Annotated[
    TrainedRecord | None,
    BeforeValidator(none_for_empty, json_schema_input_type=TrainedRecord | Empty),
    PlainSerializer(_or_empty),
]


class CellRecord(StoredFile):
    """One variant on one task with one seed."""

    id: str
    variant: Variant
    task: TaskInfo
    seed: Whole = 0
    rows: Annotated[LearnedRows | None, SPARSE] = None
    """None where the plan does not ask by rows, or they are of no matter to the variant."""
    status: Status
    reason: str = ""
    """Why there are no scores; empty where there are."""
    model: OptionalModelCard = None
    runtime: OptionalRuntimeCard = None
    machine: Json = Field(default_factory=dict)
    versions: Json = Field(default_factory=dict)
    conditions: Json = Field(default_factory=dict)
    """All that the scores depend on besides model, runtime and versions."""
    trained: Annotated[
        TrainedRecord | None,
        BeforeValidator(none_for_empty, json_schema_input_type=TrainedRecord | Empty),
        PlainSerializer(_or_empty),
    ] = None
    """None, `{}` in the file, where the run trained no model for the cell."""
    repeat: Annotated[tuple[str, ...], SPARSE] = ()
    """Commands that repeat the cell by hand; empty in cells of earlier versions."""
    settings_hash: Annotated[str, SPARSE] = ""
    """Of everything that says how the model computes, but for its weights; cells of earlier versions hold none."""
    samples_checksum: Annotated[str, SPARSE] = ""
    """sha256 of the file with its samples; empty where none were kept, or an earlier version wrote the cell."""
    result: Annotated[TaskScores | None, SPARSE] = None
    """Only of cells that are done."""
    recipes: Annotated[Mapping[str, Json], SPARSE] = Field(default_factory=dict)
    """What each metric is made from."""
    statistics: Annotated[Mapping[str, Table] | None, SPARSE] = None
    """(N, K) of each metric; None in published cells."""
    clusters: tuple[str, ...] | None = None
    """(N,) which examples belong together; None: all are independent."""
    parts: Annotated[tuple[str, ...] | None, SPARSE] = None
    """(N,) the part of the rows that an example is of; None: there are none, or the cell is a published one."""

    @model_validator(mode="after")
    def _done_has_a_result(self) -> Self:
        if self.status == "done" and self.result is None:
            raise PydanticCustomError("missing", "lacks a field", {"field": "result"})
        return self

    @property
    def rows_asked(self) -> RowsAsked:
        """Training rows that the plan asks with."""
        return None if self.rows is None else self.rows.asked

    @property
    def scores(self) -> TaskScores:
        """The scores; of a cell that is not done, none."""
        return self.result if self.result is not None and self.status == "done" else NO_SCORES

    @property
    def metrics(self) -> Mapping[str, Estimate]:
        """In the task's order: the first is its main metric."""
        return self.scores.metrics

    @property
    def tokenizer_hash(self) -> str:
        """Hash of the scored model's tokenizer; empty where there was no model."""
        return self.model.tokenizer_hash if self.model else ""

    @property
    def baseline(self) -> str:
        """The baseline's name (`majority`, `tfidf`, ...); empty for a model."""
        # What a plan fits (n-grams, linear classifiers) runs in native too, and is a model.
        if self.variant.adaptation == "none" or (self.model is not None and self.model.kind == "baseline"):
            return self.model.family if self.model else self.variant.model
        return ""
