"""From the keys of a task file to a `Task`: defaults filled in, sources, metrics and decoding settled."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from lmtasks.errors import UsageError, unknown
from lmtasks.task.describe import describe
from lmtasks.task.filters import check_filters
from lmtasks.task.functions import FunctionRef
from lmtasks.task.generation import generation_of
from lmtasks.task.kinds import KINDS, TaskKind, infer_kind
from lmtasks.task.metrics import metrics_of
from lmtasks.task.schema import ShotsFile, SourceFile, TaskFile
from lmtasks.task.sources import source_of, sources_of
from lmtasks.task.task import FilterPipeline, FilterStep, OutputType, Source, SplitName, Task, Windows
from lmtasks.task.templates import Spec, Templates, Wording
from lmtasks.task.unsupported import refuse_fields

ONLY_SHOWN = ("task_alias", "about", "tags")
"""Fields that people see and no score depends on; they do not enter the hash."""

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


def _templates(
    file: TaskFile, *, kind: TaskKind, output_type: OutputType, labels: tuple[str, ...], shots: ShotsFile
) -> Templates:
    choices = _spec(file.doc_to_choice)
    if choices is None and kind.answer == "label" and output_type == "multiple_choice" and labels:
        choices = labels
    question, target = _spec(file.doc_to_text), _spec(file.doc_to_target)
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


def with_fields(task: Task) -> Task:
    """The task with its resolved fields and their hash."""
    fields = describe(task)
    hashed = {key: value for key, value in fields.items() if key not in ONLY_SHOWN}
    text = json.dumps(hashed, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return replace(task, fields=fields, hash=hashlib.sha256(text.encode()).hexdigest()[:16])
