"""From the keys of a task file to a `Task`: defaults filled in; sources (with `dataset_kwargs`), metrics and decoding
settled."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from lmtasks.errors import UsageError, unknown
from lmtasks.tag_scheme import SchemeName
from lmtasks.task.aliases import current
from lmtasks.task.describe import with_fields
from lmtasks.task.filters import check_filters
from lmtasks.task.functions import FunctionRef
from lmtasks.task.generation import generation_of
from lmtasks.task.kinds import KINDS, TaskKind, infer_kind
from lmtasks.task.kinds.classification import PAIR, SAME
from lmtasks.task.metrics import metrics_of
from lmtasks.task.schema import ShotsFile, SourceFile, TaskFile, refuse_fields
from lmtasks.task.task import (
    SPLITS,
    Candidates,
    CorpusSource,
    DrawnPairs,
    FilterPipeline,
    FilterStep,
    KeptRows,
    MadeBy,
    OutputType,
    ReaderOptions,
    Source,
    SplitName,
    Task,
    Windows,
)
from lmtasks.task.templates import Spec, Templates, Wording

CARRIED_OUT = (
    "data_files",
    "data_dir",
    "revision",
    "column_names",
    "header",
    "names",
    "sep",
    "delimiter",
    "field",
    "encoding",
)
HARMLESS = (
    "trust_remote_code",
    "streaming",
    "verification_mode",
    "download_mode",
    "keep_in_memory",
    "num_proc",
    "cache_dir",
)
"""`dataset_kwargs` that say how data is fetched and kept; the rows are the same."""
REFUSED: Mapping[str, str] = {
    "split": "leaves lm-evaluation-harness without splits to choose from; name test_split and the like",
    "features": "changes the types of columns; process_docs can do that",
    "token": "is a secret, which does not belong in a file; set HF_TOKEN",
    "use_auth_token": "is a secret, which does not belong in a file; set HF_TOKEN",
    "name": "stands in dataset_name",
    "path": "stands in dataset_path",
}
DEFAULT_FILTERS = (FilterPipeline(name="none", steps=(FilterStep(function="take_first"),)),)
"""What lm-evaluation-harness does without `filter_list`."""


def resolve(file: TaskFile, *, path: Path | None, base: Path | None, need_scored: bool = True) -> Task:
    """The task that a file describes.

    Args:
        base: the folder that its data files are relative to.
        need_scored: refuse a task without a split to score; one's own training data has none.

    Raises:
        UsageError: no split can be scored, or a setting is out of range.
    """
    kind = KINDS.line(infer_kind(kind=file.kind, output_type=file.output_type))
    output_type = file.output_type or kind.output_types[0]
    labels = _labels(file, kind=kind)
    sources = sources_of(file, base=base, need_scored=need_scored)
    shots = file.fewshot_config or ShotsFile()
    own = _shot_split(file, shots) is None
    shot_rows = tuple(shots.samples) if isinstance(shots.samples, list) and own else ()
    samples = shots.samples if isinstance(shots.samples, FunctionRef) and own else None
    refuse_fields(file, shots)
    filters = _filters(file, output_type=output_type)
    templates = _templates(file, kind=kind, output_type=output_type, labels=labels, shots=shots)
    metrics = metrics_of(file, kind=kind, output_type=output_type)
    task = Task(
        name=file.task,
        alias=file.task_alias or file.task,
        about=file.about,
        kind=kind.name,
        language=file.language,
        output_type=output_type,
        sources=sources,
        inputs=dict(file.inputs),
        labels=labels,
        scheme=_scheme(file, kind=kind),
        candidates=_candidates(file, kind=kind),
        pairs=_pairs(file, kind=kind),
        keep=_keep(file),
        corpus=_corpus(file, kind=kind, base=base),
        metrics=metrics.uses,
        generation=generation_of(file.generation_kwargs, delimiter=file.fewshot_delimiter),
        num_fewshot=file.num_fewshot or 0,
        zero_shot_only=file.num_fewshot == 0,
        target_delimiter=file.target_delimiter,
        fewshot_delimiter=file.fewshot_delimiter,
        description=file.description or "",
        templates=templates,
        no_answer=file.no_answer,
        shots=None if shot_rows or samples else _shots_source(file, shots=shots, sources=sources, base=base),
        shot_rows=shot_rows,
        shot_order=_shot_order(file, shots),
        shot_samples=samples,
        shot_sampler=shots.sampler if isinstance(shots.sampler, FunctionRef) else None,
        shots_may_be_asked=_shot_split(file, shots) == file.test_split,
        shot_docs=_shot_docs(file, shots),
        process_docs=file.process_docs,
        process_results=file.process_results,
        filters=filters,
        repeats=file.repeats,
        cluster=file.cluster,
        windows=_windows(file, output_type=output_type),
        tags=tuple(dict.fromkeys([*_listed(file.tag), *_listed(file.group)])),
        notes=metrics.notes,
        hash="",
        file=path,
        fields={},
        version=str((file.metadata or {}).get("version", "1")),
    )
    return with_fields(task)


def _labels(file: TaskFile, *, kind: TaskKind) -> tuple[str, ...]:
    """Class names. A classification file may give only `doc_to_choice`; then the choices are the names."""
    if file.labels or kind.answer != "label":
        return tuple(file.labels)
    choices = file.doc_to_choice
    if isinstance(choices, dict):
        return tuple(choices.values())
    return tuple(choices) if isinstance(choices, list) else ()


def _candidates(file: TaskFile, *, kind: TaskKind) -> Candidates | None:
    if file.candidates is None:
        return None
    if "candidates" not in kind.roles:
        raise UsageError(f"task {file.task}: candidates are those of a ranking, and a {kind.name} task has none.")
    if file.inputs.get("candidates") != "candidates":
        raise UsageError(
            f"task {file.task}: drawn candidates stand in a column of that name; write inputs: {{candidates: "
            "candidates}."
        )
    return Candidates(count=file.candidates.count, seed=file.candidates.seed)


def _pairs(file: TaskFile, *, kind: TaskKind) -> DrawnPairs | None:
    if file.pairs is None:
        return None
    if kind.answer != "label" or file.inputs.get("pair") != PAIR or file.inputs.get("label") != SAME:
        raise UsageError(
            f"task {file.task}: drawn pairs are classified, and stand in columns of their own; write kind: "
            f"classification, inputs: {{text: ..., pair: {PAIR}, label: {SAME}}}, labels: [different, same]."
        )
    return DrawnPairs(other=file.pairs.other, among=file.pairs.among, seed=file.pairs.seed)


def _keep(file: TaskFile) -> KeptRows | None:
    if file.keep is None:
        return None
    columns = {name: tuple(_listed(values)) for name, values in file.keep.columns.items()}
    if not columns and file.keep.held_out is None:
        raise UsageError(f"task {file.task}: keep names neither columns nor held_out; leave it out, and all rows stay.")
    return KeptRows(columns=columns, held_out=file.keep.held_out or "")


def _corpus(file: TaskFile, *, kind: TaskKind, base: Path | None) -> CorpusSource | None:
    if file.corpus is None:
        return None
    if kind.answer != "ranks":
        raise UsageError(f"task {file.task}: a corpus is what a retrieval looks in, and a {kind.name} task has none.")
    return CorpusSource(source=source_of(file, file.corpus, split="train", base=base), text=file.corpus.text)


def _scheme(file: TaskFile, *, kind: TaskKind) -> SchemeName | None:
    if file.scheme is not None and kind.answer != "tags":
        raise UsageError(f"task {file.task}: scheme is one of tags, and a {kind.name} task has none.")
    return file.scheme


def _templates(
    file: TaskFile, *, kind: TaskKind, output_type: OutputType, labels: tuple[str, ...], shots: ShotsFile
) -> Templates:
    choices = _spec(file.doc_to_choice)
    if choices is None and kind.answer == "label" and output_type == "multiple_choice" and labels:
        choices = labels
    question, target = _spec(file.doc_to_text), _spec(file.doc_to_target)
    if kind.wording is not None:
        own = [_spec(file.inputs.get(role)) for role in kind.wording]
        question, choices, target = _or(question, own[0]), _or(choices, own[1]), _or(target, own[2])
    if kind.prompted_roles and question is None:
        question = ""
    if kind.prompted_roles and "references" not in kind.prompted_roles and target is None:
        target = ""
    if output_type == "loglikelihood_rolling":
        question = "" if question is None else question
        target = file.inputs.get("text") if target is None else target
    asked = Wording(
        question=question,
        target=target,
        choices=choices,
        prefix=file.gen_prefix,
        target_delimiter=file.target_delimiter,
        fewshot_delimiter=file.fewshot_delimiter,
    )
    shot = Wording(
        question=_or(_spec(shots.doc_to_text), asked.question),
        target=_or(_spec(shots.doc_to_target), asked.target),
        choices=_or(_spec(shots.doc_to_choice), asked.choices),
        prefix=asked.prefix if shots.gen_prefix is None else shots.gen_prefix,
        target_delimiter=asked.target_delimiter if shots.target_delimiter is None else shots.target_delimiter,
        fewshot_delimiter=asked.fewshot_delimiter if shots.fewshot_delimiter is None else shots.fewshot_delimiter,
    )
    return Templates(asked=asked, shot=shot, description=file.description or "")


def _spec(value: object) -> Spec:
    if isinstance(value, dict):
        return tuple(value.values())
    if isinstance(value, list):
        return tuple(value)
    return value if isinstance(value, str | int | FunctionRef) else None


def _or(value: Spec, fallback: Spec) -> Spec:
    return fallback if value is None else value


def _shots_source(
    file: TaskFile, *, shots: ShotsFile, sources: Mapping[SplitName, Source], base: Path | None
) -> Source:
    """Where worked examples come from: `fewshot_split`, else train, else validation, else the scored split."""
    named = _shot_split(file, shots)
    if named is None:
        return sources.get("train") or sources.get("validation") or next(iter(sources.values()))
    known = {"train": file.training_split, "validation": file.validation_split, "test": file.test_split}
    for split, source in sources.items():
        if named in (known[split], source.split):
            return source
    return source_of(file, SourceFile(), split=named, base=base)


def _shot_split(file: TaskFile, shots: ShotsFile) -> str | None:
    """Where worked examples come from, as it is written."""
    return shots.split or file.fewshot_split


def _shot_docs(file: TaskFile, shots: ShotsFile) -> FunctionRef | None:
    """lm-evaluation-harness' rule: a hook of `fewshot_config` alone needs a split that is named."""
    if shots.process_docs is not None and _shot_split(file, shots) is None:
        raise UsageError(
            f"task {file.task}: fewshot_config.process_docs needs a split to work on; name it in fewshot_config.split."
        )
    return shots.process_docs or file.process_docs


