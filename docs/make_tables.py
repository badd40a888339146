"""Tables of the documents that are made from the code: what stands between `<!-- made: NAME -->` and `<!-- end -->`.

After a change of an option, a key, a kind, a metric, a baseline or a task:  python tests/test_cli_surface.py
"""

import ast
import importlib
import inspect
import json
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

from lmtasks.cli.main import COMMANDS, load_command
from lmtasks.evaluation.baselines import BASELINES, group_of
from lmtasks.export.architectures import ARCHITECTURES
from lmtasks.head import HEADS
from lmtasks.metric import METRICS
from lmtasks.run.plan import RowCount
from lmtasks.settings.base import Setting
from lmtasks.settings.bounds import Bound
from lmtasks.settings.runs_on import AnyRuntime
from lmtasks.settings.runtimes import RUNTIMES
from lmtasks.task.changes import CHANGES
from lmtasks.task.functions import FunctionRef
from lmtasks.task.index import default_index
from lmtasks.task.kinds import KINDS
from lmtasks.task.schema import KindName

DOCS = Path(__file__).parent
MADE = re.compile(r"(<!-- made: (?P<what>[\w.:]+) -->\n).*?(<!-- end -->)", re.DOTALL)
SCALES: Mapping[str, str] = {"fraction": "0-1", "points": "0-100", "raw": "raw"}
OPTIONS = "lmtasks.settings"
NOTHING = (None, "", (), {}, [])


def table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table in Markdown, its bars escaped."""
    cells = [columns, ("---",) * len(columns), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n" for row in cells)


def code(text: object) -> str:
    """A value as code; nothing where there is none."""
    return f"`{text}`" if text not in NOTHING else ""


def commands() -> str:
    """Every command with its arguments and options."""
    parts = []
    for name in COMMANDS:
        command = load_command(name)
        rows = []
        for parameter in command.params:
            is_option = parameter.param_type_name == "option"
            named = ", ".join((*parameter.opts, *parameter.secondary_opts)) if is_option else ""
            value = "" if getattr(parameter, "is_flag", False) else str(parameter.metavar)
            told_help = str(getattr(parameter, "help", "") or "")
            several = bool(parameter.multiple) and "repeatable" not in told_help and "several" not in told_help
            facts = ["required"] * parameter.required + ["repeatable"] * several
            default = parameter.default
            told = "" if parameter.required or default in NOTHING or default is False or callable(default) else default
            rows.append(
                (
                    code(f"{named} {value}".strip()),
                    " ".join([told_help, *(f"*{fact}*" for fact in facts)]).strip(),
                    code(told),
                )
            )
        about = str(command.help).strip()
        parts.append(f"## {name}\n\n{about}\n\n{table(('option', 'is', 'default'), rows)}")
    return "\n" + "\n".join(parts) + "\n"


def keys(schema: type[BaseModel]) -> str:
    """Every key of a settings model, or of a task file: what it may be, its default, what it is for."""
    notes = docstrings(schema)
    rows = []
    for name, field in schema.model_fields.items():
        own = next((each.help for each in field.metadata if isinstance(each, Setting)), "")
        default = field.get_default(call_default_factory=True)
        told = "*needed*" if field.is_required() else "" if isinstance(default, BaseModel) else code(shown(default))
        rows.append((code(name), may_be(field), told, notes.get(name) or own))
    return "\n" + table(("key", "may be", "default", "is"), rows) + "\n"


def shown(value: object) -> object:
    """A default as a YAML file writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and value and not value.strip():
        return json.dumps(value)
    return f"[{', '.join(map(str, value))}]" if isinstance(value, tuple) and value else value


def docstrings(schema: type[BaseModel]) -> dict[str, str]:
    """The string under each field, of the class and of those that it derives from; of settings that are options the
    help is for people, and the string for who reads the code."""
    found: dict[str, str] = {}
    for each in reversed(schema.__mro__):
        if not issubclass(each, BaseModel) or each is BaseModel:
            continue
        try:
            (body,) = ast.parse(textwrap.dedent(inspect.getsource(each))).body
        except OSError:  # made while the program runs: its base has the strings
            continue
        assert isinstance(body, ast.ClassDef)
        for field, note in zip(body.body, body.body[1:], strict=False):
            match field, note:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    if not (each.__module__.startswith(OPTIONS) and has_help(each, name)):
                        found[name] = " ".join(text.split()).replace("None:", "not given:")
    return found


def has_help(schema: type[BaseModel], name: str) -> bool:
    """Is the field an option, too?"""
    return any(isinstance(each, Setting) for each in schema.model_fields[name].metadata)


def may_be(field: FieldInfo) -> str:
    """The values that a field takes, for people."""
    bound = next((each for each in field.metadata if isinstance(each, Bound)), None)
    least = next((each.ge for each in field.metadata if isinstance(each, annotated_types.Ge)), None)
    if bound is not None:
        return bound.words
    if least is not None:
        return f"a whole number of at least {least}"
    return " or ".join(dict.fromkeys(kinds_of(field.annotation)))


