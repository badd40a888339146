"""The base of all settings: frozen values that are checked wherever they come from, and refused in the same words.

>>> from typing import Annotated
>>> from lmtasks.settings.bounds import COUNT
>>> class Pace(Settings):
...     rounds: Annotated[int, COUNT, Setting("Every variant is measured so often.", metavar="NUMBER")] = 3
>>> Pace(rounds=0)
Traceback (most recent call last):
...
lmtasks.errors.UsageError: rounds must be a whole number of at least 1, was 0.
>>> Pace.model_validate({"rounds": "4"}).rounds
4
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from lmtasks.errors import UsageError, unknown
from lmtasks.settings.bounds import shown

Place = tuple[int | str, ...]
"""The way to a value in the settings: keys, and numbers within lists."""

BOUND, SENTENCE = "bound", "sentence"
"""Types of our own errors: a message that stands behind the name of a setting, or one that stands alone."""
WORDS: Mapping[str, str] = {
    "missing": "is missing",
    "string_type": "must be a text",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty",
    "path_type": "must be a path",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "mapping_type": "must be names with values",
    "dict_type": "must be names with values",
    "model_type": "must be names with values",
}
"""By pydantic's type of error; other types keep pydantic's message."""
RENAMED: Mapping[str, tuple[str, str]] = {"bidirectional": ("attention", "both")}
"""Settings that older versions had, yes or no: what is set in their place, and to what where they were set."""


@dataclass(frozen=True)
class Setting:
    """Help and presentation of a setting; stands in the field's annotation, beside its bound."""

    help: str
    _: KW_ONLY
    metavar: str = ""
    """Stands for the value on the command line."""
    option: str = ""
    """The option, where it is not called as the field is."""
    also: str = ""
    """Another name of the option."""
    unit: str = ""


class Settings(BaseModel):
    """Frozen settings. A call with wrong values raises UsageError; as a part of a larger model (a plan) they raise what
    pydantic raises, which knows the place."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    if not TYPE_CHECKING:  # type checkers know the fields, and would lose them here

        def __init__(self, /, **given: object) -> None:
            try:
                super().__init__(**given)
            except ValidationError as error:
                raise UsageError(explain(error, schema=type(self))) from None

        __init__.__pydantic_base_init__ = True  # validation inside another model does not pass through here

    def but(self, changes: Mapping[str, object]) -> Self:
        """The settings with other values of some fields, checked again.

        Raises:
            UsageError: a value is out of its bound, or a field is unknown.
        """
        return type(self)(**{**dict(self), **changes})


def refusal(sentence: str) -> PydanticCustomError:
    """The error for values that do not go together; for validators of whole models to raise."""
    return PydanticCustomError(SENTENCE, "{sentence}", {"sentence": sentence})


def _several(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


Several = BeforeValidator(_several)
"""Marks a tuple of names that may be given as one text with commas between."""


def spoken(place: Place) -> str:
    """The name by which a caller of the API knows a setting.

    >>> spoken(("lora", "learning_rate"))
    'lora.learning rate'
    """
    return ".".join(map(str, place)).replace("_", " ")


def place_of(error: ValidationError) -> Place:
    """The place of the first complaint."""
    return tuple(error.errors(include_url=False)[0]["loc"])


def explain(
    error: ValidationError,
    *,
    schema: type[BaseModel],
    name: Callable[[Place], str] = spoken,
    what: str = "setting",
    with_place: bool = False,
) -> str:
    """The first complaint in one sentence: the setting, what it may be, and what was given.

    Args:
        name: how whoever gave the value knows a setting: an option, a plan's key, an argument.
        what: an unknown one is called.
        with_place: name the setting also where the complaint is a sentence of its own.
    """
    first = error.errors(include_url=False)[0]
    place = place_of(error)
    if first["type"] == "extra_forbidden":
        if str(place[-1]) in RENAMED:
            setting, value = RENAMED[str(place[-1])]
            return (
                f"{name(place)} is no {what} any more: {setting} says it now, and is {value!r} where this was true; "
                "where it was false, leave it out."
            )
        inner = _schema_at(schema, place[:-1])
        return str(unknown(f"{what} of {name(place[:-1])}" if place[1:] else what, str(place[-1]), inner))
    if first["type"] == SENTENCE:
        return f"{name(place)}: {first['msg']}" if with_place and place else str(first["msg"])
    if first["type"] == "literal_error":
        return str(unknown(name(place), str(first["input"]), re.findall("'([^']*)'", str(first["ctx"]["expected"]))))
    return f"{name(place)} {_complaint(first)}."


def _complaint(error: ErrorDetails) -> str:
    if error["type"] == BOUND or error["type"] == "missing":
        return WORDS.get(error["type"], error["msg"])
    words = WORDS.get(error["type"]) or f"is wrong: {error['msg'].removeprefix('Value error, ').rstrip('.')}"
    return f"{words}, was {shown(error['input'])}"


def _schema_at(schema: type[BaseModel], place: Sequence[int | str]) -> Sequence[str]:
    """Fields of the model at a place within another."""
    for part in place:
        field = schema.model_fields.get(str(part))
        inner = next(_models(field.annotation), None) if field is not None else None
        schema = inner or schema
    return tuple(schema.model_fields)


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)
