"""Stored files: read with their checksum and schema checked, older ones migrated, written whole with a checksum.

    class Weather(StoredFile):
        city: str
        celsius: Number

    Weather(city="Bonn", celsius=21.5).write(file)       {"schema": 1, "city": "Bonn", "celsius": 21.5, "checksum": ...}
    Weather.read(file).celsius                           21.5; a damaged file is a UsageError that names file and field

Numbers that JSON has no form for are written as text: "inf", "-inf", "nan".
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    SerializerFunctionWrapHandler,
    Strict,
    ValidationError,
    WithJsonSchema,
    model_serializer,
)
from pydantic_core import PydanticCustomError

from lmtasks.checksums import is_whole
from lmtasks.errors import UsageError
from lmtasks.files import first_line, parse_json, write_record
from lmtasks.records import Floats, ModelCard, RuntimeCard, card_from_json

LONGEST_VALUE = 60
"""Characters of a wrong value that an error shows."""
NOT_IN_JSON: Mapping[str, float] = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}

EXPECTED: Mapping[str, str] = {
    "string_type": "a text",
    "int_type": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "number": "a number",
    "bool_type": "true or false",
    "mapping_type": "an object",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "dataclass_type": "an object",
    "list_type": "a list",
    "tuple_type": "a list",
    "table": "rows of numbers",
    "too_long": "a shorter list",
    "too_short": "a longer list",
}
"""Types of pydantic's errors to what should have stood there."""


class _Sparse:
    """Marks a field that is left out of the file while it has its default."""


SPARSE = _Sparse()

Migration = Callable[[dict[str, object]], dict[str, object]]
"""Makes the content of an older file today's; leaves others as they are."""


def _number(value: object) -> float:
    if isinstance(value, str) and value in NOT_IN_JSON:
        return NOT_IN_JSON[value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise PydanticCustomError("number", "no number")
    return float(value)


def _table(value: object) -> Floats:
    import numpy as np

    try:
        return np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise PydanticCustomError("table", "no table") from error


def _rows(table: Floats) -> list[object]:
    rows: list[object] = table.tolist()
    return rows


def none_for_empty(value: object) -> object:
    """None in the place of `{}`."""
    return value or None


def _or_empty(value: ModelCard | RuntimeCard | None) -> dict[str, Any]:
    return {} if value is None else asdict(value)


def _model(value: object) -> object:
    """The card of a model; what older cards lack gets its default. `{}` stands for none."""
    if not isinstance(value, Mapping):
        return value
    try:
        return card_from_json(value) if value else None
    except KeyError as error:
        raise PydanticCustomError("missing", "lacks a field", {"field": str(error.args[0])}) from error
    except (TypeError, ValueError) as error:
        raise PydanticCustomError("card", "{why}", {"why": str(error)}) from error


Empty = Annotated[dict[str, object], Field(max_length=0)]
Number = Annotated[float, BeforeValidator(_number, json_schema_input_type=float | Literal["inf", "-inf", "nan"])]
"""A number, also an infinite one or nan."""
Whole = Annotated[int, Strict()]
Flag = Annotated[bool, Strict()]
Table = Annotated[
    Floats,
    PlainValidator(_table),
    PlainSerializer(_rows),
    WithJsonSchema({"type": "array", "items": {"type": "array", "items": {"type": ["number", "string"]}}}),
]
"""(N, K) statistics of N examples."""
StoredModelCard = Annotated[ModelCard, BeforeValidator(_model)]
OptionalModelCard = Annotated[
    ModelCard | None, BeforeValidator(_model, json_schema_input_type=ModelCard | Empty), PlainSerializer(_or_empty)
]
"""None is `{}` in the file: there was no model to score."""
OptionalRuntimeCard = Annotated[
    RuntimeCard | None,
    BeforeValidator(none_for_empty, json_schema_input_type=RuntimeCard | Empty),
    PlainSerializer(_or_empty),
]


class StoredModel(BaseModel):
    """A part of a stored file. What a later version of the same schema adds is read over."""

    model_config = ConfigDict(frozen=True, extra="ignore", arbitrary_types_allowed=True, populate_by_name=True)

    _sparse: ClassVar[Mapping[str, object]] = {}

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: object) -> None:
        cls._sparse = {
            name: field.get_default(call_default_factory=True, validated_data={})
            for name, field in cls.model_fields.items()
            if any(isinstance(each, _Sparse) for each in field.metadata)
        }

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = handler(self)
        absent = {name for name, default in self._sparse.items() if _is_same(getattr(self, name), default)}
        return {name: value for name, value in content.items() if name not in absent}

    def content(self) -> dict[str, object]:
        """The content of the file, ready for JSON: fields that an older file lacked stay out."""
        found = plain(self.model_dump(by_alias=True, exclude_unset=True))
        assert isinstance(found, dict)  # a model is one
        return found


