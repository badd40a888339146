"""The command line is a promise: this fails when a command or an option changes unannounced.

After a change that is meant:  python tests/test_cli_surface.py
"""

from pathlib import Path

import typer

from lmtasks.cli.main import app

GOLDEN = Path(__file__).parent / "cli_surface.txt"


def surface() -> str:
    """One line for each command, then one for each of its parameters."""
    lines = []
    for name, command in sorted(typer.main.get_command(app).commands.items()):  # type: ignore[attr-defined]
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
    for command in typer.main.get_command(app).commands.values():  # type: ignore[attr-defined]
        for parameter in command.params:
            for option in parameter.opts:
                said.setdefault(option, set()).add(str(getattr(parameter, "help", "")))
    shared = ("--tasks", "--data-root", "--offline", "--token", "--trust-code", "--threads", "--batch-size", "--limit")
    assert {option: len(said[option]) for option in shared} == dict.fromkeys(shared, 1)


if __name__ == "__main__":
    GOLDEN.write_text(surface(), encoding="utf-8")
