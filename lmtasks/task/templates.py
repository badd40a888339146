"""Questions and right answers of a task, as templates over the columns of a row; and their values for one row.

A template is a column's name, or Jinja text in which the columns are variables. The rules are those of
lm-evaluation-harness 0.4.13 (`ConfigurableTask.doc_to_text`, `doc_to_target`, `doc_to_choice`), whose task files mean
the same here. Jinja runs in a sandbox with bounds: a task file is data, and can neither reach
Python nor hold the machine.

>>> place = Place(task="demo", field="doc_to_text")
>>> render("Question: {{q}}\\nAnswer:", row={"q": "Who?"}, place=place)
'Question: Who?\\nAnswer:'
>>> render("Question: {{query}}", row={"q": "Who?"}, place=place)
Traceback (most recent call last):
lmtasks.errors.UsageError: task demo: doc_to_text names 'query', which the data lacks. Columns: q.
"""

import ast
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from lmtasks.errors import UsageError
from lmtasks.records import Row
from lmtasks.task.functions import FunctionRef
from lmtasks.timed_regex import timed

if TYPE_CHECKING:
    from jinja2 import Template, nodes

    from lmtasks.task.bounded_jinja import BoundedEnvironment

MOST_DIGITS = 18
"""Of the number of a choice; more digits are a text."""
Spec = str | int | tuple[object, ...] | FunctionRef | None
"""How a file states a question, a target or choices: template or column, number, list, function, nothing."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Which template of which task: for messages."""

    task: str
    field: str

    def __str__(self) -> str:
        return f"task {self.task}: {self.field}"


@dataclass(frozen=True, kw_only=True)
class Wording:
    """Everything that turns one row into a question and its answer."""

    question: Spec
    target: Spec
    choices: Spec
    prefix: str | None
    """`gen_prefix`: how the answer begins, given to the model."""
    target_delimiter: str
    fewshot_delimiter: str


@dataclass(frozen=True, kw_only=True)
class Templates:
    """How a task words the row that is asked, and the worked examples before it."""

    asked: Wording
    shot: Wording
    description: str
    """Before everything else; a template too."""


def is_template(text: str) -> bool:
    """Does the text hold Jinja at all?"""
    return "{{" in text or "{%" in text or "{#" in text


def columns_in(spec: str) -> list[str]:
    """The variables of a template, in the order in which they stand there; what is no template is a column itself."""
    if not is_template(spec):
        return [spec]
    from jinja2 import meta, nodes

    tree = parsed(spec)
    names = meta.find_undeclared_variables(tree) - {"row"}
    found = [column_of(node) for node in tree.find_all((nodes.Getitem, nodes.Getattr))]
    return sorted(names | {name for name in found if name is not None}, key=spec.find)


def column_of(node: "nodes.Node") -> str | None:
    """The column that an expression is: `name`, `row['name']` or `row.name`."""
    from jinja2 import nodes

    if isinstance(node, nodes.Name):
        return node.name
    if (
        isinstance(node, nodes.Getitem | nodes.Getattr)
        and isinstance(node.node, nodes.Name)
        and node.node.name == "row"
    ):
        if isinstance(node, nodes.Getattr):
            return node.attr
        return str(node.arg.value) if isinstance(node.arg, nodes.Const) else None
    return None


def parsed(template: str) -> "nodes.Template":
    """The syntax tree of a template."""
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment()
    environment.filters["regex_replace"] = str.replace  # a name that lm-evaluation-harness adds; nothing is rendered
    return environment.parse(template)


def question_of(wording: Wording, *, row: Row, task: str) -> str | int:
    """The question; a number where the choices are the questions (Winogrande), and the number says which is right.

    Raises:
        UsageError: the template names a column that the row lacks, or cannot be rendered.
    """
    place = Place(task=task, field="doc_to_text")
    value = _value(wording.question, row=row, place=place)
    if isinstance(value, str):
        return _number_if_digits(value) if _rendered(wording.question, row) and wording.choices is not None else value
    if isinstance(value, int):
        return int(value)
    raise UsageError(f"{place} must yield text, was: {type(value).__name__}.")


def target_of(wording: Wording, *, row: Row, task: str) -> str | int | tuple[object, ...]:
    """The right answer: a text, the number of a choice, or several of either.

    Raises:
        UsageError: the template names a column that the row lacks, or cannot be rendered.
    """
    place = Place(task=task, field="doc_to_target")
    value = _value(wording.target, row=row, place=place)
    if isinstance(value, str) and _rendered(wording.target, row):
        if wording.choices is not None and value.isdigit():
            return _number_if_digits(value)
        if len(value) >= 2 and value[0] == "[" and value[-1] == "]":
            listed = _literal(value)
            return value if listed is None else tuple(listed)
    if isinstance(value, str | int):
        return int(value) if isinstance(value, bool) else value
    if isinstance(value, list | tuple):
        return tuple(value)
    raise UsageError(f"{place} must yield text, the number of a choice or a list, was: {type(value).__name__}.")