def _shot_order(file: TaskFile, shots: ShotsFile) -> Literal["random", "first"]:
    if shots.sampler == "default" or isinstance(shots.sampler, FunctionRef):
        return "random"
    if shots.sampler == "first_n":
        return "first"
    raise unknown(f"fewshot_config.sampler of task {file.task}", shots.sampler, ("default", "first_n"))


def _windows(file: TaskFile, *, output_type: OutputType) -> Windows:
    if file.windows is None:
        return Windows()
    if output_type != "loglikelihood_rolling":
        raise UsageError(f"windows cut texts of rolling likelihoods; the output_type of {file.task} is {output_type}.")
    return Windows(stride=file.windows.stride, concatenate=file.windows.concatenate, between=file.windows.between)


def _filters(file: TaskFile, *, output_type: OutputType) -> tuple[FilterPipeline, ...]:
    """The pipelines; none for lm-evaluation-harness' default, the first answer as it is."""
    pipelines = tuple(
        FilterPipeline(
            name=line.name,
            steps=tuple(
                FilterStep(function=step.function, options=dict(step.model_extra or {})) for step in line.filter
            ),
        )
        for line in file.filter_list or ()
    )
    check_filters(pipelines, task=file.task)
    for pipeline in pipelines:
        for step in pipeline.steps:
            if output_type != "generate_until" and step.function != "take_first":
                raise UsageError(
                    f"task {file.task}: the filter {pipeline.name} works on texts, and {output_type} yields "
                    "log-probabilities; take it out."
                )
    return () if pipelines == DEFAULT_FILTERS else pipelines


