"""sweeps/<model>.json of a run: the settings of a training that were tried, what each had on validation rows, and which
were chosen."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from lmtasks.records import Json
from lmtasks.results.base import SPARSE, Number, StoredFile, StoredModel, Whole
from lmtasks.results.cell import RowsAsked

PointStatus = Literal["done", "failed", "unfinished"]


class SweepPoint(StoredModel):
    """One training with some settings and one seed."""

    settings: Json
    """Those that the sweep varies."""
    seed: Whole
    status: PointStatus
    """unfinished: its training was ended, as the budget was."""
    reason: str = ""
    """Why there is no score; empty where there is one."""
    score: Number | None = None
    """On validation rows, 0-1, the mean over the model's tasks; of the weights that were kept."""
    steps: Whole | None = None
    best_step: Whole | None = None
    seconds: Number
    """That it took, with reading and validation."""


class SweepRecord(StoredFile):
    """All points of one choice: of a model, for a number of rows, and where it is trained on each task alone a task."""

    model: str
    task: Annotated[str, SPARSE] = ""
    """Empty: the model is for all its tasks together."""
    rows: Annotated[RowsAsked, SPARSE] = None
    """Training rows; None: the plan does not ask by rows."""
    seeds: tuple[Whole, ...]
    budget_minutes: Number | None = None
    values: Mapping[str, tuple[object, ...]]
    """Settings to the values that are tried, all with all."""
    points: tuple[SweepPoint, ...] = ()
    """In the order that they were carried out; those of an earlier form of the plan stay."""
    chosen: Json = Field(default_factory=dict)
    """The best on validation rows so far; empty: none is finished."""
    seeds_compared: Whole = 0
    """Seeds that the choice is made on: those that every point was finished with, or else those that are there."""
    out_of_budget: bool = False
    """Points were left out, since the time was up."""
