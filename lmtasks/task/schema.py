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
    """Its name, or the task's own code for one example."""
    aggregation: str | Code | None = None
    """How values of examples become one; none: as the metric implies."""
    higher_is_better: bool | None = None
    """Where the file says so itself."""
    hf_evaluate: bool = False
    """A metric of the package evaluate, which is not carried out here."""


class MetricWish(BaseModel):
    """One entry of our own `metrics`."""

    model_config = STRICT
    name: str
    """A line of `lmtasks list metrics`."""
    options: dict[str, object] = Field(default_factory=dict)
    """Its options; they stand in its signature."""


class FilterStepLine(BaseModel):
    """One step of a pipeline; keys beyond its function are options of it."""

    model_config = OPEN
    function: str | Code
    """`take_first`, `regex`, `majority_vote`, ..., or the task's own code."""


class FilterLine(BaseModel):
    """One pipeline of `filter_list`."""

    model_config = STRICT
    name: str
    """Stands behind the names of the metrics that it yields."""
    filter: list[FilterStepLine]
    """Its steps, in their order."""


class WindowsFile(BaseModel):
    """`windows`: how long texts are cut, for rolling likelihoods."""

    model_config = STRICT
    stride: int | None = Field(default=None, ge=1)
    """Tokens that each window after the first predicts, all else being context; none: as many as the model takes."""
    concatenate: bool = False
    """Score the rows as one running text; each row keeps its own numbers."""
    between: str = "\n\n"
    """Text between two rows of one running text."""


class CandidatesFile(BaseModel):
    """`candidates`: those of a ranking are drawn from other rows."""

    model_config = STRICT
    count: int = Field(ge=2)
    """Candidates of a row, the right one among them."""
    seed: int = 1234
    """Of the draw."""


class SourceFile(BaseModel):
    """One entry of `sources`: what is not given comes from the task's own data set, unless `path` names another."""

    model_config = STRICT
    path: str | None = None
    """Another data set, instead of `dataset_path`."""
    name: str | None = None
    """Its configuration."""
    split: str | None = None
    """The split's name there."""
    revision: str | None = None
    """A commit or branch of the Hub."""
    data_files: str | list[str] | dict[str, str | list[str]] | None = None
    """Files relative to the task file: one, a list, or by split."""


class PairsFile(BaseModel):
    """`pairs`: of rows of two texts that belong together, a half get the text of another row."""

    model_config = STRICT
    other: Name
    """The column, or a template, of the text that belongs to a row; pairs stand in the column `pair`, and whether they
    belong together in `same`, 1 or 0."""
    among: int = Field(default=20, ge=1)
    """Of so many texts of other rows, the one that is most like the row's own becomes the wrong one."""
    seed: int = 1234
    """Of the draw."""


class KeepFile(BaseModel):
    """`keep`: the rows of a data set that a task is about."""

    model_config = STRICT
    columns: dict[str, str | list[str]] = Field(default_factory=dict)
    """Column to its value, or to several of which it has one."""
    held_out: Name | None = None
    """Column with documents of which those that `pretrain` holds out are scored, and the others learned from."""


class CorpusFile(SourceFile):
    """`corpus`: texts among which a retrieval looks for the right ones; else they are those of the scored rows."""

    text: Name
    """The column, or a template."""


class ShotsFile(BaseModel):
    """`fewshot_config`."""

    model_config = STRICT
    sampler: str | Code = "default"
    """`default` (drawn), `first_n`, or the task's own code."""
    split: str | None = None
    """Split of the worked examples."""
    process_docs: Code | None = None
    """Code that changes their rows."""
    fewshot_indices: list[int] | None = None
    """Refused: lm-evaluation-harness reads and never uses it."""
    samples: list[dict[str, object]] | Code | None = None
    """The worked examples themselves, as rows."""
    doc_to_text: Text = None
    """Their wording, where it is not that of the question."""
    doc_to_target: Target = None
    """Their answer."""
    doc_to_choice: Choices = None
    """Their choices."""
    gen_prefix: str | None = None
    """The beginning of their answer."""
    fewshot_delimiter: str | None = None
    """Stands between two of them."""
    target_delimiter: str | None = None
    """Stands between question and answer of each."""