def kinds_of(annotation: object) -> Iterator[str]:
    """The values of a type, one phrase each; that a value may be left out is said by its default."""
    if annotation in KNOWN:
        yield KNOWN[annotation]
        return
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        bound = next((each for each in parts[1:] if isinstance(each, Bound)), None)
        if bound is not None:
            yield bound.words
        elif any(isinstance(each, BeforeValidator) for each in parts[1:]) or parts[1:]:
            yield from kinds_of(parts[0])
    elif origin is Literal:
        yield ", ".join(code(part) for part in parts)
    elif origin in (Union, UnionType):
        for part in parts:
            yield from () if part is type(None) else kinds_of(part)
    elif origin in (tuple, list):
        yield listed(" or ".join(dict.fromkeys(kinds_of(parts[0]))))
    elif origin is not None and issubclass(origin, Mapping):
        inner = " or ".join(dict.fromkeys(kinds_of(parts[1])))
        yield "names with values" if parts[1] is object else f"names, each with {inner}"
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield f"[{PARTS[annotation.__name__]}](#{anchor(PARTS[annotation.__name__])})"
    else:
        raise TypeError(f"{annotation} has no words in the documents; give it some in docs/make_tables.py.")


def listed(inner: str) -> str:
    """Several of what one phrase names.

    >>> listed("a whole number of at least 1"), listed("`a`, `b`")
    ('whole numbers of at least 1', 'a list of `a`, `b`')
    """
    several = next((more for one, more in SEVERAL.items() if inner.startswith(one)), None)
    return f"a list of {inner}" if several is None else re.sub("^a (whole )?(text|number)", several, inner)


SEVERAL: Mapping[str, str] = {"a text": "texts", "a whole number": "whole numbers", "a number": "numbers"}
KNOWN: Mapping[object, str] = {
    bool: "true or false",
    str: "a text",
    int: "a whole number",
    float: "a number",
    Path: "a path",
    object: "anything",
    dict: "names with values",
    AnyRuntime: ", ".join(code(name) for name in RUNTIMES.own),
    RowCount: "a whole number of at least 1, or `all`",
    KindName: "a [kind](#kinds)",
    FunctionRef: "`!function`",
}
PARTS: Mapping[str, str] = {
    "ModelPlan": "a model",
    "VariantPlan": "a variant",
    "AdaptTraining": "a training",
    "LoraSettings": "adapters",
    "ProbeSettings": "a probe",
    "Endpoint": "a server",
    "SweepPlan": "a sweep",
    "BenchPlan": "timing",
    "PublishedPlan": "a published figure",
    "MetricLine": "an entry of metric_list",
    "MetricWish": "an entry of metrics",
    "FilterLine": "a pipeline",
    "FilterStepLine": "a step",
    "WindowsFile": "windows",
    "CandidatesFile": "candidates",
    "CorpusFile": "corpus",
    "KeepFile": "keep",
    "PairsFile": "pairs",
    "SourceFile": "a source",
    "ShotsFile": "fewshot_config",
}
"""Headings of the tables that keys lead to."""


def anchor(heading: str) -> str:
    """As a code host and the site make it of a heading."""
    return heading.lower().replace(" ", "-")


def kinds() -> str:
    """Kinds of tasks."""
    rows = [
        (
            code(kind.name),
            kind.about,
            ", ".join(code(role) for role in (*kind.roles, *kind.prompted_roles)),
            ", ".join(code(role) for role in kind.optional_roles),
            code(kind.head if kind.head in HEADS else ""),
            ", ".join(code(metric) for metric in kind.metrics),
        )
        for kind in KINDS.values()
    ]
    return "\n" + table(("kind", "is", "roles", "may have", "head", "metrics"), rows) + "\n"


def metrics() -> str:
    """Metrics of this package."""
    rows = [
        (
            code(name),
            line.description,
            SCALES[line.scale],
            "higher" if line.higher_is_better else "lower",
            ", ".join(line.takes),
        )
        for name, line in METRICS.items()
        if not METRICS.package(name)
    ]
    return "\n" + table(("metric", "is", "scale", "better", "scores"), rows) + "\n"


def baselines() -> str:
    """Baselines."""
    rows = [(code(name), group_of(name), line.about, ", ".join(line.kinds)) for name, line in BASELINES.items()]
    return "\n" + table(("baseline", "is", "answers with", "of"), rows) + "\n"


def changes() -> str:
    """Changes of scored rows."""
    rows = [(code(name), line.about) for name, line in CHANGES.items()]
    return "\n" + table(("change", "does"), rows) + "\n"


def tasks() -> str:
    """Tasks that come along."""
    rows = [
        (code(entry.name), code(entry.kind), entry.language, entry.source, entry.about)
        for entry in default_index().entries()
    ]
    return "\n" + table(("task", "kind", "language", "data", "about"), rows) + "\n"


def architectures() -> str:
    """Names of the architectures whose graphs are built."""
    return "\n" + ", ".join(code(name) for name in ARCHITECTURES) + "\n\n"


TABLES: Mapping[str, Callable[[], str]] = {
    "commands": commands,
    "kinds": kinds,
    "metrics": metrics,
    "baselines": baselines,
    "changes": changes,
    "architectures": architectures,
    "tasks": tasks,
}


def made(what: str) -> str:
    """One of `TABLES`, or the keys of a model (`module:Class`)."""
    if what in TABLES:
        return TABLES[what]()
    module, _, name = what.partition(":")
    return keys(getattr(importlib.import_module(module), name))


def renewed(text: str) -> str:
    """A page with its tables as they are now."""
    return MADE.sub(lambda found: f"{found[1]}{made(found['what'])}{found[3]}", text)


def renew() -> None:
    """Write the pages with their tables as they are now."""
    for page in pages():
        page.write_text(renewed(page.read_text(encoding="utf-8")), encoding="utf-8")


def pages() -> list[Path]:
    """The pages that have such a table."""
    return [page for page in sorted(DOCS.rglob("*.md")) if MADE.search(page.read_text(encoding="utf-8"))]
