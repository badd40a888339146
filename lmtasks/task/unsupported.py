"""Fields of lm-evaluation-harness' task files that are known and not carried out, each with its reason."""

from collections.abc import Iterator, Mapping

from lmtasks.errors import UsageError
from lmtasks.task.functions import FunctionRef
from lmtasks.task.schema import ShotsFile, TaskFile
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
