"""The keys of a task file. All of lm-evaluation-harness 0.4.13's `TaskConfig`, and those that heads need.

Unknown keys are refused with the nearest known one; keys of the harness that are not carried out, each with its reason.
`resolve.py` says what each key becomes.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, InstanceOf, ValidationError
from pydantic_core import PydanticCustomError

from lmtasks.errors import UsageError, unknown
from lmtasks.tag_scheme import SchemeName
from lmtasks.task.functions import FunctionRef
from lmtasks.task.kinds import KINDS
from lmtasks.task.task import OutputType, SplitName
from lmtasks.task.yaml_file import TaskYaml

NO_IMAGES = "asks models that see or hear, and the models here read text"
REFUSED: Mapping[str, str] = {
    "doc_to_image": NO_IMAGES,
    "doc_to_audio": NO_IMAGES,
    "use_prompt": "names a prompt of promptsource, a package that is no longer kept up; write its wording into "
    "doc_to_text, doc_to_target and doc_to_choice",
    "task_list": "is read and dropped by lm-evaluation-harness 0.4.13; write a group with the key group",
}
"""Why a field of a task file is refused where it is set."""
DEAD_INDICES = (
    "is read and never used by lm-evaluation-harness 0.4.13, so following it would give other scores than there; "
    "write the rows into fewshot_config.samples"
)


def _refuse_truth(value: object) -> object:
    """YAML 1.1 reads yes, no, on, off as true and false; a label or a choice that is one was meant as text."""
    if isinstance(value, bool):
        raise ValueError(f"YAML reads this as {str(value).lower()}; put it in quotes")
    return value


def _known_kind(value: object) -> object:
    if value not in KINDS:
        *most, last = map(repr, KINDS)
        raise PydanticCustomError("kind", "Input should be {allowed}", {"allowed": f"{', '.join(most)} or {last}"})
    return value


Code = InstanceOf[FunctionRef]
Name = Annotated[str, BeforeValidator(_refuse_truth)]
KindName = Annotated[str, BeforeValidator(_known_kind)]
Names = str | list[Name] | None
Cell = Annotated[str | int | float | None, BeforeValidator(_refuse_truth)]
Text = str | int | Code | None
Target = str | int | list[Cell] | Code | None
Choices = str | list[Name] | dict[str, Name] | Code | None
STRICT = ConfigDict(
    extra="forbid", frozen=True, arbitrary_types_allowed=True, coerce_numbers_to_str=True, protected_namespaces=()
)
OPEN = ConfigDict(extra="allow", frozen=True, arbitrary_types_allowed=True)


class MetricLine(BaseModel):
    """One entry of `metric_list`; keys beyond these are options of the metric."""

    model_config = OPEN
    metric: str | Code
    aggregation: str | Code | None = None
    higher_is_better: bool | None = None
    hf_evaluate: bool = False


class MetricWish(BaseModel):
    """One entry of our own `metrics`."""

    model_config = STRICT
    name: str
    options: dict[str, object] = Field(default_factory=dict)


class FilterStepLine(BaseModel):
    """One step of a pipeline; keys beyond its function are options of it."""

    model_config = OPEN
    function: str | Code


class FilterLine(BaseModel):
    """One pipeline of `filter_list`."""

    model_config = STRICT
    name: str
    filter: list[FilterStepLine]


class WindowsFile(BaseModel):
    """`windows`: how long texts are cut, for rolling likelihoods."""

    model_config = STRICT
    stride: int | None = Field(default=None, ge=1)
    concatenate: bool = False
    between: str = "\n\n"


class CandidatesFile(BaseModel):
    """`candidates`: those of a ranking are drawn from other rows."""

    model_config = STRICT
    count: int = Field(ge=2)
    seed: int = 1234


class SourceFile(BaseModel):
    """One entry of `sources`: what is not given comes from the task's own data set, unless `path` names another."""

    model_config = STRICT
    path: str | None = None
    name: str | None = None
    split: str | None = None
    revision: str | None = None
    data_files: str | list[str] | dict[str, str | list[str]] | None = None


class ShotsFile(BaseModel):
    """`fewshot_config`."""

    model_config = STRICT
    sampler: str | Code = "default"
    split: str | None = None
    process_docs: Code | None = None
    fewshot_indices: list[int] | None = None
    samples: list[dict[str, object]] | Code | None = None
    doc_to_text: Text = None
    doc_to_target: Target = None
    doc_to_choice: Choices = None
    gen_prefix: str | None = None
    fewshot_delimiter: str | None = None
    target_delimiter: str | None = None


class TaskFile(BaseModel):
    """A task file, its includes merged."""

    model_config = STRICT

    # identity
    task: Name
    task_alias: str | None = None
    tag: Names = None
    group: Names = None
    metadata: dict[str, object] | None = None
    # where rows come from
    dataset_path: str | None = None
    dataset_name: str | None = None
    dataset_kwargs: dict[str, object] | None = None
    custom_dataset: Code | None = None
    training_split: str | None = None
    validation_split: str | None = None
    test_split: str | None = None
    fewshot_split: str | None = None
    process_docs: Code | None = None
    # what is asked
    doc_to_text: Text = None
    doc_to_target: Target = None
    doc_to_choice: Choices = None
    doc_to_image: str | list[object] | Code | None = None
    doc_to_audio: str | list[object] | Code | None = None
    use_prompt: str | None = None
    description: str | None = None
    gen_prefix: str | None = None
    target_delimiter: str = " "
    fewshot_delimiter: str = "\n\n"
    fewshot_config: ShotsFile | None = None
    num_fewshot: int | None = Field(default=None, ge=0)
    # how it is answered and scored
    output_type: OutputType | None = None
    generation_kwargs: dict[str, object] | None = None
    repeats: int = Field(default=1, ge=1)
    filter_list: list[FilterLine] | None = None
    metric_list: list[MetricLine] | None = None
    process_results: Code | None = None
    unsafe_code: bool = False
    should_decontaminate: bool = False
    doc_to_decontamination_query: Text = None
    task_list: list[object] | None = None
    # ours
    about: str = ""
    kind: KindName | None = None
    language: Name = "en"
    inputs: dict[str, Name] = Field(default_factory=dict)
    labels: list[Name] = Field(default_factory=list)
    scheme: SchemeName | None = None
    metrics: list[str | MetricWish] | None = None
    no_answer: str = ""
    cluster: str | None = None
    revision: Name | None = None
    sources: dict[SplitName, SourceFile] = Field(default_factory=dict)
    windows: WindowsFile | None = None
    candidates: CandidatesFile | None = None


