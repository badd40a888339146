"""Were two stored results got under the same conditions? Numbers that were not are not compared.

The scored rows, what was asked about them, and how each metric computes must be the same. How a model answers (its
weights, runtime, decoding, its own chat template) is what is compared, and may differ. A model that answers by a head
reads no prompt, so that prompts matter only where both sides were prompted.
"""

from collections.abc import Iterator, Mapping

from lmtasks.evaluation.write import StoredTask

OF_THE_PROMPT: Mapping[str, str] = {
    "num_fewshot": "number of worked examples",
    "shots_fingerprint": "pool of worked examples",
    "fewshot_stream": "draw of worked examples",
    "chat": "use of a chat template",
    "chat.fewshot_as_multiturn": "form of worked examples in the chat",
    "chat.system_instruction": "system instruction",
}
"""Conditions of prompted results to their names."""


def differences(a: StoredTask, b: StoredTask) -> list[str]:
    """Differences that keep two results of one task from being compared, a part of a sentence each."""
    return [*_conditions(a, b), *_signatures(a, b)]


def _conditions(a: StoredTask, b: StoredTask) -> Iterator[str]:
    # Task files may differ in what is made of the answers; the metrics' signatures tell whether that matters.
    task = "asked_hash" if _has(a, "asked_hash") and _has(b, "asked_hash") else "task_hash"
    fields = {task: "task file", "data_fingerprint": "data"}
    if _condition(a, "prompt_way") == _condition(b, "prompt_way") == "prompt":
        fields |= OF_THE_PROMPT
        if _condition(a, "num_fewshot"):
            fields["seed"] = "seed of the worked examples"
    for field, name in fields.items():
        mine, theirs = _condition(a, field), _condition(b, field)
        if mine != theirs:
            where = _differing(a, b) if field == task else ""
            yield f"{a.name} has another {name} ({_formatted(mine)} and {_formatted(theirs)}; condition {field}){where}"


def _differing(a: StoredTask, b: StoredTask) -> str:
    """Which fields of the task file differ, where both results kept a hash of each; else nothing."""
    mine, theirs = _fields(a), _fields(b)
    named = [key for key in sorted({*mine, *theirs}) if mine.get(key) != theirs.get(key)]
    return f" in {', '.join(named)}" if mine and theirs and named else ""


def _fields(task: StoredTask) -> Mapping[str, object]:
    found = task.scores.conditions.get("asked_fields")
    return found if isinstance(found, Mapping) else {}


def _signatures(a: StoredTask, b: StoredTask) -> Iterator[str]:
    for metric in a.metrics:
        if metric in b.metrics and a.metrics[metric].signature != b.metrics[metric].signature:
            yield (
                f"{metric} of {a.name} has another signature ({a.metrics[metric].signature} and "
                f"{b.metrics[metric].signature})"
            )


def _has(task: StoredTask, field: str) -> bool:
    return _condition(task, field) is not None


def _condition(task: StoredTask, field: str) -> object:
    """A condition by its path; of a group of them, whether it is there."""
    found: object = task.scores.conditions
    for part in field.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return "set" if isinstance(found, Mapping) else found


def _formatted(value: object) -> str:
    return "none" if value is None else str(value)
