"""A plan: one question, and the models, variants and tasks that answer it.

plan: starter
question: Which runtime should serve the shipped backbone?
tasks: [starter_*]
models:
  mini: {backbone: lmtasks-mini, adaptation: full, training: {epochs: 5}}
variants:
  - {name: trivial, baseline: majority}
  - {name: torch, model: mini, runtime: torch}
  - {name: onnx int8, model: mini, runtime: onnx, precision: int8}
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

import yaml
from pydantic import (
    BeforeValidator,
    Field,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from lmtasks.bench.costs import parse_prices
from lmtasks.bench.judge import parse_requirements
from lmtasks.errors import UsageError, unknown
from lmtasks.files import slug
from lmtasks.installation import shipped
from lmtasks.settings.base import BOUND, Place, Settings, explain, place_of, refusal
from lmtasks.settings.bench import ArrivalName, HourPriceText, Rates, Require, Rounds, Seconds, TokenPriceText
from lmtasks.settings.bounds import COUNT, COUNT_OR_NONE, MOST, NOT_NEGATIVE, POSITIVE, SEED, Bound, shown
from lmtasks.settings.endpoint import Endpoint, is_address
from lmtasks.settings.evaluation import AllowMissing
from lmtasks.settings.generation import Decoding
from lmtasks.settings.models import BatchSize
from lmtasks.settings.runs_on import AnyRuntime, RunsOn
from lmtasks.settings.runtimes import Precision, package_runtimes, runs_packages
from lmtasks.settings.training import (
    Adaptation,
    AdaptSettings,
    AdaptTraining,
    BackboneChoice,
    LoraSettings,
    ProbeSettings,
)
from lmtasks.task.generation import changed
from lmtasks.task.yaml_file import read_yaml, yaml_text


def _several(value: object) -> object:
    """One name may stand without brackets."""
    return (value,) if isinstance(value, str) else value


def _row_count(value: object) -> object:
    """A number of training rows, or all of them."""
    whole = (
        isinstance(value, int | str) and not isinstance(value, bool) and str(value).isascii() and str(value).isdigit()
    )
    if value == "all" or (whole and COUNT.holds(int(str(value)))):
        return value if value == "all" else int(str(value))
    raise PydanticCustomError(BOUND, "{words}", {"words": f"must be all or {COUNT.words}, was {shown(value)}"})


def _listed_rows(value: object) -> object:
    """One number may stand without brackets."""
    return value if isinstance(value, list | tuple) else (value,)


def _price(value: object) -> object:
    """Numbers may stand as they are: 1.20, or [0.15, 0.60]."""
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


RowCount = Annotated[int | Literal["all"], PlainValidator(_row_count)]
RowCounts = Annotated[tuple[RowCount, ...], BeforeValidator(_listed_rows)]
Names = Annotated[tuple[str, ...], BeforeValidator(_several)]
Count = Annotated[int, COUNT]
Seed = Annotated[int, SEED]


class SweepSettings(Settings):
    """Settings of a training with several values each, one of which is chosen on validation rows."""

    seeds: Annotated[int, COUNT] = 1
    """Trainings of each point, by the first seeds of the plan; the mean counts."""
    budget_minutes: Annotated[float | None, POSITIVE] = None
    """Time for one choice: of a model, at each number of rows, and of a model apart for each task."""

    @property
    def values(self) -> Mapping[str, tuple[object, ...]]:
        """Settings to the values that are tried."""
        found = {name: getattr(self, name, None) for name in AdaptTraining.model_fields}
        return {name: values for name, values in found.items() if values is not None}

    def points(self) -> Iterator[Mapping[str, object]]:
        """All values with all."""
        for values in product(*self.values.values()):
            yield dict(zip(self.values, values, strict=True))

    @model_validator(mode="after")
    def _check_values(self) -> Self:
        if not self.values:
            raise refusal("names no setting to choose; give one as a list, learning_rate: [0.001, 0.0003].")
        for name, values in self.values.items():
            double = next((value for value in values if values.count(value) > 1), None)
            if double is not None:
                raise refusal(f"{name} has {double} twice.")
        return self


if TYPE_CHECKING:
    SweepPlan = SweepSettings
else:
    SweepPlan = create_model(
        "SweepPlan",
        __base__=SweepSettings,
        __module__=__name__,
        **{
            name: (
                Annotated[tuple[Annotated[field.annotation, *field.metadata], ...], Field(min_length=1)] | None,
                None,
            )
            for name, field in AdaptTraining.model_fields.items()
            if name != "rows"
        },
    )
"""With a list for every setting of a training, but for its rows, which are no matter of choice."""


class ModelPlan(BackboneChoice):
    """A model that the plan makes: one backbone, adapted to all its tasks together."""

    adaptation: Adaptation = "full"
    """Which weights move: all, those of adapters, of the heads alone, or none."""
    lora: LoraSettings | None = None
    """Of `adaptation: lora`."""
    probe: ProbeSettings | None = None
    """Of `adaptation: probe`."""
    tasks: Names = ()
    """Tasks that it is trained on; empty: all tasks of the plan that have a train split."""
    together: bool = True
    """One model for all its tasks; false: for each task a model of its own, as each rival is."""
    training: AdaptTraining = AdaptTraining()
    """How it learns."""
    sweep: SweepPlan | None = None
    """Settings of the training that are chosen on validation rows: {learning_rate: [...], seeds: 3, budget_minutes:
    60}."""

    def settings(self, *, seed: int) -> AdaptSettings:
        """Settings of its adaptation.

        Raises:
            UsageError: some do not go together.
        """
        return AdaptSettings(
            **{**dict(self.training), "method": self.adaptation, "seed": seed, "lora": self.lora, "probe": self.probe}
        )


class VariantPlan(RunsOn):
    """One row of the report: a model on a runtime, one or several baselines, or what some system answered."""

    name: str = Field(min_length=1)
    """Stands in every table, and with `run --only`."""
    model: str | None = None
    """A model of this plan, or a folder, a shipped name or a Hub id, used as it is."""
    baseline: Names = ()
    """Baselines, or `trivial` or `classical` for all of a kind; each task gets the one that is best on its validation
    rows."""
    server: Endpoint | None = None
    """How a server is asked, where `model` is an address (http://host:port/v1): {served_name: mine, concurrent: 16}."""
    answers: str | None = None
    """A file of what some system answered, as `eval --answers` reads it."""
    answers_id: str | None = None
    """Column of the data that `id` of its lines is a value of; None: `id`."""
    allow_missing: AllowMissing = None
    """Percent of a task's rows that may be without an answer, and count as wrong; None: none may."""
    rows: Annotated[int | None, COUNT] = None
    """Training rows that a baseline learns from at most; None: as many as the plan's models learn the task from."""
    runtime: AnyRuntime = "torch"
    """`native` for a model of this plan that is fitted at once (n-grams, linear classifiers)."""
    precision: Precision = "fp32"
    """What it computes in; of a package for onnx or openvino, what it was exported in."""
    max_drop: Annotated[float | None, NOT_NEGATIVE] = None
    """Points that rounding may cost on the variant's tasks, on their validation rows; None: nobody asks."""
    tasks: Names = ()
    """Task names that this variant answers; empty: all."""
    num_fewshot: Annotated[int, COUNT_OR_NONE] = 0
    """Worked examples before each question of a prompted model."""
    generation_kwargs: Mapping[str, object] = {}
    """Settings of generation in place of the tasks' own, {num_beams: 4}: variants of one model may differ in it. Such
    a variant is scored and not timed: what is timed is one way to write, greedy and of equal length, for all."""
    timed: bool = True
    """Is it timed, where the plan times anything? A baseline never is; a server only where `timed: true` says so, since
    it may cost."""
    seeds: tuple[Seed, ...] = ()
    """Instead of the plan's: fewer where a training takes long."""


class BenchPlan(Settings):
    """Settings of timing."""

    rows: Annotated[int, Bound(least=8, most=MOST, whole=True)] = 64
    """Rows of each task that the requests are drawn from."""
    seconds: Seconds = 3.0
    """Time for each task and batch size, all rounds together."""
    rounds: Rounds = 3
    """Every variant is measured so often, in alternation with the others."""
    batch_size: BatchSize = 16
    """Rows at once in the measurement of throughput; latency is measured one by one. `auto`: 16, and texts that are
    written all at once, of which the engine writes as many together as it finds best."""
    batch_sizes: tuple[Count, ...] = ()
    """Instead of 1 and `batch_size`."""
    lengths: tuple[Count, ...] = ()
    """Also with so many tokens in every request."""
    rate: Rates = ()
    """Also with so many requests coming a second."""
    arrival: ArrivalName = "poisson"
    """How they come: poisson (independent of each other), or even (always the same gap)."""
    require: Require = ""
    """What production needs: p95_ms<=50@20rps, drop<=1, peak_mb<=1000. Exit code 3 where no variant fulfils it."""
    price: Annotated[TokenPriceText, BeforeValidator(_price)] = ""
    """A million tokens of a server, read and written: 0.15,0.60 or "0.15,0.60 USD"; the report tells the cost of 1,000
    answers."""
    price_hour: Annotated[HourPriceText, BeforeValidator(_price)] = ""
    """An hour of this machine, with all its cores: 1.20 or "1.20 USD"; the same of answers by their core-seconds."""
    tasks: Names = ()
    """Tasks that are timed; empty: all."""

    @field_validator("require")
    @classmethod
    def _requirements(cls, value: str) -> str:
        try:
            parse_requirements(value) if value else ()
        except UsageError as error:
            raise refusal(str(error)) from None
        return value

    @field_validator("price", "price_hour")
    @classmethod
    def _prices(cls, value: str, info: ValidationInfo) -> str:
        try:
            parse_prices(**{"tokens": "", "hour": "", ("tokens" if info.field_name == "price" else "hour"): value})
        except UsageError as error:
            raise refusal(str(error)) from None
        return value


class PublishedPlan(Settings):
    """A figure that somebody published, to stand beside a variant's."""

    task: str
    """A task of the plan."""
    variant: str
    """The variant that it stands beside."""
    value: Annotated[float, Bound()]
    """As it was printed: fractions in points, 0-100."""
    by: str = Field(min_length=1)
    """Who, when, and what was different there."""
    metric: str = ""
    """Empty: the task's main metric."""
    wanted: Annotated[float | None, Bound()] = None
    """What the plan's author would be content with here; None: that very figure."""


class Plan(Settings):
    """A checked plan."""

    plan: str = Field(min_length=1, pattern=r"^[\w.-]+$")
    """Its name; results go to `runs/<plan>`."""
    question: str = ""
    """The heading of the report."""
    about: str = ""
    """Stands below it: what is compared, and what a reader must know."""
    tasks: tuple[str, ...] = Field(min_length=1)
    """Names, globs or files of tasks, `TASK@CHANGE` too."""
    models: Mapping[str, ModelPlan] = {}
    """Models that the plan makes, by name."""
    variants: tuple[VariantPlan, ...] = Field(min_length=1)
    """What is compared: the rows of the report."""
    seeds: tuple[Seed, ...] = Field(default=(1234,), min_length=1)
    """A training and a score of each model for every one of them."""
    rows: RowCounts = ()
    """Training rows of each task that models and baselines learn from, one curve over all of them: [64, 1000, all].
    Nested by seed, each label with its share; the scored rows stay the same. Empty: what each model says."""
    limit: Count | None = None
    """Scored rows of each task at most, a prefix."""
    sample: Count | None = None
    """Scored rows of each task at most, drawn by the first seed, each label with its share; not with `limit`."""
    explain: Annotated[int, COUNT_OR_NONE] = 0
    """Rows of each task of which the words that moved the answers are told, of labels and tags: wrong ones of any
    variant first, the same of all. The page marks them beside its samples."""
    bench: BenchPlan | None = BenchPlan()
    """How speed is measured; null: it is not."""
    margin: Annotated[float, Bound(least=0, above=True, most=100)] = 1.0
    """Points that a variant may lose against the best one and still keep its quality (of a perplexity so many
    percent): the report names who does, by paired comparison."""
    reference: str = ""
    """The variant that the report holds the recommended one to, in quality and speed: what is in production now, say.
    Empty: what an export was made from, else the first model."""
    published: tuple[PublishedPlan, ...] = ()
    """Figures of others, for the report."""

    @field_validator("rows")
    @classmethod
    def _once_each(cls, value: tuple[int | Literal["all"], ...]) -> tuple[int | Literal["all"], ...]:
        double = next((rows for rows in value if value.count(rows) > 1), None)
        if double is not None:
            raise refusal(f"{double} is given twice.")
        return value

    def seeds_of(self, variant: VariantPlan) -> tuple[int, ...]:
        """The seeds that a variant is made and scored with."""
        return variant.seeds or self.seeds

    @property
    def hash(self) -> str:
        """sha256 over what the plan sets, 16 hex digits: a later version's new settings leave it as it is."""
        content = self.model_dump(mode="json", exclude_defaults=True)
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def rival_rows(variant: VariantPlan, *, plan: Plan, task: str) -> int | None:
    """Training rows that a baseline learns a task from: as many as the models that learn it; of models that differ, as
    the one that has most. None: all; and for a model, whose rows are its own."""
    if not variant.baseline or variant.rows is not None:
        return variant.rows
    rows = [model.training.rows for model in plan.models.values() if not model.tasks or task in model.tasks]
    known = [count for count in rows if count is not None]
    return max(known) if known and len(known) == len(rows) else None


def shipped_plans() -> tuple[str, ...]:
    """Names of the plans that come with lmtasks."""
    return tuple(sorted(file.stem for file in shipped("benchmarks").glob("*.yaml")))


def find_plan(ref: str) -> Path:
    """A plan's file, by path, or by the bare name of a shipped one.

    Raises:
        UsageError: no such plan; a path that is not there never means a shipped plan.
    """
    file = Path(ref)
    if file.is_file():
        return file
    if file.suffix in {".yaml", ".yml"} or len(file.parts) != 1 or ref != file.name:
        there = [str(file.parent / each.name) for each in sorted(file.parent.glob("*.y*ml"))]
        near = get_close_matches(ref, there, n=3, cutoff=0.5)
        guess = f"; did you mean {' or '.join(near)}?" if near else "."
        raise UsageError(f"plan {ref} does not exist{guess} Shipped plans go by name: {', '.join(shipped_plans())}.")
    if ref not in shipped_plans():
        raise unknown("plan", ref, shipped_plans(), hint="Or give a YAML file.")
    return shipped("benchmarks") / f"{ref}.yaml"


def load_plan(file: Path) -> Plan:
    """Read and check a plan.

    Raises:
        UsageError: malformed YAML (file and line), unknown keys (with the nearest known), wrong values.
    """
    content = read_yaml(file)
    if not isinstance(content, dict):
        raise UsageError(f"{file} is no plan: it must hold `plan`, `tasks` and `variants`.")
    try:
        plan = Plan.model_validate({**content, "tasks": _listed(content.get("tasks", ()))})
    except ValidationError as error:
        told = explain(error, schema=Plan, name=_key, what="key", with_place=True)
        raise UsageError(f"{file}:{_line(file, place_of(error))}: {told}") from None
    plan = plan.model_copy(update={"variants": tuple(_placed(variant, plan, file) for variant in plan.variants)})
    _check(plan, file)
    return plan


def _placed(variant: VariantPlan, plan: Plan, file: Path) -> VariantPlan:
    """The variant in the one runtime of its model, where the model has one only; a folder in what it is made for."""
    from lmtasks.backbone.closed_form import is_fitted
    from lmtasks.workflow.open_model import runtime_for

    made = plan.models.get(variant.model or "")
    if is_address(variant.model or ""):
        if variant.model_fields_set & {"runtime", "precision"}:
            raise UsageError(
                f"{file}: variant {variant.name!r} asks a server, which computes as it does; leave `runtime` and "
                "`precision` out."
            )
        timed = variant.timed and "timed" in variant.model_fields_set  # it may cost
        return variant.model_copy(update={"runtime": "endpoint", "device": "server", "timed": timed})
    if variant.server is not None:
        raise UsageError(f"{file}: variant {variant.name!r} has `server`, which goes with an address as its `model`.")
    if made is None and variant.model and "runtime" not in variant.model_fields_set and Path(variant.model).is_dir():
        return variant.model_copy(update={"runtime": runtime_for(Path(variant.model), wanted=None)})
    if made is None or not is_fitted(made.backbone):
        return variant
    if "runtime" in variant.model_fields_set and variant.runtime != "native":
        raise UsageError(
            f"{file}: variant {variant.name!r} asks for runtime {variant.runtime!r}, but {made.backbone!r} is fitted "
            "at once and runs in native alone; leave `runtime` out."
        )
    return variant.model_copy(update={"runtime": "native"})


def _check(plan: Plan, file: Path) -> None:
    if plan.limit is not None and plan.sample is not None:
        raise UsageError(f"{file}: `limit` takes the first rows and `sample` draws rows; give one of them.")
    # Compared as file names: `onnx int8` and `ONNX-int8` would write into the same cells.
    names = [slug(variant.name) for variant in plan.variants]
    double = sorted({name for name in names if names.count(name) > 1 or not name})
    if double:
        raise UsageError(
            f"{file}: the names of two variants, or of one alone, are no file names of their own ({double[0]!r}); "
            "give each variant its own name, with letters or digits."
        )
    for name, model in plan.models.items():
        if plan.rows and model.training.rows is not None:
            raise UsageError(
                f"{file}: model {name!r} has `rows` in its `training`, but the plan's own `rows` say how many "
                "everybody learns from; leave one of them out."
            )
        if not model.together and plan.bench is not None:
            raise UsageError(
                f"{file}: model {name!r} is one for each task (`together: false`), and a variant is timed as one "
                "model; give `bench: null`."
            )
        for key, given in (("lora", model.lora), ("probe", model.probe)):
            if given is not None and model.adaptation != key:
                raise UsageError(f"{file}: model {name!r} has `{key}`, which goes with `adaptation: {key}`.")
        try:
            for point in model.sweep.points() if model.sweep is not None else ({},):
                model.settings(seed=plan.seeds[0]).but(point)
        except UsageError as error:
            raise UsageError(f"{file}: model {name!r}: {error}") from None
        if model.sweep is not None:
            _check_sweep(name, model, file)
    if plan.reference and plan.reference not in {variant.name for variant in plan.variants}:
        raise unknown(f"`reference` in {file}:", plan.reference, [variant.name for variant in plan.variants])
    for figure in plan.published:
        for what, name, allowed in (
            ("variant", figure.variant, [variant.name for variant in plan.variants]),
            ("task", figure.task, plan.tasks),
        ):
            if name not in allowed:
                raise unknown(f"{what} of a published figure in {file}:", name, allowed)
    for variant in plan.variants:
        if sum(map(bool, (variant.baseline, variant.model, variant.answers))) != 1:
            raise UsageError(
                f"{file}: variant {variant.name!r} needs one of `model`, `baseline` and `answers` (a file of answers)."
            )
        if not variant.answers and (variant.answers_id is not None or variant.allow_missing is not None):
            key = "answers_id" if variant.answers_id is not None else "allow_missing"
            raise UsageError(f"{file}: variant {variant.name!r} has `{key}`, which goes with `answers`.")
        if variant.rows is not None and plan.rows:
            raise UsageError(
                f"{file}: variant {variant.name!r} has `rows`, but the plan's own `rows` say how many everybody learns "
                "from; leave one of them out."
            )
        if variant.rows is not None and not variant.baseline:
            raise UsageError(
                f"{file}: variant {variant.name!r} has `rows`, which are a baseline's; those of a model stand in its "
                "`training`."
            )
        if not variant.model and variant.generation_kwargs:
            what = "is a baseline" if variant.baseline else "has answers that are there"
            raise UsageError(f"{file}: variant {variant.name!r} {what}; `generation_kwargs` are for models.")
        try:
            changed(Decoding(), variant.generation_kwargs)
        except UsageError as error:
            raise UsageError(f"{file}: variant {variant.name!r}: {error}") from None
        if variant.max_drop is not None and (not runs_packages(variant.runtime) or variant.precision == "fp32"):
            raise UsageError(
                f"{file}: variant {variant.name!r} has a `max_drop`, which is about packages that are rounded: "
                f"`runtime: {' or '.join(package_runtimes())}` and a `precision` other than fp32."
            )


def _check_sweep(name: str, model: ModelPlan, file: Path) -> None:
    from lmtasks.backbone.closed_form import is_fitted

    assert model.sweep is not None  # the caller looked
    double = sorted(set(model.sweep.values) & model.training.model_fields_set)
    if double:
        raise UsageError(
            f"{file}: model {name!r} has `{double[0]}` in its `training` and in its `sweep`; give it once."
        )
    if model.adaptation == "prompt" or is_fitted(model.backbone):
        why = "is used as it is" if model.adaptation == "prompt" else f"is fitted at once ({model.backbone})"
        raise UsageError(f"{file}: model {name!r} has a `sweep`, but {why}, so no setting of a training matters.")


def _listed(value: object) -> Sequence[object]:
    return [item.strip() for item in value.split(",")] if isinstance(value, str) else value  # type: ignore[return-value]


def _key(place: Place) -> str:
    return ".".join(map(str, place))


def _line(file: Path, place: Place) -> int:
    """The line of a file on which a key stands, or the last one above it that is there; counted from 1."""
    node = yaml.compose(yaml_text(file), Loader=yaml.SafeLoader)
    line = 1
    for part in place:
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if key.value == str(part)), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            found = (node.value[part], node.value[part])
        else:
            found = None
        if found is None:
            break
        line, node = found[0].start_mark.line + 1, found[1]
    return line
