"""Reads fields of a JSON file with their types checked, and names the file where one is wrong."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NoReturn

from lmtasks.checksums import is_whole
from lmtasks.errors import UsageError
from lmtasks.files import parse_json
from lmtasks.records import Json

SCHEMA = 1
NOT_IN_JSON = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}
"""Numbers that JSON has no form for, as evaluation writes them."""


class Fields:
    """One JSON object of a file.

    Args:
        values: the object.
        file: where it was read from.
        path: where in the file it stands, for messages.
    """

    def __init__(self, values: Json, *, file: Path, path: str = "") -> None:
        self.values = values
        self.file = file
        self.path = path

    def text(self, name: str, default: str | None = None) -> str:
        """A string; without a default it must be there."""
        value = self.values.get(name)
        if value is None and default is not None:
            return default
        return value if isinstance(value, str) else self._wrong(name, "a text", value)

    def number(self, name: str) -> float:
        """A number that must be there."""
        value = self.optional_number(name)
        return value if value is not None else self._wrong(name, "a number", None)

    def optional_number(self, name: str) -> float | None:
        """A number, or None where the field is null or missing."""
        value = self.values.get(name)
        return None if value is None else self._number(name, value)

    def flag(self, name: str) -> bool:
        """true or false."""
        value = self.values.get(name)
        return value if isinstance(value, bool) else self._wrong(name, "true or false", value)

    def interval(self, name: str) -> tuple[float, float] | None:
        """Two numbers, or None where the field is null or missing."""
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or len(value) != 2:
            return self._wrong(name, "two numbers", value)
        low, high = (self._number(name, end) for end in value)
        return low, high

    def json(self, name: str) -> Json:
        """An object as it is; empty where it is missing."""
        value = self.values.get(name)
        if value is None:
            return {}
        return value if isinstance(value, dict) else self._wrong(name, "an object", value)

    def sub(self, name: str) -> "Fields":
        """An object that must be there."""
        value = self.values.get(name)
        if not isinstance(value, dict):
            return self._wrong(name, "an object", value)
        return Fields(value, file=self.file, path=f"{self.path}{name}.")

    def each(self, name: str) -> Iterator["Fields"]:
        """The objects of a list; none where it is missing."""
        for number, value in enumerate(self._list(name)):
            if not isinstance(value, dict):
                self._wrong(f"{name}[{number}]", "an object", value)
            yield Fields(value, file=self.file, path=f"{self.path}{name}[{number}].")

    def texts(self, name: str) -> tuple[str, ...]:
        """The strings of a list; none where it is missing."""
        return tuple(str(value) for value in self._list(name))

    def _number(self, name: str, value: object) -> float:
        if isinstance(value, str) and value in NOT_IN_JSON:
            return NOT_IN_JSON[value]
        if isinstance(value, bool) or not isinstance(value, int | float):
            return self._wrong(name, "a number", value)
        return float(value)

    def _list(self, name: str) -> list[object]:
        value = self.values.get(name)
        if value is None:
            return []
        return value if isinstance(value, list) else self._wrong(name, "a list", value)

    def _wrong(self, name: str, expected: str, value: object) -> NoReturn:
        found = "it is missing" if value is None else f"it is {json.dumps(value, default=str)[:60]}"
        raise UsageError(
            f"{self.file}: the field {self.path}{name} should be {expected}, but {found}. The file is damaged or was "
            "written by something else; delete it and run the plan again, which makes what is missing."
        )


def read_fields(file: Path) -> Fields:
    """The object in a JSON file of this version's schema.

    Raises:
        UsageError: the file cannot be read, is no JSON object, has another schema, or was changed since it was written.
    """
    remedy = "delete it and run the plan again, which makes what is missing."
    try:
        values = parse_json(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UsageError(f"{file} is damaged, it is no JSON ({error}); {remedy}") from error
    if not isinstance(values, Mapping):
        raise UsageError(f"{file} holds no JSON object; {remedy}")
    if not is_whole(values):
        raise UsageError(f"{file} was changed since it was written (its checksum differs); {remedy}")
    if values.get("schema", SCHEMA) != SCHEMA:
        raise UsageError(
            f"{file} has schema {values['schema']!r}, this version of lmtasks reads {SCHEMA}; "
            "use the version that wrote it, or run the plan again."
        )
    return Fields(values, file=file)