def _listed(names: str | list[str] | None) -> list[str]:
    return [names] if isinstance(names, str) else list(names or [])


def sources_of(file: TaskFile, *, base: Path | None, need_scored: bool) -> dict[SplitName, Source]:
    """The source of each split. lm-evaluation-harness' rule: `test_split` is scored, else `validation_split`.

    Args:
        base: the folder that data files are relative to.

    Raises:
        UsageError: no data is named, no split can be scored, or an option is not carried out.
    """
    named = {"train": file.training_split, "validation": file.validation_split, "test": file.test_split}
    found: dict[SplitName, Source] = {}
    for split in SPLITS:
        override = file.sources.get(split)
        if override is not None or named[split] is not None:
            found[split] = source_of(file, override or SourceFile(), split=named[split] or split, base=base)
    if "test" not in found and need_scored:
        if "validation" not in found:
            raise UsageError(
                f"task {file.task} names no split to score; set test_split or validation_split "
                "(or sources: {test: ...})."
            )
        found["test"] = found.pop("validation")
    return found


def source_of(file: TaskFile, override: SourceFile, *, split: str, base: Path | None) -> Source:
    """The source of one split.

    Raises:
        UsageError: no data is named, or an option is not carried out.
    """
    path = override.path or file.dataset_path
    if file.custom_dataset is not None and override.path is None:
        return Source(
            path=f"!function {file.custom_dataset.qualified}",
            split=override.split or split,
            made_by=MadeBy(
                function=file.custom_dataset, options={**(file.metadata or {}), **(file.dataset_kwargs or {})}
            ),
            base=base,
        )
    if path is None:
        raise UsageError(f"task {file.task} names no data: set dataset_path (or a path in sources).")
    same = override.path is None or override.path == file.dataset_path
    kwargs = _kwargs(file) if same else {}
    revision = kwargs.get("revision")
    data_dir = kwargs.get("data_dir")
    return Source(
        path=current(path),
        name=override.name or (file.dataset_name or None if same else None),
        split=override.split or split,
        revision=override.revision or ((file.revision or (str(revision) if revision else None)) if same else None),
        data_files=_data_files(override.data_files or kwargs.get("data_files")),
        data_dir=None if data_dir is None else str(data_dir),
        reading=_reading(kwargs, task=file.task),
        base=base,
    )