def choices_of(wording: Wording, *, row: Row, task: str) -> tuple[str, ...]:
    """The texts to choose from; empty where the task has none.

    Raises:
        UsageError: the template names a column that the row lacks, cannot be rendered, or yields no list.
    """
    place = Place(task=task, field="doc_to_choice")
    value = _value(wording.choices, row=row, place=place)
    if isinstance(value, str):
        listed = _literal(value)
        if listed is None:
            raise UsageError(f"{place} must yield a list of texts, was: {value[:80]!r}.")
        value = listed
    if value is None:
        return ()
    if isinstance(value, Mapping):
        value = value.values()
    if not isinstance(value, Iterable):
        raise UsageError(f"{place} must yield a list of texts, was: {type(value).__name__}.")
    return tuple(str(choice) for choice in value)


def text_of(spec: str, *, row: Row, place: Place) -> str:
    """A column's value as text, or the rendered template.

    Raises:
        UsageError: the template names a column that the row lacks, or cannot be rendered.
    """
    return str(_value(spec, row=row, place=place))


def render(template: str, *, row: Row, place: Place) -> str:
    """Render Jinja over the columns of a row.

    Raises:
        UsageError: a column is missing, or the template fails on this row.
    """
    from jinja2 import TemplateError, UndefinedError

    from lmtasks.task.bounded_jinja import TooMuchError

    if not is_template(template):
        return template
    try:
        _environment().begin()
        return _compiled(template).render({"row": row, **row})
    except TooMuchError as error:
        raise UsageError(f"{place} asks for too much on a row: {error.message}; write it with less.") from error
    except RecursionError as error:
        raise UsageError(f"{place} calls itself without end on a row; write it without macros that do.") from error
    except UndefinedError as error:
        named = re.match(r"'([^']+)' is undefined", str(error))
        if named is None:
            raise UsageError(f"{place} fails: {error}. {_columns(row)}") from error
        raise _missing(named[1], row=row, place=place) from error
    except (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise UsageError(f"{place} fails on a row: {type(error).__name__}: {error}. {_columns(row)}") from error


def check_syntax(template: str, *, place: Place) -> None:
    """Refuse a template that Jinja cannot read.

    Raises:
        UsageError: with Jinja's reason, and the line within the template.
    """
    from jinja2 import TemplateSyntaxError

    try:
        _compiled(template)
    except TemplateSyntaxError as error:
        raise UsageError(f"{place} is not a Jinja template: {error.message} (its line {error.lineno}).") from error


def column_value(spec: str, *, row: Row, place: Place) -> object:
    """The value of a role of `inputs` for a row: a column's, or the rendered template.

    Unlike a prompt, a role cannot be a constant text: what is neither a column nor a template is a mistake.

    Raises:
        UsageError: there is no such column.
    """
    if spec in row:
        return row[spec]
    if not is_template(spec):
        raise _missing(spec, row=row, place=place)
    rendered = render(spec, row=row, place=place)
    return structure(rendered)


def _value(spec: Spec, *, row: Row, place: Place) -> object:
    """A specification's value for a row, before the rules about digits and lists."""
    if isinstance(spec, FunctionRef):
        return spec.call(row)
    if not isinstance(spec, str):
        return spec
    if spec in row:
        return row[spec]
    if spec.isidentifier() and get_close_matches(spec, row, n=1, cutoff=0.75):
        # A constant text is allowed, but one that is nearly a column's name is a misspelt column.
        raise _missing(spec, row=row, place=place)
    return render(spec, row=row, place=place)


def _rendered(spec: Spec, row: Row) -> bool:
    """Was the value made by a template? Columns and functions keep their type: "2" stays text there."""
    return isinstance(spec, str) and spec not in row


def _number_if_digits(text: str) -> str | int:
    return int(text) if text.isdecimal() and len(text) <= MOST_DIGITS else text


def _literal(text: str) -> list[object] | None:
    """The list that a rendered text writes down, as Python would; None where it is none."""
    try:
        value = ast.literal_eval(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # the last two: of brackets within brackets
        return None
    if isinstance(value, Mapping):
        return list(value.values())
    return list(value) if isinstance(value, list | tuple) else None


def structure(text: str) -> object:
    """A rendered list or mapping as such; any other text as it is."""
    if text[:1] + text[-1:] not in ("[]", "{}"):
        return text
    try:
        value: object = ast.literal_eval(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return text
    return value


def _missing(name: str, *, row: Row, place: Place) -> UsageError:
    near = get_close_matches(name, list(row), n=1, cutoff=0.5)
    guess = f"; did you mean {near[0]!r}?" if near else "."
    return UsageError(f"{place} names {name!r}, which the data lacks{guess} {_columns(row)}")


def _columns(row: Row) -> str:
    return f"Columns: {', '.join(row)}."


@cache
def _environment() -> "BoundedEnvironment":
    from jinja2 import StrictUndefined

    from lmtasks.task.bounded_jinja import bounded_environment

    environment = bounded_environment(undefined=StrictUndefined, keep_trailing_newline=True)
    environment.filters["regex_replace"] = _regex_replace
    return environment


@lru_cache(maxsize=4096)
def _compiled(template: str) -> "Template":
    return _environment().from_string(template)


def _regex_replace(text: str, pattern: str, replacement: str, count: int = 0) -> str:
    """lm-evaluation-harness' own filter."""
    return timed(pattern).sub(replacement, text, count=count)
