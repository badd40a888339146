"""run.json: the plan that a run folder holds, and how to repeat the run."""

from collections.abc import Mapping

from pydantic import ConfigDict, Field

from lmtasks.records import Json
from lmtasks.results.base import Number, StoredFile, StoredModel


class PublishedFigure(StoredModel):
    """Figure that somebody else found, as the plan has it."""

    task: str
    variant: str
    metric: str = ""
    """Empty: the task's main metric."""
    value: Number
    """Fractions in points."""
    wanted: Number | None = None
    """What is to be reached here; None: the value."""
    by: str


class PlannedVariant(StoredModel):
    """A variant of a plan: its name, and everything else as it is."""

    model_config = ConfigDict(extra="allow")

    name: str = ""


class StoredPlan(StoredModel):
    """A plan as run.json holds it: what its report reads, and everything else as it is."""

    model_config = ConfigDict(extra="allow")

    plan: str = ""
    """Its name; empty: that of the folder."""
    question: str = ""
    about: str = ""
    tasks: tuple[str, ...] = ()
    """Names or patterns."""
    variants: tuple[PlannedVariant, ...] = ()
    published: tuple[PublishedFigure, ...] = ()
    reference: str = ""
    """The variant that others are held to; empty: the plan names none."""
    margin: Number | None = None
    """Points that a variant may lose against the best and still keep its quality."""


class RunRecord(StoredFile):
    """The plan of a run folder, and where and when it was first carried out."""

    plan: StoredPlan = StoredPlan()
    plan_hash: str = ""
    command: str = ""
    started: str = ""
    """ISO 8601."""
    machine: Json = Field(default_factory=dict)
    versions: Json = Field(default_factory=dict)


class TryRecord(StoredFile):
    """try.json of `lmtasks try`: what its task and its plan were made of."""

    asked: Mapping[str, str]
    """Option to its value, the data by the checksum of its content."""
    found: tuple[str, ...] = ()
    """Sentences on what the data is."""
    notes: tuple[str, ...] = ()
    """Sentences that whoever scores on it will want to know."""
    plan_checksum: str = ""
    """Of plan.yaml as it was written."""
    candidates: tuple[str, ...] = ()
    """Several models of the plan of which the best one is to be exported; empty: there is one alone."""
    chosen: Mapping[str, Number] = Field(default_factory=dict)
    """The main metric of each of them on validation rows."""
