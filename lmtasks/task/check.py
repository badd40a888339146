"""Does a task make sense as a whole? Each rule is one question with one sentence for an answer."""

from collections.abc import Iterator, Mapping

from lmtasks.errors import UsageError, unknown
from lmtasks.task.kinds import kind_of
from lmtasks.task.task import Task
from lmtasks.task.templates import Place, Spec, check_syntax

EVERYWHERE = ("source", "references")
"""Roles of every kind: what baselines copy from; a column with all right answers."""

NOT_IN_NAMES = ",*?[]/\\\n\t "


def check_task(task: Task) -> None:
    """Refuse a task that cannot be answered or scored.

    Raises:
        UsageError: the first fault found, with what is allowed.
    """
    _check_name(task)
    _check_outputs(task)
    _check_inputs(task)
    _check_labels(task)
    _check_prompt(task)
    for place, template in _all_templates(task):
        check_syntax(template, place=place)


def _check_name(task: Task) -> None:
    bad = [mark for mark in NOT_IN_NAMES if mark in task.name]
    if bad or not task.name or task.name.startswith("."):
        raise UsageError(
            f"a task's name becomes a name of folders and stands in lists, so it has no blanks, commas, slashes or "
            f"* ? [ ], and no dot in front, was: {task.name!r}."
        )


def _check_outputs(task: Task) -> None:
    allowed = kind_of(task).output_types
    if task.output_type not in allowed:
        raise UsageError(
            f"task {task.name}: kind {task.kind} goes with output_type {' or '.join(allowed)}, was: {task.output_type}."
        )


def _check_inputs(task: Task) -> None:
    kind = kind_of(task)
    needed = kind.roles
    roles = (*needed, *kind.optional_roles, *EVERYWHERE)
    for role in task.inputs:
        if role not in roles:
            raise unknown(f"role in inputs of task {task.name} ({task.kind})", role, roles)
    missing = [role for role in needed if role not in task.inputs]
    if missing:
        raise UsageError(
            f"task {task.name}: kind {task.kind} needs inputs with {', '.join(needed)}; "
            f"{' and '.join(missing)} not given."
        )


def _check_labels(task: Task) -> None:
    kind = kind_of(task)
    if not kind.labelled:
        if task.labels:
            raise UsageError(f"task {task.name}: kind {task.kind} has no labels; take them out, or change the kind.")
        return
    if len(task.labels) < 2:
        raise UsageError(f"task {task.name}: kind {task.kind} needs at least two labels, has {len(task.labels)}.")
    twice = sorted({label for label in task.labels if task.labels.count(label) > 1})
    if twice:
        raise UsageError(f"task {task.name} has the label {twice[0]!r} twice.")
    choices = task.templates.asked.choices
    if kind.answer == "label" and isinstance(choices, tuple) and len(choices) != len(task.labels):
        raise UsageError(
            f"task {task.name}: doc_to_choice has {len(choices)} texts for {len(task.labels)} labels; "
            "give one for each label, in the same order."
        )


def _check_prompt(task: Task) -> None:
    """What a prompt is made of must be there, unless a head can answer without it."""
    asked, kind = task.templates.asked, kind_of(task)
    if kind.roles:
        return
    missing = []
    if asked.question is None:
        missing.append("doc_to_text")
    if asked.target is None and "references" not in task.inputs:
        roles = "".join(f"inputs: {{{role}: ...}} or " for role in kind.optional_roles)
        missing.append(f"{roles}doc_to_target")
    if asked.choices is None and task.output_type == "multiple_choice":
        missing.append("doc_to_choice")
    if missing:
        raise UsageError(f"task {task.name}: kind {task.kind} needs {', '.join(missing)}.")


def _all_templates(task: Task) -> Iterator[tuple[Place, str]]:
    def place(field: str) -> Place:
        return Place(task=task.name, field=field)

    yield place("description"), task.description
    for role, template in task.inputs.items():
        yield place(f"inputs.{role}"), template
    for prefix, wording in (("", task.templates.asked), ("fewshot_config.", task.templates.shot)):
        specs: Mapping[str, Spec] = {
            "doc_to_text": wording.question,
            "doc_to_target": wording.target,
            "doc_to_choice": wording.choices,
            "gen_prefix": wording.prefix,
        }
        for field, spec in specs.items():
            if isinstance(spec, str):
                yield place(prefix + field), spec
