"""From the keys of a task file to a `Task`: defaults filled in, sources, metrics and decoding settled."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from lmtasks.errors import UsageError, unknown
from lmtasks.task.describe import describe
from lmtasks.task.functions import FunctionRef
from lmtasks.task.generation import generation_of
from lmtasks.task.metrics import metrics_of
from lmtasks.task.schema import ShotsFile, SourceFile, TaskFile
from lmtasks.task.task import OUTPUT_OF_KIND, SPLITS, Kind, OutputType, Source, SplitName, Task, Windows, infer_kind
from lmtasks.task.templates import Spec, Templates, Wording

ONLY_SHOWN = ("task_alias", "about", "tags")
"""Fields that people see and no score depends on; they do not enter the hash."""

CARRIED_OUT_KWARGS = ("data_files", "revision", "trust_remote_code", "streaming", "verification_mode")
"""`dataset_kwargs` that are followed, or that change nothing."""


def resolve(file: TaskFile, *, path: Path | None, base: Path | None, need_scored: bool = True) -> Task:
    """The task that a file describes.

    Args:
        base: the folder that its data files are relative to.
        need_scored: refuse a task without a split to score; one's own training data has none.

    Raises:
        UsageError: no split can be scored, or a setting is out of range.
    """
    kind = infer_kind(kind=file.kind, output_type=file.output_type)
    output_type = file.output_type or (OUTPUT_OF_KIND[file.kind] if file.kind else "generate_until")
    labels = _labels(file, kind=kind)
    sources = _sources(file, base=base, need_scored=need_scored)
    shots = file.fewshot_config or ShotsFile()
    shot_rows = tuple(shots.samples) if isinstance(shots.samples, list) and shots.split is None else ()
    metrics, metrics_not_yet = metrics_of(file, kind=kind, output_type=output_type)
    generation, generation_not_yet = generation_of(file.generation_kwargs, delimiter=file.fewshot_delimiter)
    templates = _templates(file, kind=kind, output_type=output_type, labels=labels, shots=shots)
    task = Task(
        name=file.task,
        alias=file.task_alias or file.task,
        about=file.about,
        kind=kind,
        language=file.language,
        output_type=output_type,
        sources=sources,
        inputs=dict(file.inputs),
        labels=labels,
        metrics=metrics,
        generation=generation,
        num_fewshot=file.num_fewshot or 0,
        zero_shot_only=file.num_fewshot == 0,
        target_delimiter=file.target_delimiter,
        fewshot_delimiter=file.fewshot_delimiter,
        description=file.description or "",
        templates=templates,
        no_answer=file.no_answer,
        shots=None if shot_rows else _shots_source(file, shots=shots, sources=sources, base=base),
        shot_rows=shot_rows,
        shot_order=_shot_order(file, shots),
        windows=_windows(file, output_type=output_type),
        not_yet=(*_not_yet(file, shots), *metrics_not_yet, *generation_not_yet),
        tags=tuple(dict.fromkeys([*_listed(file.tag), *_listed(file.group)])),
        hash="",
        file=path,
        fields={},
        version=str((file.metadata or {}).get("version", "1")),
    )
    return _with_fields(task, raw=file)


def _labels(file: TaskFile, *, kind: Kind) -> tuple[str, ...]:
    """Class names. A classification file may give only `doc_to_choice`; then the choices are the names."""
    if file.labels or kind != "classification":
        return tuple(file.labels)
    choices = file.doc_to_choice
    if isinstance(choices, dict):
        return tuple(choices.values())
    return tuple(choices) if isinstance(choices, list) else ()


def _templates(
    file: TaskFile, *, kind: Kind, output_type: OutputType, labels: tuple[str, ...], shots: ShotsFile
) -> Templates:
    choices = _spec(file.doc_to_choice)
    if choices is None and kind == "classification" and output_type == "multiple_choice" and labels:
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


def _sources(file: TaskFile, *, base: Path | None, need_scored: bool) -> dict[SplitName, Source]:
    """The source of each split. lm-evaluation-harness' rule: `test_split` is scored, else `validation_split`."""
    named = {"train": file.training_split, "validation": file.validation_split, "test": file.test_split}
    found: dict[SplitName, Source] = {}
    for split in SPLITS:
        override = file.sources.get(split)
        if override is not None or named[split] is not None:
            found[split] = _source(file, override or SourceFile(), split=named[split] or split, base=base)
    if "test" not in found and need_scored:
        if "validation" not in found:
            raise UsageError(
                f"task {file.task} names no split to score; set test_split or validation_split "
                "(or sources: {test: ...})."
            )
        found["test"] = found.pop("validation")
    return found