def _kwargs(file: TaskFile) -> Mapping[str, object]:
    kwargs = file.dataset_kwargs or {}
    for key in kwargs:
        if key in REFUSED:
            raise UsageError(f"task {file.task}: dataset_kwargs.{key} {REFUSED[key]}.")
        if key not in CARRIED_OUT and key not in HARMLESS:
            hint = "Others are settings of a data set's own loading script, which is not run."
            raise unknown(f"key of dataset_kwargs of task {file.task}", key, (*CARRIED_OUT, *HARMLESS), hint=hint)
    return kwargs


def _data_files(value: object) -> Mapping[str, object] | None:
    """As `datasets` reads it: files without a split's name are the split `train`."""
    if value is None:
        return None
    return {str(key): files for key, files in value.items()} if isinstance(value, Mapping) else {"train": value}


def _reading(kwargs: Mapping[str, object], *, task: str) -> ReaderOptions | None:
    names = kwargs.get("column_names", kwargs.get("names"))
    if names is not None and not isinstance(names, list):
        raise UsageError(f"task {task}: dataset_kwargs.column_names must be a list of names, was: {names!r}.")
    header = kwargs.get("header", "infer")
    if header not in (None, 0, "infer"):
        raise UsageError(
            f"task {task}: dataset_kwargs.header must be null (no header) or 0 (the first line), was: {header!r}."
        )
    delimiter, field = kwargs.get("sep", kwargs.get("delimiter")), kwargs.get("field")
    encoding = kwargs.get("encoding")
    # As pandas has it: with names of its own and no word on a header, the first line is a row.
    headed = header == 0 or (header == "infer" and names is None)
    options = ReaderOptions(
        column_names=None if names is None else tuple(map(str, names)),
        header=headed,
        delimiter=None if delimiter is None else str(delimiter),
        field=None if field is None else str(field),
        encoding=None if encoding is None else str(encoding),
    )
    if options.column_names is None and not options.header:
        raise UsageError(f"task {task}: dataset_kwargs.header is null, so column_names must name the columns.")
    return None if options == ReaderOptions() else options
