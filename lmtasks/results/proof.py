"""parity.json and gate.json of a package: does it answer as its model does in torch, and what does rounding cost?"""

from collections.abc import Mapping
from typing import Annotated, ClassVar

from lmtasks.results.base import SPARSE, Flag, Number, StoredFile, StoredModel, Whole
from lmtasks.results.scores import Interval

REMEDY = "delete the package and run the plan again, or export the model again."


class Rule(StoredModel):
    """Tolerances of one precision; None: recorded only."""

    max_difference: Number | None = None
    """Of any logit or log-probability, in each case."""
    least_cosine: Number | None = None
    """Between logits, each row centred, over all cases together: one nearly undecided row may turn around."""
    most_mean_difference: Number | None = None
    """Of log-probabilities, in nats, over all cases together."""

    @property
    def together(self) -> bool:
        """Is it judged over all cases together?"""
        return self.least_cosine is not None or self.most_mean_difference is not None


class Check(StoredModel):
    """One comparison of a package with its model."""

    graph: str
    """`head.<name>`, `score` or `decoder`."""
    case: str
    numbers: Whole
    """How many were compared."""
    max_difference: Number
    mean_difference: Number
    cosine: Number | None
    """Of logits; None for log-probabilities."""
    agreement: Number
    """Share of equal choices: labels, first and last tokens of a span, most likely next tokens."""
    divergence: Number | None = None
    """Kullback-Leibler divergence of the package's probabilities from the model's, in nats, the mean over choices; None
    where nothing is chosen, and for log-probabilities of given tokens."""
    open_choices: Whole
    """Choices that differ where torch's two best lie within the rule's difference: a tie, broken otherwise."""
    ok: Flag


class ProofRecord(StoredFile):
    """parity.json: the proof of one package."""

    remedy: ClassVar[str] = REMEDY
    with_schema: ClassVar[bool] = False

    ok: Flag
    max_difference: Number
    """The largest of all."""
    precision: str
    rule: Rule
    checks: tuple[Check, ...]
    texts: Whole
    """That answers were compared on."""
    torch: str
    """Version."""
    onnxruntime: Annotated[str, SPARSE] = ""
    """Version; empty of a package for another runtime."""
    openvino: Annotated[str, SPARSE] = ""
    operators: Mapping[str, Mapping[str, Whole]] = {}
    """How often each stands in each graph."""
    wanted: Mapping[str, Mapping[str, Whole]] = {}
    """How often some must, by the model's shape."""
    cases: Whole = 0
    """Of a whole proof; 0: it was made before they were counted."""
    seconds: Number | None = None
    """That the comparisons took."""
    budget_seconds: Number | None = None
    """Comparisons that were not expected to fit into it were left out; None: all were made."""
    not_proved: tuple[str, ...] = ()
    """What was left out for that, by the names of cases."""

    @property
    def cut(self) -> str:
        """Sentence on what was proved and what was not; empty: everything was."""
        if not self.not_proved:
            return ""
        done, seconds = self.cases - len(self.not_proved), self.seconds or 0.0
        return (
            f"proved {done} of {self.cases} cases in {seconds:.0f} seconds, of "
            f"{self.budget_seconds or 0.0:g} at most; not proved: {', '.join(self.not_proved)}"
        )


class TaskDropRecord(StoredModel):
    """Cost of rounding on one task."""

    task: str
    metric: str
    rows: str
    """Which rows these are, for people."""
    n: Whole
    base: Number | None
    found: Number | None
    """Values as the metric counts; None where one is not finite."""
    unit: str
    """Of `drop`, `ci95` and `most`: `points`, or `%` of the base."""
    drop: Number | None
    """Above zero: worse."""
    ci95: Interval | None
    most: Number
    """Allowed."""
    ok: Flag
    excluded: Flag
    """Does the interval exclude a larger drop?"""
    needed: Whole | None
    """Examples that would exclude it."""
    better: Whole
    equal: Whole
    worse: Whole


class KeptLayer(StoredModel):
    """A layer that stays in fp32."""

    layer: str
    numbers: Whole
    damage: Number | None
    """What rounding it alone does: mean difference of log-probabilities, in nats; None where they are no numbers."""


class GateRecord(StoredFile):
    """gate.json: a quality gate that holds."""

    remedy: ClassVar[str] = REMEDY
    with_schema: ClassVar[bool] = False

    ok: Flag
    most: Number
    """The largest drop that is allowed, in points."""
    tasks: tuple[TaskDropRecord, ...]
    kept: tuple[KeptLayer, ...]
    kept_share: Number
    """Of the numbers that rounding reaches, 0-1."""
    layers: Whole
    """How many of them there are; 0 where nobody had to look."""
    everything_rounded: tuple[TaskDropRecord, ...]
    """What rounding everything costs, where layers had to stay."""