NESTED: Mapping[str, type[BaseModel]] = {
    "sources": SourceFile,
    "fewshot_config": ShotsFile,
    "metrics": MetricWish,
    "filter_list": FilterLine,
    "windows": WindowsFile,
    "candidates": CandidatesFile,
}
TOLD_FIRST: Mapping[str, int] = {"value_error": 0, "extra_forbidden": 1}
"""Of several faults: our own sentences, then a misspelt key, which may be why another one is missing."""
KEYS = (*TaskFile.model_fields, "include")


def check_keys(yaml: TaskYaml) -> TaskFile:
    """The file's keys, each of the right type.

    Raises:
        UsageError: naming the file, the line, the key and what is allowed there.
    """
    for key in yaml.keys:
        if key not in KEYS:
            raise UsageError(f"{yaml.line(key)}: {unknown('key of a task file', key, KEYS)}")
    try:
        return TaskFile.model_validate(dict(yaml.keys))
    except ValidationError as error:
        first = min(error.errors(), key=lambda found: TOLD_FIRST.get(found["type"], len(TOLD_FIRST)))
        key = str(first["loc"][0]) if first["loc"] else ""
        place = ".".join(str(part) for part in first["loc"] if not _is_branch(part)) or "the file"
        inner = NESTED.get(key)
        if first["type"] == "extra_forbidden" and inner is not None:
            refusal = unknown(f"key of {key}", str(first["loc"][-1]), inner.model_fields)
            raise UsageError(f"{yaml.line(key)}: {refusal}") from error
        message = first["msg"].removeprefix("Value error, ")
        given = repr(first["input"])
        shown = given if len(given) <= 80 else given[:77] + "..."
        raise UsageError(f"{yaml.line(key)}: {place}: {message}, was: {shown}.") from error


def _is_branch(part: str | int) -> bool:
    """Is this step of an error's place only a name of pydantic's for one of several allowed types?"""
    return isinstance(part, str) and (
        part in ("str", "int", "float", "bool", "MetricWish") or part.startswith(("list[", "dict[", "is-", "function-"))
    )


def refuse_fields(file: TaskFile, shots: ShotsFile) -> None:
    """Refuse what would silently be left out.

    Raises:
        UsageError: a field is set that is not carried out; says which and why.
    """
    for field, why in REFUSED.items():
        if getattr(file, field) not in (None, "", []):
            raise UsageError(f"task {file.task}: {field} {why}.")
    if shots.fewshot_indices:
        raise UsageError(f"task {file.task}: fewshot_config.fewshot_indices {DEAD_INDICES}.")


def refuse_other_files(yaml: TaskYaml) -> None:
    """Refuse files of lm-evaluation-harness that are no task: Python tasks, groups, files that are only included.

    Raises:
        UsageError: with what the file is, and what to do.
    """
    if "class" in yaml.keys:
        raise UsageError(
            f"{yaml.line('class')}: class names a task written in Python for lm-evaluation-harness "
            f"({_code_name(yaml.keys['class'])}, task {yaml.keys.get('task')}), which lmtasks does not run; only task "
            "files made of data are read."
        )
    task = yaml.keys.get("task")
    if isinstance(task, list) or (task is None and "group" in yaml.keys):
        raise UsageError(
            f"{yaml.file} is a group of tasks, not a task; name its tasks, or give the group to --tasks: "
            f"{', '.join(str(member) for member in (task if isinstance(task, list) else []))[:200]}."
        )
    if task is None:
        raise UsageError(f"{yaml.file} names no task; a file without the key task can only be included by others.")


def refuse_code(yaml: TaskYaml) -> None:
    """Refuse a file that brings code, or asks for code to be run.

    Raises:
        UsageError: naming the line, the field and the function, and how to allow it.
    """
    for key, value in yaml.keys.items():
        for place, reference in _functions(value, key):
            raise UsageError(
                f"{yaml.line(key)}: {place} is Python code (!function {reference.qualified}), which is not run "
                "unasked; if you trust the file, add --trust-code."
            )
    if yaml.keys.get("unsafe_code"):
        raise UsageError(
            f"{yaml.line('unsafe_code')}: unsafe_code says that what a model writes is run as code; if you trust "
            "file and model, add --trust-code."
        )


def _code_name(value: object) -> str:
    return f"!function {value.qualified}" if isinstance(value, FunctionRef) else str(value)


def _functions(value: object, place: str) -> Iterator[tuple[str, FunctionRef]]:
    if isinstance(value, FunctionRef):
        yield place, value
    elif isinstance(value, Mapping):
        for key, content in value.items():
            yield from _functions(content, f"{place}.{key}")
    elif isinstance(value, list):
        for content in value:
            yield from _functions(content, place)
