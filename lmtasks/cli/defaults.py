"""Defaults of options from a file: `lmtasks.toml`, or `[tool.lmtasks]` of pyproject.toml, in the folder that one stands
in or the nearest one above it.

    data_root = "/data/hub"      # of every command that has --data-root
    threads = 2
    [eval]                       # of one command
    sample = 500

The command line has the last word. What a file sets is told, and stands in the command that a page is repeated by.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lmtasks.errors import UsageError, unknown

if TYPE_CHECKING:
    from typer.core import TyperCommand

FILE, PYPROJECT = "lmtasks.toml", "pyproject.toml"
SECRET = "token"


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """Options that a file sets."""

    file: Path
    content: Mapping[str, object]

    def of(self, command: str, *, load: Callable[[str], TyperCommand], commands: Iterable[str]) -> dict[str, object]:
        """Parameter of a command to its value.

        Raises:
            UsageError: a key that no command has, or one of a section that its command has not.
        """
        names = list(commands)
        own = _parameters(load(command))
        found: dict[str, object] = {}
        for key, value in self._general(names):
            if key in own:
                found[own[key]] = self._value(key, value)
            elif not any(key in _parameters(load(name)) for name in names):
                everywhere = {option for name in names for option in _parameters(load(name))}
                raise unknown(f"key of {self.file}:", key, {*everywhere, *names})
        for name in names:
            section = self.content.get(name)
            if not isinstance(section, Mapping):
                continue
            known = own if name == command else _parameters(load(name))
            for key, value in section.items():
                option = key.replace("_", "-")
                if option not in known:
                    raise unknown(f"key of [{name}] in {self.file}:", key, known)
                if name == command:
                    found[known[option]] = self._value(option, value)
        return found

    def _general(self, commands: Iterable[str]) -> Iterator[tuple[str, object]]:
        for key, value in self.content.items():
            if not isinstance(value, Mapping):
                yield key.replace("_", "-"), value
            elif key not in commands:
                raise unknown(f"section of {self.file}:", key, commands)

    def _value(self, option: str, value: object) -> object:
        if option == SECRET:
            raise UsageError(f"{self.file} has a token, which is a secret; set HF_TOKEN instead, or `hf auth login`.")
        if isinstance(value, list):
            return [str(each) for each in value]
        if not isinstance(value, str | int | float | bool):
            raise UsageError(f"{self.file}: {option} must be a text, a number, true, false or a list of them.")
        return value if isinstance(value, bool) else str(value)


def find_defaults(start: Path) -> Defaults | None:
    """The file that counts for a folder; None: there is none.

    Raises:
        UsageError: it is no TOML.
    """
    for folder in (start, *start.parents):
        for file in (folder / FILE, folder / PYPROJECT):
            if not file.is_file():
                continue
            try:
                content: Mapping[str, object] = tomllib.loads(file.read_text(encoding="utf-8"))
            except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
                if file.name == PYPROJECT:
                    continue  # another tool's business
                raise UsageError(f"{file} is no TOML: {error}.") from None
            if file.name == PYPROJECT:
                tool = content.get("tool")
                section = tool.get("lmtasks") if isinstance(tool, Mapping) else None
                if not isinstance(section, Mapping):
                    continue
                content = section
            return Defaults(file=file, content=content)
    return None


def _parameters(command: TyperCommand) -> Mapping[str, str]:
    """Option without its dashes, to the parameter."""
    return {
        option.removeprefix("--"): str(each.name)
        for each in command.params
        for option in each.opts
        if option.startswith("--")
    }