class TaskFile(BaseModel):
    """A task file, its includes merged."""

    model_config = STRICT

    # identity
    task: Name
    """Its name; a head that is adapted to it has the same."""
    task_alias: str | None = None
    """The name to show."""
    tag: Names = None
    """Names by which `--tasks` finds it together with others."""
    group: Names = None
    """The same, as older files write it."""
    metadata: dict[str, object] | None = None
    """`version` stands in results; all of it is handed to `custom_dataset`."""
    # where rows come from
    dataset_path: str | None = None
    """A Hub id, a folder, or `csv`, `json`, `parquet`, ... with `data_files`."""
    dataset_name: str | None = None
    """The configuration of the data set."""
    dataset_kwargs: dict[str, object] | None = None
    """`data_files`, `data_dir`, `revision`, and how text files are read: `sep`, `header`, `column_names`, `field`,
    `encoding`."""
    custom_dataset: Code | None = None
    """Code that yields the rows of all splits; needs `--trust-code`, as all code of a file does."""
    training_split: str | None = None
    """Rows to learn from."""
    validation_split: str | None = None
    """Rows that choices are made on; scored where there is no `test_split`."""
    test_split: str | None = None
    """Rows that are scored."""
    fewshot_split: str | None = None
    """Split of the worked examples; none: train, else validation, else the scored one."""
    process_docs: Code | None = None
    """Code that changes, leaves out or adds rows."""
    # what is asked
    doc_to_text: Text = None
    """The question that a prompted model reads: a column, a template, or code."""
    doc_to_target: Target = None
    """The right answer: a column, a template, or the place of the right choice."""
    doc_to_choice: Choices = None
    """The choices: a list, a column, a template, or code."""
    doc_to_image: str | list[object] | Code | None = None
    """Refused: the models here read text."""
    doc_to_audio: str | list[object] | Code | None = None
    """Refused: the models here read text."""
    use_prompt: str | None = None
    """Refused: a prompt of promptsource, which is no longer kept up."""
    description: str | None = None
    """Stands before everything that is asked."""
    gen_prefix: str | None = None
    """The beginning of the answer, given in the prompt."""
    target_delimiter: str = " "
    """Stands between question and answer."""
    fewshot_delimiter: str = "\n\n"
    """Stands between worked examples; where a task writes and names no `until`, it also ends an answer."""
    fewshot_config: ShotsFile | None = None
    """How worked examples are chosen and worded."""
    num_fewshot: int | None = Field(default=None, ge=0)
    """Worked examples before each question; 0 keeps `--num-fewshot` from adding any."""
    # how it is answered and scored
    output_type: OutputType | None = None
    """How a model is prompted; none: the kind's own way."""
    generation_kwargs: dict[str, object] | None = None
    """How texts are written: `until`, `max_gen_toks`, `num_beams`, `temperature`, ..."""
    repeats: int = Field(default=1, ge=1)
    """Answers that are written to each question."""
    filter_list: list[FilterLine] | None = None
    """Pipelines from the texts that a model wrote to the answer that is scored."""
    metric_list: list[MetricLine] | None = None
    """Metrics in lm-evaluation-harness' schema, with its meaning."""
    process_results: Code | None = None
    """Code that makes values of an answer."""
    unsafe_code: bool = False
    """What a model writes is run as code; refused without `--trust-code`."""
    should_decontaminate: bool = False
    """Read and not used, as in lm-evaluation-harness."""
    doc_to_decontamination_query: Text = None
    """Read and not used, as in lm-evaluation-harness."""
    task_list: list[object] | None = None
    """Refused: lm-evaluation-harness reads and drops it; write a group."""
    # ours
    about: str = ""
    """One line for people."""
    kind: KindName | None = None
    """What is asked, which says what else is needed; none: by `output_type`."""
    language: Name = "en"
    """Of the answers; some metrics and changes go by it."""
    inputs: dict[str, Name] = Field(default_factory=dict)
    """Role to column or template: what a head reads."""
    labels: list[Name] = Field(default_factory=list)
    """Names of the classes, in the order of their numbers where rows hold numbers."""
    scheme: SchemeName | None = None
    """Which tags may follow each other; none: what the training rows keep to."""
    metrics: list[str | MetricWish] | None = None
    """Our own metrics, the main one first; none: the kind's."""
    no_answer: str = ""
    """Of question answering: the answer that means none."""
    cluster: str | None = None
    """Column by which examples belong together; they are resampled together."""
    revision: Name | None = None
    """A commit or branch of the Hub, for all splits."""
    sources: dict[SplitName, SourceFile] = Field(default_factory=dict)
    """Splits that come from elsewhere."""
    windows: WindowsFile | None = None
    """How long texts are cut."""
    candidates: CandidatesFile | None = None
    """Wrong candidates of a ranking are drawn from other rows."""
    pairs: PairsFile | None = None
    """Pairs of which a half do not belong together are drawn from rows of two texts that do."""
    keep: KeepFile | None = None
    """Rows of a data set that the task is about; none: all."""
    corpus: CorpusFile | None = None
    """Texts among which a retrieval looks for the right ones; none: those of the scored rows."""


NESTED: Mapping[str, type[BaseModel]] = {
    "sources": SourceFile,
    "fewshot_config": ShotsFile,
    "metrics": MetricWish,
    "filter_list": FilterLine,
    "windows": WindowsFile,
    "candidates": CandidatesFile,
    "corpus": CorpusFile,
    "keep": KeepFile,
    "pairs": PairsFile,
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
