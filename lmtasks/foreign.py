"""Files of somebody else's: what a library says of one is told in a sentence, with the file's name.

with reading(f"the weights in {file}"):
    tensors = load_file(file)
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lmtasks.errors import LmtasksError, UsageError

PANIC = "PanicException"
"""What libraries in Rust raise where they meet what they did not expect; it is no `Exception`."""
LONGEST = 300
"""Characters of what a library says that are told."""


@contextmanager
def reading(what: str, *, advice: str = "") -> Iterator[None]:
    """Whatever is raised within is about the file. Around nothing but a library's own reading: libraries have many
    hierarchies of errors, and change them.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        yield
    except (LmtasksError, MemoryError):
        raise
    except Exception as error:
        raise UsageError(f"{what} cannot be read: {first_line(error)}{advice}") from error
    except BaseException as error:
        if type(error).__name__ != PANIC:
            raise
        raise UsageError(f"{what} cannot be read: it is damaged.{advice}") from error


def parse_json(text: str | bytes) -> Any:  # as json.loads, which knows no better
    """A JSON text's value.

    Raises:
        ValueError: it is none, or nested more deeply than can be read.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_object(file: Path) -> dict[str, Any]:
    """The object in a JSON file; an empty one where there is no file.

    Raises:
        UsageError: it cannot be read, or is no JSON object.
    """
    if not file.is_file():
        return {}
    try:
        found = parse_json(file.read_bytes())
    except ValueError as error:
        raise UsageError(f"{file} is damaged: {first_line(error)}") from error
    if not isinstance(found, dict):
        raise UsageError(f"{file} is damaged: it is no JSON object.")
    return found


def first_line(error: BaseException) -> str:
    """What an error says, as the end of a sentence; its kind where it says nothing.

    >>> first_line(KeyError("hidden_size"))
    "KeyError: 'hidden_size'."
    """
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    said = said if len(said) <= LONGEST else f"{said[:LONGEST]} [...]"
    if isinstance(error, KeyError | AttributeError | IndexError | AssertionError) or not said:
        said = f"{type(error).__name__}: {said}".rstrip(": ")
    return said if said.endswith(".") else f"{said}."