class StoredFile(StoredModel):
    """A JSON file of its own."""

    remedy: ClassVar[str] = "delete it and run the plan again, which makes what is missing."
    """What to do about a damaged one."""
    migrations: ClassVar[tuple[Migration, ...]] = ()
    """For files of earlier versions, in order."""

    current: ClassVar[int] = 1
    """The schema that this version writes, and reads at most."""
    with_schema: ClassVar[bool] = True
    """Does the file say it? Files of a package do not: its manifest does."""

    schema_: Whole = Field(default=1, alias="schema")

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read a file of this or of an earlier version.

        Raises:
            UsageError: it cannot be read, is damaged or was changed since it was written, or is of a later version.
        """
        return cls.of(read_content(file, remedy=cls.remedy), file=file)

    @classmethod
    def read_if_whole(cls, file: Path) -> Self | None:
        """Read a file; None where there is none, or it is not what was written: what it holds is made again.

        Raises:
            UsageError: it is of a later version, which nobody writes over.
        """
        if not file.is_file():
            return None
        try:
            content = read_content(file, remedy=cls.remedy)
        except UsageError:
            return None
        check_schema(content, file=file, current=cls.current)
        try:
            return cls.of(content, file=file)
        except UsageError:
            return None

    @classmethod
    def is_damaged(cls, file: Path) -> bool:
        """Does a file lie there that is not what was written?"""
        return file.is_file() and cls.read_if_whole(file) is None

    @classmethod
    def of(cls, content: Mapping[str, object], *, file: Path) -> Self:
        """The content of a file, migrated and checked.

        Raises:
            UsageError: a field is wrong, or the schema is that of a later version.
        """
        check_schema(content, file=file, current=cls.current)
        migrated = dict(content)
        for migration in cls.migrations:
            migrated = migration(migrated)
        try:
            return cls.model_validate(migrated)
        except ValidationError as error:
            raise UsageError(f"{file}: {wrong_field(error)} The file is damaged or was written by something else; "
                             f"{cls.remedy}") from error  # fmt: skip

    def write(self, file: Path) -> None:
        """Write the file with its checksum, whole or not at all.

        Raises:
            WorkError: it cannot be written; an older one stands as it was.
        """
        write_record(file, self.content())

    def content(self) -> dict[str, object]:
        """The content of the file, ready for JSON, with this version's schema."""
        return {**({"schema": self.current} if self.with_schema else {}), **super().content()}


def read_content(file: Path, *, remedy: str) -> Mapping[str, object]:
    """The object in a JSON file that holds what it was written with.

    Raises:
        UsageError: the file cannot be read, is no JSON object, or was changed since it was written.
    """
    try:
        content = parse_json(file.read_bytes().decode("utf-8", "surrogatepass"))
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UsageError(f"{file} is damaged, it is no JSON ({first_line(error).rstrip('.')}); {remedy}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{file} holds no JSON object; {remedy}")
    if not is_whole(content):
        raise UsageError(f"{file} was changed since it was written (its checksum differs); {remedy}")
    return content


def check_schema(content: Mapping[str, object], *, file: Path, current: int) -> None:
    """A file without a schema is as old as the first one.

    Raises:
        UsageError: it has that of a later version, which is named where the file holds it.
    """
    schema = content.get("schema", 1)
    if isinstance(schema, int) and not isinstance(schema, bool) and 1 <= schema <= current:
        return
    versions = content.get("versions")
    writer = versions.get("lmtasks") if isinstance(versions, Mapping) else None
    reader = f"lmtasks {writer} wrote it and reads it" if writer else "the version of lmtasks that wrote it reads it"
    raise UsageError(
        f"{file} has schema {shown(schema)}, this version of lmtasks reads {current}; {reader}. Use that version, or "
        "make the file again with this one."
    )


def wrong_field(error: ValidationError) -> str:
    """A wrong field of what was validated, else a missing one, as a sentence.

    >>> class Weather(StoredModel):
    ...     celsius: Number
    >>> try:
    ...     Weather.model_validate({"celsius": "warm"})
    ... except ValidationError as error:
    ...     print(wrong_field(error))
    the field celsius should be a number, but it is "warm".
    """
    errors = error.errors(include_url=False)
    first = next((each for each in errors if each["type"] != "missing"), errors[0])
    kind, context = first["type"], first.get("ctx", {})
    path = _path(first["loc"])
    if kind == "missing":
        name = f"{path}.{context['field']}".removeprefix(".") if "field" in context else path
        return f"the field {name} is missing."
    if kind == "union_tag_not_found":
        return f"the field {path}.kind is missing."
    if kind == "union_tag_invalid":
        path, expected = f"{path}.kind", f"one of {context['expected_tags']}"
        return f"the field {path} should be {expected}, but it is {shown(context['tag'])}."
    if kind == "literal_error":
        expected = f"one of {context['expected'].replace(' or ', ', ')}"
    else:
        expected = EXPECTED.get(kind) or f"something else ({first['msg']})"
    return f"the field {path} should be {expected}, but it is {shown(first['input'])}."


def shown(value: object) -> str:
    """A value of a file as an error shows it."""
    return json.dumps(value, ensure_ascii=False, default=str)[:LONGEST_VALUE]


def plain(value: object) -> object:
    """A value as JSON can hold it: what JSON has no form for becomes text (dates, bytes, infinite numbers)."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value)


def _is_same(value: object, default: object) -> bool:
    return value is default or (type(value) is type(default) and value == default)


def _path(places: tuple[int | str, ...]) -> str:
    """`("checks", 2, "graph")` as `checks[2].graph`."""
    return "".join(f"[{place}]" if isinstance(place, int) else f".{place}" for place in places).removeprefix(".")
