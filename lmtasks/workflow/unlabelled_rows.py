"""Rows without right answers: a line that somebody types becomes a row that a task can be asked about.

A task file says where the right answer stands in a row; a typed line has none. `unlabelled` takes that part out of a
task, and leaves prompt, head, labels and decoding as they are, so that a line is answered as a scored row would be.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from lmtasks.errors import UsageError
from lmtasks.files import parse_json
from lmtasks.records import HeadSpec, Row
from lmtasks.task.kinds import KINDS, kind_of
from lmtasks.task.kinds.generation import GENERATION
from lmtasks.task.task import Task
from lmtasks.task.templates import Spec, column_of, columns_in, is_template, parsed

BLANK = "lmtasks_no_answer"
"""The column that stands where a data set has its answers. What it holds is never shown."""


def unlabelled(task: Task) -> Task:
    """The task without its right answers.

    Raises:
        UsageError: the task asks for no answer (a likelihood of a given text).
    """
    kind = kind_of(task)
    if kind.answer == "likelihood":
        raise UsageError(
            f"task {task.name} ({task.kind}) has no answer to a text; its scores come from `lmtasks eval`."
        )
    inputs = {role: column for role, column in task.inputs.items() if role not in ("references", "source")}
    if kind.answer_role:
        inputs[kind.answer_role] = BLANK
    nothing: Spec = 0 if task.output_type == "multiple_choice" else ""
    asked = replace(task.templates.asked, target=nothing)
    return replace(task, inputs=inputs, templates=replace(task.templates, asked=asked))


def row_of(task: Task, line: str) -> Row:
    """The row of a line: a JSON object as it is, any other text as the one column that the task reads; of tagging, its
    words as they stand between blanks, or the characters of a Chinese text without any.

    Raises:
        UsageError: the task reads several columns and the line is no JSON object, or one that lacks a column; or the
            line is no text.
    """
    columns = columns_of(task)
    given: Mapping[str, object] | None = _object(line)
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
    try:
        json.dumps(given, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise UsageError("a text holds bytes that are no UTF-8, or half of a surrogate pair; mend it.") from error
    lists = {column for spec in _specs(task) for column in lists_in(spec)}
    given = {
        column: words_of(value, language=task.language) if column in lists and isinstance(value, str) else value
        for column, value in given.items()
    }
    if kind_of(task).in_words:
        return _in_words(task, given)
    return _blank(task, given)


def _blank(task: Task, row: Row) -> Row:
    """The row with an answer that nobody reads."""
    kind = kind_of(task)
    return {**row, BLANK: kind.blank_answer(task, row)} if kind.answer_role else row


def _in_words(task: Task, given: Mapping[str, object]) -> Row:
    """The row with a list of words. Where a template makes the tokens, a typed text may be what it takes, or the words
    of the text."""
    spec = task.inputs["tokens"]
    if not is_template(spec) and not isinstance(given[spec], str | list):
        raise UsageError(f"task {task.name} tags words: {spec} must be a text or a list, was {given[spec]!r}.")
    typed = [column for column, value in given.items() if column in columns_of(task) and isinstance(value, str)]
    words = {**given, **{column: words_of(given[column], language=task.language) for column in typed}}
    for row in (words, given) if is_template(spec) else (words,):
        try:
            return _blank(task, row)
        except UsageError as error:
            wrong = error
    raise wrong


def words_of(text: object, *, language: str) -> list[str]:
    """Words to be tagged.

    >>> words_of("to New York", language="en"), words_of("去北京", language="zh"), words_of("去 北京", language="zh")
    (['to', 'New', 'York'], ['去', '北', '京'], ['去', '北京'])
    """
    words = str(text).split()
    return list(words[0]) if language == "zh" and len(words) == 1 else words


def columns_of(task: Task) -> tuple[str, ...]:
    """The columns that a question is made of, answers left out: those of the head's inputs, else of the prompt."""
    return tuple(dict.fromkeys(column for spec in _specs(task) for column in columns_in(spec)))


def _specs(task: Task) -> tuple[str, ...]:
    """The columns and templates that a question is made of; a role that is no template is always a column."""
    read = [spec for role, spec in task.inputs.items() if role in kind_of(task).read_roles]
    asked = task.templates.asked
    prompted = [spec for spec in (asked.question, asked.choices) if isinstance(spec, str)]
    return tuple(read or [spec for spec in prompted if is_template(spec) or spec.isidentifier()])


def task_of_head(head: HeadSpec) -> Task:
    """A task for a head whose own task file is not at hand: any text, the head's labels or tags, or a span of a context
    that answers a question.

    Raises:
        UsageError: the head writes texts; only its task file knows how it is asked.
    """
    from lmtasks.task.resolve import resolve
    from lmtasks.task.schema import TaskFile

    kind = next((kind for kind in KINDS.values() if kind.head == head.kind and kind.roles), None)
    if kind is None:
        raise UsageError(f"how the head {head.name} is asked stands in its task file; give it with --tasks.")
    file = TaskFile(
        task=head.name,
        kind=kind.name,
        dataset_path="text",
        test_split="test",
        inputs={role: BLANK if role == kind.answer_role else role for role in kind.roles},
        labels=list(head.labels),
    )
    return resolve(file, path=None, base=None)


def task_of_continuation(*, new_tokens: int) -> Task:
    """A task that continues any text, for a model that is asked without a task."""
    from lmtasks.task.resolve import resolve
    from lmtasks.task.schema import TaskFile

    file = TaskFile(
        task="continuation",
        kind=GENERATION.name,
        dataset_path="text",
        test_split="test",
        doc_to_text="{{text}}",
        doc_to_target="",
        generation_kwargs={"max_gen_toks": new_tokens, "until": []},
    )
    task = resolve(file, path=None, base=None)
    return replace(task, generation=replace(task.generation, insists=True))


def lists_in(spec: str) -> set[str]:
    """The columns that a template goes through item by item, by `join` or a loop.

    >>> sorted(lists_in("{{ tokens | join(' ') }} {{ ' '.join(row['words']) }} {% for w in more %}{{ w }}{% endfor %}"))
    ['more', 'tokens', 'words']
    """
    if not is_template(spec):
        return set()
    from jinja2 import nodes

    tree = parsed(spec)
    gone = [each.iter for each in tree.find_all(nodes.For)]
    gone += [each.node for each in tree.find_all(nodes.Filter) if each.name == "join" and each.node is not None]
    gone += [
        each.args[0]
        for each in tree.find_all(nodes.Call)
        if isinstance(each.node, nodes.Getattr) and each.node.attr == "join" and each.args
    ]
    return {name for node in gone if (name := column_of(node)) is not None}


def _object(line: str) -> dict[str, object] | None:
    if not line.lstrip().startswith("{"):
        return None
    try:
        content = parse_json(line)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None
