"""A task's resolved fields, ready for JSON: what a score record keeps, and what the task's hash is made of.

Two files that mean the same get the same fields: a default that is written out, another order of keys, or another
folder change nothing.
"""

from collections.abc import Mapping
from dataclasses import asdict

from pydantic import BaseModel

from lmtasks.task.functions import FunctionRef
from lmtasks.task.schema import TaskFile
from lmtasks.task.task import Source, Task, Windows
from lmtasks.task.templates import Wording

KEPT_AS_WRITTEN = (
    "custom_dataset",
    "process_docs",
    "process_results",
    "doc_to_image",
    "doc_to_audio",
    "use_prompt",
    "filter_list",
    "repeats",
    "dataset_kwargs",
    "generation_kwargs",
    "fewshot_config",
    "metric_list",
)
"""Fields kept word by word where something in them is not carried out yet."""


def describe(task: Task, *, raw: TaskFile) -> dict[str, object]:
    """Every field that a score can depend on, and those that people see."""
    fields: dict[str, object] = {
        "task": task.name,
        "task_alias": task.alias,
        "about": task.about,
        "tags": list(task.tags),
        "version": task.version,
        "kind": task.kind,
        "language": task.language,
        "output_type": task.output_type,
        "sources": {split: _source(source) for split, source in task.sources.items()},
        "inputs": dict(task.inputs),
        "labels": list(task.labels),
        "metrics": [{"name": use.name, "options": to_json(use.options)} for use in task.metrics],
        "description": task.description,
        **_wording(task.templates.asked),
        "num_fewshot": task.num_fewshot,
        "fewshot": {
            **_wording(task.templates.shot),
            "source": None if task.shots is None else _source(task.shots),
            "rows": to_json(task.shot_rows),
            "order": task.shot_order,
        },
        "no_answer": task.no_answer,
    }
    if task.output_type == "generate_until":
        fields["generation"] = to_json(asdict(task.generation))
    if task.windows != Windows():
        fields["windows"] = asdict(task.windows)
    if task.not_yet:
        written = {key: value for key, value in raw if key in KEPT_AS_WRITTEN and value is not None}
        fields["not_yet"] = {"fields": list(task.not_yet), "written": to_json(written)}
    return fields


def to_json(value: object) -> object:
    """The value as JSON has it; code as its name and the hash of its file."""
    if isinstance(value, FunctionRef):
        return value.describe()
    if isinstance(value, BaseModel):
        return {key: to_json(content) for key, content in value if content is not None}
    if isinstance(value, Mapping):
        return {str(key): to_json(content) for key, content in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_json(content) for content in value]
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)


def _source(source: Source) -> dict[str, object]:
    fields = {"path": source.path, "name": source.name, "split": source.split, "revision": source.revision}
    return {**fields, "data_files": to_json(source.data_files)}


def _wording(wording: Wording) -> dict[str, object]:
    return {
        "doc_to_text": to_json(wording.question),
        "doc_to_target": to_json(wording.target),
        "doc_to_choice": to_json(wording.choices),
        "gen_prefix": wording.prefix,
        "target_delimiter": wording.target_delimiter,
        "fewshot_delimiter": wording.fewshot_delimiter,
    }
