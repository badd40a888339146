"""The command line is a promise: this fails when a command or an option changes unannounced.

After a change that is meant:  python tests/test_cli_surface.py
"""

import importlib
import inspect
from pathlib import Path

from lmtasks.cli.main import COMMANDS, load_command

GOLDEN = Path(__file__).parent / "cli_surface.txt"


def surface() -> str:
    """One line for each command, then one for each of its parameters."""
    lines = []
    for name in sorted(COMMANDS):
        command = load_command(name)
        lines.append(name)
        for parameter in command.params:
            names = "/".join((*parameter.opts, *parameter.secondary_opts))
            facts = [
                parameter.param_type_name,
                "required" if parameter.required else "",
                "repeatable" if parameter.multiple or parameter.nargs == -1 else "",
            ]
            lines.append(f"  {names:18} {' '.join(fact for fact in facts if fact)}")
    return "\n".join(lines) + "\n"


def test_commands_and_options_are_those_that_were_announced() -> None:
    assert surface() == GOLDEN.read_text(encoding="utf-8")


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
    GOLDEN.write_text(surface(), encoding="utf-8")