def _source(file: TaskFile, override: SourceFile, *, split: str, base: Path | None) -> Source:
    path = override.path or file.dataset_path
    kwargs = file.dataset_kwargs or {}
    if path is None:
        if file.custom_dataset is None:
            raise UsageError(f"task {file.task} names no data: set dataset_path (or a path in sources).")
        path = f"!function {file.custom_dataset.qualified}"
    same = override.path is None or override.path == file.dataset_path
    revision = kwargs.get("revision")
    return Source(
        path=path,
        name=override.name or (file.dataset_name if same else None),
        split=override.split or split,
        revision=override.revision or ((file.revision or (str(revision) if revision else None)) if same else None),
        data_files=_data_files(override.data_files or (kwargs.get("data_files") if same else None)),
        base=base,
    )


def _data_files(value: object) -> Mapping[str, object] | None:
    """As `datasets` reads it: files without a split's name are the split `train`."""
    if value is None:
        return None
    return {str(key): files for key, files in value.items()} if isinstance(value, Mapping) else {"train": value}


def _shots_source(
    file: TaskFile, *, shots: ShotsFile, sources: Mapping[SplitName, Source], base: Path | None
) -> Source:
    """Where worked examples come from: `fewshot_split`, else train, else validation, else the scored split."""
    named = shots.split or file.fewshot_split
    if named is None:
        return sources.get("train") or sources.get("validation") or next(iter(sources.values()))
    known = {"train": file.training_split, "validation": file.validation_split, "test": file.test_split}
    for split, source in sources.items():
        if named in (known[split], source.split):
            return source
    return _source(file, SourceFile(), split=named, base=base)


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
    return Windows(stride=file.windows.stride, concatenate=file.windows.concatenate)


def _not_yet(file: TaskFile, shots: ShotsFile) -> tuple[str, ...]:
    """Fields that would change scores and that nothing carries out yet. Take one out when it works."""
    plain_filter = file.filter_list is None or all(
        [step.get("function") for step in line.filter] in (["take_first"], []) for line in file.filter_list
    )
    reasons = {
        "custom_dataset": file.custom_dataset is not None,
        "process_docs": file.process_docs is not None,
        "process_results": file.process_results is not None,
        "doc_to_image": file.doc_to_image is not None,
        "doc_to_audio": file.doc_to_audio is not None,
        "use_prompt": file.use_prompt is not None,
        "unsafe_code": file.unsafe_code,
        "repeats": file.repeats != 1,
        "filter_list": not plain_filter,
        "fewshot_config.sampler": isinstance(shots.sampler, FunctionRef),
        "fewshot_config.samples": isinstance(shots.samples, FunctionRef),
        "fewshot_config.process_docs": shots.process_docs is not None,
    }
    kwargs = [f"dataset_kwargs.{key}" for key in file.dataset_kwargs or {} if key not in CARRIED_OUT_KWARGS]
    return (*(name for name, used in reasons.items() if used), *kwargs)


def _listed(names: str | list[str] | None) -> list[str]:
    return [names] if isinstance(names, str) else list(names or [])


def _with_fields(task: Task, *, raw: TaskFile) -> Task:
    """The task with its resolved fields and their hash."""
    fields = describe(task, raw=raw)
    hashed = {key: value for key, value in fields.items() if key not in ONLY_SHOWN}
    text = json.dumps(hashed, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return replace(task, fields=fields, hash=hashlib.sha256(text.encode()).hexdigest()[:16])
