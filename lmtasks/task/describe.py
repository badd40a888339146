"""A task's resolved fields, ready for JSON: what a score record keeps, and what the task's hash is made of.

Two files that mean the same get the same fields: a default that is written out, another order of keys, or another
folder change nothing.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, replace

from lmtasks.records import GENERATION_DEFAULTS
from lmtasks.settings.generation import Decoding
from lmtasks.task.functions import FunctionRef
from lmtasks.task.task import FilterStep, MetricUse, ReaderOptions, Source, Task, Windows
from lmtasks.task.templates import Wording

ALWAYS: Mapping[str, object] = {"top_k": 0, "top_p": 1.0, "num_beams": 1, "repetition_penalty": 1.0}
"""Settings of generation that stand in the fields whatever a file says, as older versions had them where it says
nothing. Others stand there only where it says something else than transformers does unasked."""
LEFT_OUT = ("insists", "room_tokens")
OWN = ("max_new_tokens", "stop", "temperature", "seed", *ALWAYS)
"""Settings that stand there with any value."""
ONLY_SHOWN = ("task_alias", "about", "tags")
"""Fields that people see and no score depends on; they do not enter the hash."""


def with_fields(task: Task) -> Task:
    """The task with its resolved fields and their hash."""
    fields = describe(task)
    hashed = {key: value for key, value in fields.items() if key not in ONLY_SHOWN}
    text = json.dumps(hashed, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return replace(task, fields=fields, hash=hashlib.sha256(text.encode()).hexdigest()[:16])


def describe(task: Task) -> dict[str, object]:
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
        "metrics": [_metric(use) for use in task.metrics],
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
        fields["generation"] = _generation(task.generation)
    # What most tasks do not have stands in the fields of those alone that have it, so that hashes of old files stay.
    hooks = {
        "process_docs": task.process_docs,
        "process_results": task.process_results,
        "shot_docs": task.shot_docs,
        "shot_samples": task.shot_samples,
        "shot_sampler": task.shot_sampler,
    }
    fields |= {name: to_json(hook) for name, hook in hooks.items() if hook is not None}
    if task.clean is not None:
        fields["clean"] = task.clean.hash
    if task.filters:
        fields["filters"] = [
            {"name": line.name, "steps": [{"function": to_json(s.function), **_options(s)} for s in line.steps]}
            for line in task.filters
        ]
    if task.repeats != 1:
        fields["repeats"] = task.repeats
    if task.candidates is not None:
        fields["candidates"] = asdict(task.candidates)
    if task.pairs is not None:
        fields["pairs"] = asdict(task.pairs)
    if task.keep is not None:
        fields["keep"] = to_json(asdict(task.keep))
    if task.corpus is not None:
        fields["corpus"] = {**_source(task.corpus.source), "text": task.corpus.text}
    if task.scheme is not None:
        fields["scheme"] = task.scheme
    if task.cluster is not None:
        fields["cluster"] = task.cluster
    if task.windows != Windows():
        fields["windows"] = asdict(task.windows)
    return fields


def _options(step: FilterStep) -> dict[str, object]:
    return {"options": to_json(step.options)} if step.options else {}


def _metric(use: MetricUse) -> dict[str, object]:
    fields: dict[str, object] = {"name": use.name, "options": to_json(use.options)}
    if use.function is not None:
        fields["function"] = to_json(use.function)
    if use.aggregation is not None:
        fields["aggregation"] = to_json(use.aggregation)
    return fields


def _generation(settings: Decoding) -> object:
    stated = asdict(settings) if settings.temperature is not None else {**asdict(settings), "temperature": 1.0}
    given = {name: value for name, value in stated.items() if value is not None and name not in LEFT_OUT}
    usual = asdict(GENERATION_DEFAULTS)
    return to_json({**ALWAYS, **{name: value for name, value in given.items() if name in OWN or value != usual[name]}})


def to_json(value: object) -> object:
    """The value as JSON has it; code as its name and the hash of its file."""
    if isinstance(value, FunctionRef):
        return value.describe()
    if isinstance(value, Mapping):
        return {str(key): to_json(content) for key, content in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_json(content) for content in value]
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)


def _source(source: Source) -> dict[str, object]:
    fields: dict[str, object] = {
        "path": source.path,
        "name": source.name,
        "split": source.split,
        "revision": source.revision,
    }
    fields |= {"data_files": to_json(source.data_files)}
    added = {
        "data_dir": source.data_dir,
        "reading": None if source.reading is None else _reading(source.reading),
        "made_by": None
        if source.made_by is None
        else {"function": to_json(source.made_by.function), "options": to_json(source.made_by.options)},
        "rows": None if source.held is None else source.held.fingerprint,
        "stands_for": source.stands_for,
        "part": None if source.part is None else to_json(asdict(source.part)),
        "changed": None if source.changed is None else to_json(asdict(source.changed)),
    }
    return {**fields, **{name: value for name, value in added.items() if value is not None}}


def _reading(reading: ReaderOptions) -> object:
    """An encoding stands there only where one is given: older files have none."""
    given = asdict(reading)
    return to_json({name: value for name, value in given.items() if name != "encoding" or value is not None})


def _wording(wording: Wording) -> dict[str, object]:
    return {
        "doc_to_text": to_json(wording.question),
        "doc_to_target": to_json(wording.target),
        "doc_to_choice": to_json(wording.choices),
        "gen_prefix": wording.prefix,
        "target_delimiter": wording.target_delimiter,
        "fewshot_delimiter": wording.fewshot_delimiter,
    }
