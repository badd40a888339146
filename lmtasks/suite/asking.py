"""Rows without right answers: a line that somebody types becomes a row that a task can be asked about.

A task file says where the right answer stands in a row; a typed line has none. `unlabelled` takes that part out of a
task, and leaves prompt, head, labels and decoding as they are, so that a line is answered as a scored row would be.
"""

import json
from collections.abc import Sequence
from dataclasses import replace

from lmtasks.errors import UsageError
from lmtasks.records import HeadSpec, Row
from lmtasks.task.task import Task
from lmtasks.task.templates import Spec, is_template

LABEL = "lmtasks_no_label"
ANSWERS = "lmtasks_no_answers"
TAGS = "lmtasks_no_tags"
"""Columns that stand where a data set has its answers. What they hold is never shown."""


def unlabelled(task: Task) -> Task:
    """The task without its right answers.

    Raises:
        UsageError: the task asks for no answer (a likelihood of a given text).
    """
    if task.kind == "language_modelling":
        raise UsageError(
            f"task {task.name} ({task.kind}) has no answer to a text; its scores come from `lmtasks eval`."
        )
    if task.kind == "tagging":
        return replace(task, inputs={**task.inputs, "tags": TAGS})
    inputs = {role: column for role, column in task.inputs.items() if role not in ("references", "source")}
    inputs |= {role: column for role, column in (("label", LABEL), ("answers", ANSWERS)) if role in inputs}
    nothing: Spec = 0 if task.output_type == "multiple_choice" else ""
    asked = replace(task.templates.asked, target=nothing)
    return replace(task, inputs=inputs, templates=replace(task.templates, asked=asked))


def row_of(task: Task, line: str) -> Row:
    """The row of a line: a JSON object as it is, any other text as the one column that the task reads; of tagging, its
    words as they stand between blanks, or the characters of a Chinese text without any.

    Raises:
        UsageError: the task reads several columns and the line is no JSON object, or one that lacks a column.
    """
    columns = columns_of(task)
    given = _object(line)
    if given is not None:
        missing = [column for column in columns if column not in given]
        if missing:
            raise UsageError(
                f"task {task.name} reads {', '.join(columns)}; {', '.join(missing)} is missing in {line[:80]!r}."
            )
    elif len(columns) == 1:
        given = {columns[0]: line}
    else:
        form = json.dumps(dict.fromkeys(columns, "..."), ensure_ascii=False)
        raise UsageError(f"task {task.name} reads {', '.join(columns)}; give each text as a line of JSON, {form}.")
    if task.kind == "tagging":
        (column,) = columns
        words = words_of(given[column], language=task.language) if isinstance(given[column], str) else given[column]
        if not isinstance(words, list):
            raise UsageError(f"task {task.name} tags words: {column} must be a text or a list, was {words!r}.")
        return {**given, column: words, TAGS: [task.labels[0]] * len(words)}
    label = task.labels[0] if task.labels else ""
    return {**given, LABEL: label, ANSWERS: {"text": [], "answer_start": []}}


def words_of(text: object, *, language: str) -> list[str]:
    """What is tagged.

    >>> words_of("to New York", language="en"), words_of("去北京", language="zh"), words_of("去 北京", language="zh")
    (['to', 'New', 'York'], ['去', '北', '京'], ['去', '北京'])
    """
    words = str(text).split()
    return list(words[0]) if language == "zh" and len(words) == 1 else words


def columns_of(task: Task) -> tuple[str, ...]:
    """The columns that a question is made of, answers left out: those of the head's inputs, else of the prompt."""
    if task.kind == "tagging":
        return (task.inputs["tokens"],)
    asked = task.templates.asked
    roles = [column for role, column in task.inputs.items() if role in ("text", "pair", "question", "context")]
    specs: Sequence[Spec] = roles or [asked.question, asked.choices]
    found = [column for spec in specs if isinstance(spec, str) for column in _columns_in(spec)]
    return tuple(dict.fromkeys(found))


def task_of_head(head: HeadSpec) -> Task:
    """A task for a classification head whose own task file is not at hand: any text, the head's labels."""
    from lmtasks.task.resolve import resolve
    from lmtasks.task.schema import TaskFile

    file = TaskFile(
        task=head.name,
        kind="classification",
        dataset_path="text",
        test_split="test",
        inputs={"text": "text", "label": LABEL},
        labels=list(head.labels),
    )
    return resolve(file, path=None, base=None)


def task_of_continuation(*, new_tokens: int) -> Task:
    """A task that continues any text, for a model that is asked without a task."""
    from lmtasks.task.resolve import resolve
    from lmtasks.task.schema import TaskFile

    file = TaskFile(
        task="continuation",
        kind="generation",
        dataset_path="text",
        test_split="test",
        doc_to_text="{{text}}",
        doc_to_target="",
        generation_kwargs={"max_gen_toks": new_tokens, "until": []},
    )
    return resolve(file, path=None, base=None)


def _columns_in(spec: str) -> list[str]:
    """The variables of a template, in the order in which they stand there; a plain name is a column itself."""
    if not is_template(spec):
        return [spec] if spec.isidentifier() else []
    from jinja2 import meta
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment()
    environment.filters["regex_replace"] = str.replace  # a name that lm-evaluation-harness adds; nothing is rendered
    names = meta.find_undeclared_variables(environment.parse(spec)) - {"row"}
    return sorted(names, key=spec.find)


def _object(line: str) -> dict[str, object] | None:
    if not line.lstrip().startswith("{"):
        return None
    try:
        content = json.loads(line)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None
