"""The signature of a typer command, derived from the settings that its function takes.

A parameter whose type is a settings model becomes one option for each field that has a `Setting`; one that has a
`Setting` itself becomes one option; anything else typer reads as it stands. A field without a `Setting` takes the value
of the command's option of its name, where there is one: the seed of two models is one `--seed`.
"""

import inspect
import logging
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, get_args, get_origin, get_type_hints

import typer
from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from lmtasks.cli.output import output, tell_made
from lmtasks.errors import UsageError
from lmtasks.settings.base import Place, Setting, Settings, Several, explain

log = logging.getLogger(__name__)
AS_IT_IS = (str, Path, bool)
"""Types that typer reads by itself."""


@dataclass(frozen=True)
class Prefix:
    """Stands before the names of all options of a model: `lora_` makes `--lora-rank` of `rank`."""

    text: str


@dataclass(frozen=True)
class Without:
    """Fields of a model that a command has no option for."""

    names: tuple[str, ...]

    def __init__(self, *names: str) -> None:
        object.__setattr__(self, "names", names)


@dataclass(frozen=True, kw_only=True)
class _Model:
    """A parameter of a command that is a settings model."""

    schema: type[Settings]
    options: Mapping[str, str]
    """The command's parameter for each field that is an option."""

    def build(self, given: Mapping[str, object], options: Mapping[str, str]) -> Settings:
        """The model from what was given on the command line.

        Args:
            given: values by the command's parameters, defaults left out.
            options: the option of each parameter.

        Raises:
            UsageError: values that do not go together.
        """
        of_field = {name: self.options.get(name, name) for name in self.schema.model_fields}
        try:
            return self.schema.model_validate({name: given[key] for name, key in of_field.items() if key in given})
        except ValidationError as error:

            def option(place: Place) -> str:
                key = of_field.get(str(place[0]), str(place[0])) if place else ""
                return options.get(key, key)

            raise UsageError(explain(error, schema=self.schema, name=option)) from None


def derived(command: Callable[..., None]) -> Callable[..., None]:
    """A function for typer, which calls the command with its settings built and checked."""
    models: dict[str, _Model] = {}
    parameters: dict[str, inspect.Parameter] = {}
    options: dict[str, str] = {}

    def add(name: str, field: FieldInfo, setting: Setting, *, prefix: str = "") -> str:
        key = f"{prefix}{name}"
        options[key] = setting.option or f"--{key.replace('_', '-')}"
        parameters[key] = _parameter(key, field, setting, option=options[key])
        return key

    hints = get_type_hints(command, include_extras=True)
    for name, parameter in inspect.signature(command).parameters.items():
        bare, *extras = get_args(hints[name]) if get_origin(hints[name]) is Annotated else (hints[name],)
        default = PydanticUndefined if parameter.default is parameter.empty else parameter.default
        field = FieldInfo.from_annotated_attribute(hints[name], default)
        if isinstance(bare, type) and issubclass(bare, Settings):
            prefix = next((each.text for each in extras if isinstance(each, Prefix)), "")
            hidden = next((each.names for each in extras if isinstance(each, Without)), ())
            own = {
                each: add(each, info, setting, prefix=prefix)
                for each, info in bare.model_fields.items()
                if each not in hidden and (setting := _setting(info.metadata)) is not None
            }
            models[name] = _Model(schema=bare, options=own)
        elif (setting := _setting(extras)) is not None:
            add(name, field, setting)
        elif bare is not typer.Context:
            parameters[name] = parameter.replace(kind=parameter.KEYWORD_ONLY, annotation=hints[name])

    def called(context: typer.Context, **values: object) -> None:
        by_file = [key for key in values if _source(context, key) == "DEFAULT_MAP"]
        given = {key: value for key, value in values.items() if is_given(context, key) or key in by_file}
        if by_file:
            typed = [word for key in by_file for word in _typed(options.get(key, f"--{key}"), values[key])]
            output().defaults.extend(typed)
            log.info("from a file of defaults: %s", shlex.join(typed))
        plain = {
            key: tuple(value) if isinstance(value, list) and key in options else value
            for key, value in values.items()
            if key in hints
        }
        built = {name: model.build(given, options) for name, model in models.items()}
        command(**plain, **built, **({"context": context} if "context" in hints else {}))
        out = values.get("out")
        if isinstance(out, Path):
            tell_made(out)

    called.__doc__ = command.__doc__
    called.__signature__ = _signature(parameters)  # type: ignore[attr-defined]  # inspect reads it
    return called


def is_given(context: typer.Context, name: str) -> bool:
    """Whether a parameter of a command stands on its command line."""
    return _source(context, name) == "COMMANDLINE"


def _source(context: typer.Context, name: str) -> str:
    source = context.get_parameter_source(name)
    return "" if source is None else source.name


def _typed(option: str, value: object) -> list[str]:
    """An option as one would type it."""
    if isinstance(value, bool):
        return [option] if value else []
    values = value if isinstance(value, list | tuple) else [value]
    return [word for each in values for word in (option, str(each))]


def _signature(parameters: Mapping[str, inspect.Parameter]) -> inspect.Signature:
    """The options in order: required ones stand first, as in any function."""
    ordered = sorted(parameters.values(), key=lambda each: each.default is not inspect.Parameter.empty)
    at = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    return inspect.Signature([at, *ordered])


def _setting(metadata: Sequence[object]) -> Setting | None:
    return next((each for each in metadata if isinstance(each, Setting)), None)


def _parameter(key: str, field: FieldInfo, setting: Setting, *, option: str) -> inspect.Parameter:
    """One option, its text parsed by the field's own type and bound."""
    several = Several in field.metadata
    listed = get_origin(field.annotation) is tuple and not several
    inner = get_args(field.annotation)[0] if listed else field.annotation
    native = several or any(inner in (kind, kind | None) for kind in AS_IT_IS)
    default: object = inspect.Parameter.empty
    if field.default is not PydanticUndefined:
        default = field.default
        if isinstance(default, tuple):
            default = ",".join(default) if several else list(default)
    annotation: object = str if several else list[inner] if listed and native else field.annotation  # type: ignore[valid-type]
    if not native:
        annotation = list[str] if listed else str | None
    parser = None if native else _parser(inner, () if listed else field.metadata, option)
    names = (option, *([setting.also] if setting.also else []))
    info = typer.Option(*names, metavar=setting.metavar or None, help=setting.help, parser=parser)
    return inspect.Parameter(
        key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[annotation, info]
    )


def _parser(annotation: object, metadata: Sequence[object], option: str) -> Callable[[str], object]:
    def parse(text: str) -> object:
        kind = Annotated[(annotation, *metadata)] if metadata else annotation  # type: ignore[valid-type]
        adapter: TypeAdapter[object] = TypeAdapter(kind)  # type: ignore[arg-type]
        try:
            return adapter.validate_python(text)
        except ValidationError as error:
            raise UsageError(explain(error, schema=Settings, name=lambda place: option)) from None

    return parse
