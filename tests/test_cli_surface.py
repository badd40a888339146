"""The command line, plans and task files are a promise: this fails when one changes and the documents do not.

After a change that is meant:  python tests/test_cli_surface.py
"""

import importlib
import inspect
import re
import sys
from pathlib import Path

import pytest

from lmtasks.cli.main import COMMANDS, load_command
from lmtasks.task.schema import TaskFile

DOCS = Path(__file__).parents[1] / "docs"
sys.path.insert(0, str(DOCS))

import make_tables  # noqa: E402  # lies with the pages that it makes

COMMANDS_PAGE = DOCS / "reference" / "commands.md"


@pytest.mark.parametrize("page", make_tables.pages(), ids=lambda page: page.relative_to(DOCS).as_posix())
def test_tables_of_the_documents_say_what_the_code_says(page: Path) -> None:
    """Options, keys of plans and task files, kinds, metrics, baselines: an unannounced change of one fails here."""
    text = page.read_text(encoding="utf-8")
    assert text == make_tables.renewed(text), "renew it: python tests/test_cli_surface.py"


@pytest.mark.parametrize("page", make_tables.pages(), ids=lambda page: page.relative_to(DOCS).as_posix())
def test_every_line_of_the_tables_says_what_it_is(page: Path) -> None:
    rows = re.findall(r"^\| (`[^|]+`) \|(.*)\|$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows or page.name == "export.md"  # a list, no table
    assert [name for name, cells in rows if not re.search(r"\w{2}", cells.replace("*needed*", ""))] == []


def test_the_tables_have_every_command_option_and_key() -> None:
    """Counted by another way than the one that makes them."""
    text = COMMANDS_PAGE.read_text(encoding="utf-8")
    assert re.findall(r"^## (\w+)$", text, re.MULTILINE) == list(COMMANDS)
    for name in COMMANDS:
        section = text.split(f"\n## {name}\n")[1].split("\n## ")[0]
        named = (
            each for parameter in load_command(name).params for each in (*parameter.opts, *parameter.secondary_opts)
        )
        cells = re.findall(r"^\| `(--[^`|]+)`", section, re.MULTILINE)
        assert {each for cell in cells for each in re.findall(r"--[\w-]+", cell)} == {x for x in named if x[0] == "-"}
    assert "None`" not in text  # an option with a value says what kind of value (metavar)
    keys = (DOCS / "reference" / "tasks.md").read_text(encoding="utf-8")
    assert all(f"| `{key}` |" in keys for key in TaskFile.model_fields)


def test_an_option_has_one_meaning_everywhere() -> None:
    """A shared option has the same words of help in every command, but for those that narrow it on purpose."""
    said: dict[str, set[str]] = {}
    for command in map(load_command, COMMANDS):
        for parameter in command.params:
            for option in parameter.opts:
                said.setdefault(option, set()).add(str(getattr(parameter, "help", "")))
    shared = ("--tasks", "--data-root", "--offline", "--token", "--trust-code", "--threads", "--batch-size", "--limit")
    assert {option: len(said[option]) for option in shared} == dict.fromkeys(shared, 1)


def test_a_command_and_the_list_of_commands_say_the_same() -> None:
    """The list stands in a table of its own, so that it loads no settings."""
    for name, told in COMMANDS.items():
        assert str(load_command(name).help).splitlines()[0] == told


def test_no_command_function_writes_its_options_out() -> None:
    """They derive from settings, where an option has its bound, default, unit and help once."""
    signature = inspect.signature(importlib.import_module("lmtasks.cli.eval").command)
    assert len(signature.parameters) <= 14 < len(load_command("eval").params)


if __name__ == "__main__":
    make_tables.renew()
